"""Files of a run: whole, locked, and read with care."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import tfp_flows
from tfp_flows import flows
from tfp_flows.command import files

UNREADABLE = "is damaged, of another version, or no model file"


@pytest.fixture(scope="module")
def model():
    return tfp_flows.FlowModel(flows.real_nvp((2,), layers=2, width=4, seed=0))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    files.save_model(model, path)
    return path


# Writing.


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text("before")
    with pytest.raises(OSError, match="full"), files.replacing(path) as partial:
        partial.write_text("aft")
        raise OSError("full")
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["settings.json"]
    with files.replacing(path) as partial:
        partial.write_text("after")
        assert path.read_text() == "before" and partial.suffix == path.suffix
    assert path.read_text() == "after"
    assert [p.name for p in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError("No space left")]
)
def test_what_cannot_be_written_is_named(error, tmp_path):
    with (
        pytest.raises(OSError, match=r"No space left.*") as caught,
        files.replacing(tmp_path / "report.json") as partial,
    ):
        partial.write_text("{")
        raise error
    assert "report.json" in str(caught.value)
    assert caught.value.errno == error.errno
    assert list(tmp_path.iterdir()) == []


def test_json_knows_no_nan(tmp_path):
    content = {"a": math.nan, "b": [1.5, -math.inf, {"c": math.inf}], "d": "NaN"}
    files.write_json(tmp_path / "x.json", content)

    def refuse(name):
        raise AssertionError(name)

    text = (tmp_path / "x.json").read_text()
    found = json.loads(text, parse_constant=refuse)
    assert found == {"a": None, "b": [1.5, None, {"c": None}], "d": "NaN"}


def test_how_far_an_epoch_is_lies_in_the_file_of_the_model(model, saved, tmp_path):
    assert files.read_progress(saved) is None
    progress = {"done": 3, "metrics": {"nll": [1 / 3, 5.0]}}
    files.save_model(model, tmp_path / "last.keras", progress)
    assert files.read_progress(tmp_path / "last.keras") == progress
    loaded = files.load_model(tmp_path / "last.keras")
    for a, b in zip(loaded.variables, model.variables, strict=True):
        np.testing.assert_array_equal(a, b)


# The directory.


def test_the_directory(tmp_path):
    files.check_directory(tmp_path / "new", resume=False, overwrite=False)
    files.check_directory(tmp_path, resume=False, overwrite=False)
    (tmp_path / "file").write_text("")
    for resume, overwrite in ((True, False), (False, True)):
        files.check_directory(tmp_path, resume=resume, overwrite=overwrite)
    with pytest.raises(FileExistsError, match="not empty"):
        files.check_directory(tmp_path, resume=False, overwrite=False)
    with pytest.raises(FileExistsError, match="is a file"):
        files.check_directory(tmp_path / "file", resume=True, overwrite=False)
    with pytest.raises(ValueError, match="exclude each other"):
        files.check_directory(tmp_path, resume=True, overwrite=True)


def test_one_process_at_a_time(tmp_path):
    with files.locked(tmp_path / "run"):
        message = rf"run is in use: process {os.getpid()} on \S+ trains there"
        with (
            pytest.raises(BlockingIOError, match=message),
            files.locked(tmp_path / "run"),
        ):
            pass
        # The lock is no part of what a run writes.
        files.check_directory(tmp_path / "run", resume=False, overwrite=False)
    assert list((tmp_path / "run").iterdir()) == []
    with files.locked(tmp_path / "run"):
        pass


def test_the_lock_of_a_dead_process_is_none(tmp_path):
    code = (
        "import fcntl, os, sys; f = open(sys.argv[1], 'w');"
        "fcntl.flock(f, fcntl.LOCK_EX); f.write('process 1'); f.flush();"
        "print(flush=True); input(); os._exit(9)"
    )
    path = tmp_path / ".lock"
    with subprocess.Popen(
        [sys.executable, "-c", code, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        with (
            pytest.raises(BlockingIOError, match="process 1 trains there"),
            files.locked(tmp_path),
        ):
            pass
        process.communicate("\n")
    assert process.returncode == 9 and path.exists()
    with files.locked(tmp_path):
        assert str(os.getpid()) in path.read_text()


# Settings and history.


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        '{"data": "moons"}',
        '{"x": 1}',
        '{"data": 1, "flow": "nice"}',
        '{"data": "moons", "flow": "nice", "epochs": "3"}',
        '{"data": "moons", "flow": "nice", "batch_size": 0}',
        '{"data": "moons", "flow": "nice", "learning_rate": null}',
        '{"data": "moons", "flow": "nice", "flow_options": [1]}',
        '{"data": "moons", "flow": "nice", "fingerprint": 1}',
        '{"data": "moons", "flow": "nice", "jit": "yes"}',
        '{"data": "moons", "flow": "nice", "validation": 1.0}',
    ],
)
def test_damaged_settings(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match=r"settings\.json is damaged"):
        files.read_settings(tmp_path)


def written(path, rows):
    history = files.History(path)
    for epoch in range(rows):
        history.add(epoch, {"nll": 1 / (epoch + 1), "loss": 2.0})
    return history


def test_history(tmp_path):
    path = tmp_path / "history.csv"
    assert files.History(path).columns() == {"epoch": []}
    history = written(path, 3)
    expected = {"epoch": [0, 1, 2], "loss": [2.0] * 3, "nll": [1.0, 0.5, 1 / 3]}
    assert history.columns() == files.History(path).columns() == expected
    history.keep(1)
    history.add(1, {"nll": 0.25, "loss": 1.0})
    assert files.History(path).columns()["nll"] == [1.0, 0.25]
    assert path.read_text() == "epoch,loss,nll\n0,2.0,1.0\n1,1.0,0.25\n"


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (lambda text: text + "\n\n", 3),
        (lambda text: text.replace("\n1,", "\n\n1,"), 3),
        (lambda text: text + "3,2.", 3),
        (lambda text: text[:-8], 2),
        (lambda text: text[:8], 0),
        (lambda text: text + "3,2.0,1.0,7\n", 3),
        (lambda text: text + "3,2.0,x\n4,2.0,1.0\n", 3),
        (lambda text: "", 0),
        (lambda text: "no history", 0),
    ],
)
def test_a_history_ends_where_it_is_torn(tmp_path, change, rows):
    path = tmp_path / "history.csv"
    written(path, 3)
    path.write_text(change(path.read_text()))
    history = files.History(path)
    assert history.columns()["epoch"] == list(range(rows))
    # The next row is one of its own.
    history.add(rows, {"nll": 0.0, "loss": 0.0})
    assert files.History(path).columns()["nll"][-1] == 0.0
    assert files.History(path).columns()["epoch"] == list(range(rows + 1))


# Models.


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "no whole .keras archive"),
        (lambda data: data[:-1], "no whole .keras archive"),
        (lambda data: b"", "no whole .keras archive"),
        (lambda data: b"hello", "no whole .keras archive"),
        (
            lambda data: data.replace(b"HDF", b"HDG", 1),
            r"checksum of its part model\.weights\.h5",
        ),
        (
            lambda data: data.replace(b'"class_name"', b'"class_mane"', 1),
            r"checksum of its part config\.json",
        ),
    ],
    ids=["cut", "last byte", "empty", "text", "weights", "config"],
)
def test_damaged_models(saved, tmp_path, damage, message):
    path = tmp_path / "model.keras"
    path.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(ValueError, match=rf"{UNREADABLE}: .*{message}"):
        files.load_model(path)


def test_every_flipped_bit_is_noticed_or_harmless(saved, model, tmp_path):
    data = saved.read_bytes()
    draw, noticed = np.random.default_rng(0), 0
    path = tmp_path / "model.keras"
    for place in draw.integers(len(data), size=30):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(draw.integers(8))
        path.write_bytes(flipped)
        try:
            loaded = files.load_model(path)
        except ValueError:
            noticed += 1
            continue
        for a, b in zip(loaded.variables, model.variables, strict=True):
            np.testing.assert_array_equal(a, b)
    assert noticed > 20


def test_an_archive_that_unfolds_to_far_more(saved, tmp_path):
    path = tmp_path / "model.keras"
    shutil.copy(saved, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(2**24))
    with pytest.raises(ValueError, match="would unfold to"):
        files.load_model(path)


def test_other_things_than_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no model"):
        files.load_model(tmp_path)
    foreign = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    foreign.save(tmp_path / "foreign.keras")
    with pytest.raises(ValueError, match="holds a Sequential"):
        files.load_model(tmp_path / "foreign.keras")
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=UNREADABLE):
        files.load_model(tmp_path)


def test_a_strangers_file_runs_no_code(saved, tmp_path):
    """Of a model's configuration, whatever stands for code."""
    marker = tmp_path / "ran"
    call = f"open({str(marker)!r}, 'w').close()"
    code = compile(call, "x", "eval")
    import base64
    import marshal

    function = base64.b64encode(marshal.dumps(code)).decode()
    layers = [
        {"class_name": "__lambda__", "config": {"value": function}},
        {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": {
                "name": "x",
                "function": {
                    "class_name": "__lambda__",
                    "config": {"code": function, "defaults": None, "closure": None},
                },
            },
        },
        {"module": "os", "class_name": "system", "config": {"command": "true"}},
        {
            "module": "builtins",
            "class_name": "function",
            "config": "exec",
            "registered_name": "function",
        },
    ]
    path = tmp_path / "model.keras"
    for layer in layers:
        with zipfile.ZipFile(saved) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        config = json.loads(parts["config.json"])
        config["config"]["flow"].update(context_shape=[2], context_encoder=layer)
        parts["config.json"] = json.dumps(config)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        with pytest.raises(ValueError, match=UNREADABLE):
            files.load_model(path)
        assert not marker.exists()
