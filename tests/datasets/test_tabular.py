"""The tables of papers, made of small files in the format of the raw ones."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from tests.command.support import call
from tfp_flows.datasets import load, tabular

ROWS = 200
POWER = "household_power_consumption.txt"
POWER_HEADER = (
    "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
    "Sub_metering_1;Sub_metering_2;Sub_metering_3\n"
)
GAS_HEADER = (
    "Time (seconds), CO conc (ppm), Ethylene conc (ppm), sensor readings (16 channels)"
    "\n"
)

pytestmark = pytest.mark.filterwarnings("ignore:.*were published")


@pytest.fixture(autouse=True)
def no_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("TFP_FLOWS_DATA_DIR", str(tmp_path))


def made(name, data_dir=None):
    """Rows of the three splits one after another, their sizes, and the columns."""
    source = load(name, data_dir=data_dir)
    assert source.bounds is None and source.num_classes is None
    x = np.concatenate([source.arrays(split)[0] for split in source.sizes])
    assert x.dtype == np.float32 and x.shape[1:] == source.event_shape
    return x, tuple(source.sizes.values()), source.columns


def test_the_published_tables():
    assert {t.name: (*t.sizes, t.features) for t in tabular.TABLES.values()} == {
        "power": (1_659_917, 184_435, 204_928, 6),
        "gas": (852_174, 94_685, 105_206, 8),
        "hepmass": (315_123, 35_013, 174_987, 21),
        "miniboone": (29_556, 3_284, 3_648, 43),
        "bsds300": (1_000_000, 50_000, 250_000, 63),
    }


@pytest.mark.parametrize(
    ("rows", "name"),
    # Complete rows of the file, a quarter of it, and its signals but for outliers.
    [(2_049_280, "power"), (round(4_208_261 / 4), "gas"), (36_499 - 11, "miniboone")],
)
def test_tenths_give_the_published_sizes(rows, name):
    assert (
        tuple(map(len, tabular._tenths(np.empty(rows)))) == tabular.TABLES[name].sizes
    )


# POWER.


def power_rows():
    """Numbers as they are in the file, and its lines, some without values."""
    rng = np.random.default_rng(0)
    x = np.stack(
        [
            rng.integers(100, 9000, ROWS) / 1000,  # active power
            rng.integers(0, 500, ROWS) / 1000,  # reactive power
            rng.integers(22300, 25400, ROWS) / 100,  # voltage
            rng.integers(2, 400, ROWS) / 10,  # intensity
            *rng.integers(0, 40, (3, ROWS)),
        ],
        1,
    )
    minutes = rng.integers(0, 1440, ROWS)
    lines = [
        f"16/12/2006;{m // 60:02}:{m % 60:02}:00;"
        f"{a:.3f};{r:.3f};{v:.3f};{i:.3f};{s1:.3f};{s2:.3f};{s3:.3f}\n"
        for m, (a, r, v, i, s1, s2, s3) in zip(minutes, x, strict=True)
    ]
    lines.insert(3, "28/4/2007;00:21:00;?;?;?;?;?;?;\n")
    lines.insert(70, "28/4/2007;00:22:00;;;;;;;\n")
    return np.column_stack([x[:, [0, 2, 4, 5, 6]], minutes]), POWER_HEADER + "".join(
        lines
    )


def test_power(tmp_path):
    stored, text = power_rows()
    (tmp_path / POWER).write_text(text)
    x, sizes, columns = made("power")
    assert sizes == (162, 18, 20)
    assert columns == (
        "Global_active_power",
        "Voltage",
        "Sub_metering_1",
        "Sub_metering_2",
        "Sub_metering_3",
        "Minute",
    )
    # In units of train and validation together.
    np.testing.assert_allclose(x[:180].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x[:180].std(0), 1, atol=1e-5)
    # The authors' order: `shuffle` by this seed, of the rows themselves.
    rng = np.random.RandomState(42)
    rng.shuffle(stored)
    voltage, active, meters = (rng.rand(ROWS, k) for k in (1, 1, 3))
    noise = np.column_stack([0.001 * active, 0.01 * voltage, meters])
    for j in range(5):
        noisy = stored[:, j] + noise[:, j]
        noisy = (noisy - noisy[:180].mean()) / noisy[:180].std()
        np.testing.assert_allclose(x[:, j], noisy, atol=1e-5)
    # The minute's noise is from [0, 1) as well: the affine map that stays fits.
    fit = np.polynomial.Polynomial.fit(x[:, 5], stored[:, 5], 1)
    rest = stored[:, 5] - fit(x[:, 5])
    assert 0.2 < rest.std() < 0.4 and np.ptp(rest) < 1.01
    assert len(np.unique(x[:, 5])) == ROWS


# GAS.


def gas_rows():
    """Eight pairs of sensors that are almost alike, each of two columns."""
    rng = np.random.default_rng(1)
    x = np.repeat(rng.normal(size=(4 * ROWS, 8)), 2, axis=1) * 30
    x[:, 1::2] += rng.normal(size=(4 * ROWS, 8))
    x = np.round(x, 2)
    lines = [
        f"{i / 100:.2f}    0.00    0.00    " + "    ".join(f"{v:.2f}" for v in row)
        for i, row in enumerate(x)
    ]
    return x, GAS_HEADER + "\n".join(lines) + "\n"


def test_gas(tmp_path):
    stored, text = gas_rows()
    with zipfile.ZipFile(tmp_path / "gas+sensor+array.zip", "w") as archive:
        archive.writestr("data/ethylene_methane.txt", GAS_HEADER)
        archive.writestr("data/ethylene_CO.txt", text)
    x, sizes, columns = made("gas")
    # A quarter, at random; the second of each pair is left, as the first goes.
    assert sizes == (162, 18, 20)
    assert columns == tuple(f"sensor_{i}" for i in range(2, 17, 2))
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(0, ddof=1), 1, atol=1e-5)
    kept = stored[:, 1::2]
    chosen = [np.abs(row - kept).sum(1).argmin() for row in restored(x, kept)]
    assert len(set(chosen)) == ROWS and np.diff(chosen).min() < 0
    assert np.ptp(chosen) > 3 * ROWS


def restored(x, stored):
    """Undoes standardisation, nearly: the quarter's is not that of all rows."""
    return x * stored.std(0) + stored.mean(0)


def test_the_columns_of_gas_that_go():
    # The first two are alike, and the second and third.
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 4000))
    x = np.stack([a, a + 0.14 * b, a + 0.28 * b, b], 1)
    # The second goes for the third, though it had a like in the first, which went.
    assert tabular._unlike(x).tolist() == [False, False, True, True]
    # From the other side, the first goes for the second, and the rest are not alike.
    x = x[:, [1, 0, 2, 3]]
    assert tabular._unlike(x).tolist() == [False, True, True, True]


# HEPMASS.


def hepmass_file(rows, seed, extra):
    """Labels, 27 features of which two repeat, and for the test file a column more."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 27))
    x[:, 5] = rng.integers(0, 3, rows)
    # Here only the largest value repeats, so the column stays.
    x[:, 8] = np.minimum(x[:, 8], 0)
    x[:, 9] = np.maximum(x[:, 9], 0)
    labels = rng.integers(0, 2, rows)
    names = ["# label", *(f"f{i}" for i in range(27)), *(["mass"] if extra else [])]
    columns = [labels, *x.T, *([np.full(rows, 1000.0)] if extra else [])]
    lines = [",".join(f"{v:.18e}" for v in row) for row in zip(*columns, strict=True)]
    return x[labels == 1], ",".join(names) + "\n" + "\n".join(lines) + "\n"


def test_hepmass(tmp_path):
    train, text = hepmass_file(400, 3, False)
    test, more = hepmass_file(160, 4, True)
    with zipfile.ZipFile(tmp_path / "hepmass.zip", "w") as archive:
        archive.writestr("1000_train.csv.gz", gzip.compress(text.encode()))
        archive.writestr("1000_test.csv.gz", gzip.compress(more.encode()))
    x, sizes, columns = made("hepmass")
    validation = int(0.1 * len(train))
    assert sizes == (len(train) - validation, validation, len(test))
    kept = [i for i in range(27) if i not in (5, 9)]
    assert columns == tuple(f"f{i}" for i in kept)
    both = np.concatenate([train, test])[:, kept]
    expected = (both - train[:, kept].mean(0)) / train[:, kept].std(0, ddof=1)
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)


def test_hepmass_is_the_first_tenth(tmp_path, monkeypatch):
    text = hepmass_file(400, 3, False)[1]
    more = hepmass_file(160, 4, True)[1]
    (tmp_path / "hepmass").mkdir()
    (tmp_path / "hepmass" / "1000_train.csv").write_text(text)
    (tmp_path / "hepmass" / "1000_test.csv").write_text(more)
    limits = {"1000_train.csv": 100, "1000_test.csv": 50}
    assert [10 * n for n in tabular._HEPMASS_ROWS.values()] == [7_000_000, 3_500_000]
    monkeypatch.setattr(tabular, "_HEPMASS_ROWS", limits)
    _, sizes, _ = made("hepmass")
    labels = [
        sum(line[0] == "1" for line in t.splitlines()[1 : 1 + n])
        for t, n in zip((text, more), limits.values(), strict=True)
    ]
    assert (sizes[0] + sizes[1], sizes[2]) == tuple(labels)


# MINIBOONE.


def miniboone_rows():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(ROWS + 3, 50))
    x[:, 7] = np.maximum(x[:, 7], 0)
    x[[10, 20, 202]] = -999.0
    background = rng.normal(size=(30, 50)) + 50
    lines = [
        " ".join(f"{v: .6E}" for v in row) for row in np.concatenate([x, background])
    ]
    return x, f"   {len(x)}  30\n" + "\n".join(lines) + "\n"


def test_miniboone(tmp_path):
    stored, text = miniboone_rows()
    with gzip.open(tmp_path / "MiniBooNE_PID.txt.gz", "wt") as file:
        file.write(text)
    x, sizes, columns = made("miniboone")
    assert sizes == (162, 18, 20)
    assert columns == tuple(f"pid_{i}" for i in range(50) if i != 7)
    kept = np.delete(np.delete(stored, [10, 20, 202], 0), 7, 1)
    expected = (kept - kept[:180].mean(0)) / kept[:180].std(0)
    np.testing.assert_allclose(x, expected, atol=1e-4)


# BSDS300.


def pictures(count, seed):
    """Natural enough: smooth, upright or not."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(count, 40, 52)).cumsum(1).cumsum(2)
    x = np.clip(128 + steps, 0, 255).astype(np.uint8)
    return [image.T if i % 3 == 0 else image for i, image in enumerate(x)]


def test_patches():
    image = np.arange(12 * 20).reshape(12, 20).astype(np.uint8)
    x = tabular._patches([image], 3000, seed=0)
    assert x.shape == (3000, 63) and x.dtype == np.float32
    # The pixel that was left out makes the sum 0.
    whole = np.concatenate([x, -x.sum(1, keepdims=True)], 1).reshape(-1, 8, 8)
    differences = np.diff(whole, axis=2) * 256
    inside = np.abs(differences - 1).max((1, 2)) < 1
    # Patches that hold 255 beside 0 there are none: all go up by 1 and noise.
    assert inside.all()
    np.testing.assert_allclose(differences.mean(), 1, atol=0.01)
    np.testing.assert_allclose(differences.std(), np.sqrt(1 / 6), atol=0.01)
    # Patches come from everywhere, and no noise is twice the same.
    assert len(np.unique(x[:, 0])) > 2900
    np.testing.assert_array_equal(x, tabular._patches([image], 3000, seed=0))
    assert (x != tabular._patches([image], 3000, seed=1)).any()


def test_patches_are_from_everywhere():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (9, 10), np.uint8), np.zeros((8, 8), np.uint8)]
    windows = np.lib.stride_tricks.sliding_window_view(images[0], (8, 8))
    flat = [*windows.reshape(-1, 64).astype(float), np.zeros(64)]
    flat = np.array([(w - w.mean())[:63] / 256 for w in flat])
    x = tabular._patches(images, 6000, seed=0)
    nearest = np.abs(x[:, None] - flat).mean(2).argmin(1)
    # Each of two images is as likely, and so is each of six places in the first.
    share = np.bincount(nearest) / len(x)
    np.testing.assert_allclose(share, [1 / 12] * 6 + [1 / 2], atol=0.015)


@pytest.mark.parametrize("kind", ["npz", "folder", "tgz"])
def test_bsds300(tmp_path, monkeypatch, kind):
    from PIL import Image

    monkeypatch.setattr(tabular, "_PATCHES", (300, 40, 50))
    images = {"train": pictures(20, 6), "test": pictures(5, 7)}
    if kind == "npz":
        arrays = {}
        for split, found in images.items():
            turned = np.array([x.shape != (40, 52) for x in found])
            stored = [x.T if t else x for x, t in zip(found, turned, strict=True)]
            arrays |= {split: np.stack(stored), f"{split}_transposed": turned}
        np.savez(tmp_path / "bsds300_gray.npz", **arrays)
    folder = tmp_path / "BSDS300" / "images"
    for split, found in images.items():
        (folder / split).mkdir(parents=True)
        for i, x in enumerate(found):
            # Numbers, of which the order is not that of the text.
            name = f"{9 + i}.jpg"
            file = io.BytesIO()
            # Lossless, whatever the ending says; colours that are grey.
            Image.fromarray(np.stack([x] * 3, -1)).save(file, "png")
            (folder / split / name).write_bytes(file.getvalue())
    if kind == "tgz":
        with tarfile.open(tmp_path / "BSDS300-images.tgz", "w:gz") as archive:
            archive.add(tmp_path / "BSDS300", "BSDS300")
        (tmp_path / "BSDS300").rename(tmp_path / "other")
    with pytest.warns(UserWarning, match="20 and 5 images, but 200 and 100"):
        source = load("bsds300")
    assert source.event_shape == (63,) and len(source.columns) == 63
    assert source.sizes == {"train": 300, "validation": 40, "test": 50}
    contrast = [
        np.abs(x[:, 1:] - x[:, :-1].astype(float)).mean() for x in images["train"]
    ]
    held_out = np.argsort(contrast)[[5, 15]]
    for seed, (split, chosen) in enumerate(
        {
            "train": [x for i, x in enumerate(images["train"]) if i not in held_out],
            "validation": [images["train"][i] for i in held_out],
            "test": images["test"],
        }.items()
    ):
        x = tabular._patches(chosen, source.sizes[split], seed)
        np.testing.assert_array_equal(source.arrays(split)[0], x)


def test_the_prepared_file_of_bsds300(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 63)).astype(np.float32)
    with h5py.File(tmp_path / "BSDS300.hdf5", "w") as file:
        file["train"], file["validation"], file["test"] = x[:30], x[30:40], x[40:]
    found, sizes, _ = made("bsds300")
    np.testing.assert_array_equal(found, x)
    assert sizes == (30, 10, 20)


# Mistakes.


@pytest.mark.parametrize("name", tabular.TABLES)
def test_what_is_missing_and_where_it_is(name, tmp_path):
    table = tabular.TABLES[name]
    with pytest.raises(FileNotFoundError) as caught:
        load(name)
    message = str(caught.value)
    assert table.files[0] in message and table.address in message
    assert str(tmp_path / "downloads" / "manual" / name) in message
    assert "TFP_FLOWS_DATA_DIR" in message and "--data-dir" in message


def test_which_folder(tmp_path, monkeypatch):
    text = power_rows()[1]
    for folder in ("env", "tfds/downloads/manual", "given/power"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / POWER).write_text(text)
    expected = load("power", data_dir=tmp_path / "given").fingerprint()
    for variable, folder in (("TFDS_DATA_DIR", "tfds"), ("TFP_FLOWS_DATA_DIR", "env")):
        monkeypatch.delenv("TFP_FLOWS_DATA_DIR", raising=False)
        monkeypatch.setenv(variable, str(tmp_path / folder))
        assert load("power").fingerprint() == expected
    # What is named goes before the environment.
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "nowhere"))):
        load("power", data_dir=tmp_path / "nowhere")


@pytest.mark.filterwarnings("default:.*were published")
def test_sizes_that_were_not_published(tmp_path):
    (tmp_path / POWER).write_text(power_rows()[1])
    with pytest.warns(
        UserWarning,
        match=r"162 / 18 / 20 / 6 rows .*1,659,917 / 184,435 / 204,928 / 6 were publ",
    ):
        load("power")


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("power", POWER, "a,b\n1,2\n", "its first line should begin with 'Date;Time"),
        ("power", POWER, POWER_HEADER, "0 rows that can be used"),
        ("power", POWER, POWER_HEADER + "1;17:2;3;4;5;6;7;8;9\n", "is not the file of"),
        ("power", POWER, POWER_HEADER + "16/12/2006;17:24:00;4\n", "is not the file"),
        ("gas", "ethylene_CO.txt", "0 0 0 1 2\n", "should begin with 'Time (seconds)'"),
        ("gas", "ethylene_CO.txt", GAS_HEADER + "0 0 0 1\n" * 30, "is not the file of"),
        ("hepmass", "1000_train.csv", "f0,f1\n1,2\n", "should begin with '# label'"),
        ("miniboone", "MiniBooNE_PID.txt", "1 2 3\n", "should be the numbers of sign"),
        ("miniboone", "MiniBooNE_PID.txt", "", "should be the numbers of signals"),
    ],
)
def test_another_file_of_that_name(name, file, text, message, tmp_path):
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        load(name)


def test_damaged_and_hostile_files(tmp_path):
    (tmp_path / f"{POWER}.gz").write_bytes(gzip.compress(b"x" * 10**5)[:-9])
    with pytest.raises(ValueError, match="A raw file of power is damaged"):
        load("power")
    (tmp_path / "hepmass.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="A raw file of hepmass is damaged"):
        load("hepmass")
    # The authors' file of GAS is a pickle, which is never read.
    (tmp_path / "gas").mkdir()
    (tmp_path / "gas" / "ethylene_CO.pickle").write_bytes(b"\x80")
    with pytest.raises(ValueError, match="A raw file of gas is damaged"):
        load("gas")
    (tmp_path / "hepmass.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r"gas needs ethylene_CO\.txt"):
        load("gas")
    np.savez(tmp_path / "bsds300_gray.npz", train=np.array([{}]), test=[1])
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load("bsds300")
    np.savez(tmp_path / "bsds300_gray.npz", x=pictures(3, 0)[1:])
    with pytest.raises(ValueError, match="raw file of bsds300 is damaged, or another"):
        load("bsds300")
    np.savez(tmp_path / "bsds300_gray.npz", train=pictures(3, 0)[1:], test=[])
    with pytest.raises(ValueError, match="needs images to train and to test, found 2"):
        load("bsds300")


def test_a_name_that_is_none():
    with pytest.raises(ValueError, match="name must be one of power, gas, hepmass"):
        tabular.load_table("moons")
    with pytest.raises(ValueError, match=r"Did you mean miniboone\?"):
        load("minibone")


def test_the_command_line_says_what_is_missing(tmp_path, capsys):
    code = call("train", "gas", "--flow", "maf", "--data-dir", tmp_path / "nowhere")
    assert code == 2
    error = capsys.readouterr().err
    assert "gas needs ethylene_CO.txt" in error and "nowhere" in error
    assert len(error.splitlines()) == 1


@pytest.mark.slow
def test_the_command_line_trains_on_a_table(tmp_path, capsys, monkeypatch):
    (tmp_path / POWER).write_text(power_rows()[1])
    monkeypatch.chdir(tmp_path)
    code = call(
        *("train", "power", "--flow", "maf", "--epochs", 2, "--layers", 2),
        *("--width", 8, "--verbose", 0, "--data-dir", tmp_path),
    )
    out, error = capsys.readouterr()
    assert code == 0 or "far below a Gaussian" in error
    assert "a Gaussian has" in out and "a mixture of" in out
    assert call("evaluate", "runs/power-maf") == 0
