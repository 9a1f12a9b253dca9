"""The benchmarks run at tiny sizes, and their tables say what was measured."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support import perturb
from tfp_flows import FlowModel, flows
from tfp_flows.core.repeat import unrolled
from tfp_flows.training import FusedAdam

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """A function that imports a script of the folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def cells(text: str, label: str) -> list[str]:
    """The row of a Markdown table that starts with `label`."""
    found = [row for row in text.splitlines() if row.startswith(f"| {label} |")]
    assert len(found) == 1, (label, text)
    return [cell.strip() for cell in found[0].strip("|").split("|")]


@pytest.mark.slow
def test_speed_in_processes_of_their_own(tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n")
    broken.chmod(0o755)
    kept = json.loads((BENCHMARKS / "results" / "speed.json").read_text())
    before = {**kept["nice"], "title": "NICE: an older one"}
    (tmp_path / "speed.json").write_text(json.dumps({"nice": before}))
    command = [sys.executable, str(BENCHMARKS / "speed.py"), "--quick"]
    command += ["--workloads", "real_nvp", "--output", str(tmp_path)]
    command += ["--libraries", "bare", "tfp_flows", "tfp", "zuko"]
    run = subprocess.run(
        [*command, "--interpreter", f"zuko={broken}"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    text = (tmp_path / "speed.md").read_text()
    assert run.stdout.strip() in text and "## NICE: an older one" in text
    results = json.loads((tmp_path / "speed.json").read_text())
    # What was measured before stays.
    assert results["nice"] == before
    rows = results["real_nvp"]["rows"]
    # Two couplings of 3 entries: networks 3-8-8-6.
    parameters = 2 * (3 * 8 + 8 + 8 * 8 + 8 + 8 * 6 + 6)
    for name, label in (
        ("bare", "bare networks"),
        ("tfp_flows", "tfp_flows"),
        ("tfp", "TFP"),
    ):
        row = rows[name]
        assert row["parameters"] == parameters
        assert row["errors"] == {}
        assert [len(s) for s in row["seconds"].values()] == [1, 1, 1]
        assert all(s > 0 for s in row["first"].values())
        assert row["memory"] >= 0
        assert row["versions"]["tensorflow"] == tf.__version__
        assert cells(run.stdout, label)[12] == f"{parameters:,}"
    assert rows["bare"]["round_trip"] is None
    # Not the identity, whose error would be none.
    assert 1e-8 < rows["tfp_flows"]["round_trip"] < 1e-5
    assert 1e-8 < rows["tfp"]["round_trip"] < 1e-5
    assert cells(run.stdout, "tfp_flows")[3] == "1.00"
    assert "ended with code 3: no such luck" in cells(run.stdout, "zuko")[1]
    assert cells(text, "RealNVP")[3].endswith("(TFP)")


def measured(parameters, note="", **seconds):
    """A row as a worker reports it."""
    return {
        "parameters": parameters,
        "memory": 3e6,
        "first": {"train": 2.0},
        "steps": {"train": 1.0},
        "seconds": seconds,
        "round_trip": 1e-6,
        "errors": {},
        "note": note,
    }


def test_table(module):
    speed = module("speed")
    rows = {
        "bare": measured(1000, train=[1.0, 2.0, 4.0]),
        "tfp_flows": measured(1000, train=[4.0, 2.0, 5.0]),
        "nflows": measured(1100, train=[1.0, 8.0, 1.0], note="more biases"),
        "normflows": measured(1005, train=[1.0, 1.0, 1.0]),
        "zuko": {"missing": "no Glow"},
        "distrax": {"error": "OSError: gone"},
    }
    rows["nflows"]["errors"]["sample"] = "ValueError: no"
    text = speed.table("Title", rows)
    head = cells(text, "")
    assert len(head) == len(cells(text, "nflows"))
    # Ratios are medians of those within a round: 4, 1, 5/4, and 1, 4, 1/4.
    times = "4e+03 (3e+03 to 4.5e+03)"
    assert cells(text, "tfp_flows")[1:4] == [times, "1.25", "1.00"]
    assert cells(text, "nflows")[2:4] == ["1.00", "0.25"]
    assert cells(text, "nflows")[7:8] == ["fails"]
    assert cells(text, "normflows")[7:8] == ["-"]
    assert cells(text, "tfp_flows")[10:14] == ["2 / - / -", "3", "1,000", "1.0e-06"]
    # Half a percent is the same architecture, ten are not.
    assert cells(text, "normflows")[12] == "1,005 (~)"
    assert cells(text, "nflows")[12] == "1,100 (+10.0 %)"
    assert cells(text, "zuko")[1] == "no Glow"
    assert cells(text, "distrax")[1] == "fails: OSError: gone"
    assert "* nflows: more biases." in text
    assert "* nflows: sample fails, ValueError: no." in text


def test_summary_counts_xla_on_both_sides(module):
    speed = module("speed")
    rows = {
        "bare": measured(1000, train=[1.0], log_prob=[1.0]),
        "bare-xla": measured(1000, train=[0.1], log_prob=[0.1]),
        "tfp_flows": measured(1000, train=[2.0], log_prob=[2.0]),
        "tfp_flows-xla": measured(1000, train=[1.6], log_prob=[2.5]),
        "tfp_flows-fit": measured(1000, train=[0.1]),
        "tfp": measured(1000, train=[3.0], log_prob=[5.0]),
        "tfp-xla": measured(1000, train=[2.4], log_prob=[1.0]),
        "zuko": {"missing": "no Glow"},
    }
    line = speed.summary({"glow": {"title": "Glow: small", "rows": rows}}).splitlines()
    assert line[-1].split(" | ")[:8] == [
        "| Glow",
        "2e+03",
        "2.00",
        "1.50 (TFP (XLA); here XLA)",
        "2e+03",
        "2.00",
        "0.50 (TFP (XLA))",
        "-",
    ]


def test_arguments(module, capsys):
    speed = module("speed")
    python = sys.executable
    arguments = speed.parse(["--interpreter", f"zuko={python}", "--quick"])
    assert arguments.interpreters == {"zuko": python}
    assert (arguments.rounds, arguments.turn) == (1, 0.0)
    # Only what was measured with all libraries replaces the results.
    assert arguments.output is None
    assert speed.parse(["--workloads", "nice"]).output == BENCHMARKS / "results"
    assert speed.parse(["--libraries", "bare"]).output is None
    assert speed.parse([]).output == BENCHMARKS / "results"
    for wrong in ("zuko", f"torch={python}", "zuko=/no/such/python"):
        with pytest.raises(SystemExit):
            speed.parse(["--interpreter", wrong])
        assert "LIBRARY=PYTHON" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        speed.parse(["--rounds", "0"])


@pytest.mark.slow
def test_first_call(module):
    first_call = module("first_call")
    flow = flows.real_nvp((4,), layers=8, width=8, seed=0)
    parts, operations = first_call.measure(flow, tf.ones([2, 4]), FusedAdam)
    assert len(parts) == 4
    assert all(part > 0 for part in parts)
    with unrolled():
        _, more = first_call.measure(flow, tf.ones([2, 4]), keras.optimizers.Adam)
    assert more > 3 * operations


def test_operations(module, monkeypatch):
    operations = module("operations")
    x = tf.ones([300, 300])
    square = tf.function(lambda: tf.exp(x @ x + tf.random.normal([300, 300])))
    found = operations.durations(lambda: square().numpy())
    assert {"MatMul", "Exp"} <= found.keys()
    line = operations.row("square", {"MatMul": 6.0, "RandomNormal": 3.0, "Exp": 1.0})
    row = "| square | 10 | 6 (60%) | 3 (30%) |  | 1 (10%) | Exp 1 |"
    assert line == row
    # Threads are set for a process that begins.
    monkeypatch.setattr(module("libraries.on_tensorflow"), "set_threads", print)
    assert operations.products("real_nvp", "tensorflow", 0.01) > 0


@pytest.mark.slow
def test_gpu_on_a_cpu(module, monkeypatch):
    gpu = module("gpu")
    workload = module("libraries.workloads").QUICK["real_nvp"]
    row = gpu.measure(workload, {"recompute_gradients": True}, False, "CPU:0", 1)
    assert row["errors"] == {}
    assert "12 variables" in row["placement"]
    line = gpu.line("real_nvp", "recomputed", False, row)
    assert line.count("|") == 11
    assert 0 < row["round trip"] < 1e-5
    flow = module("libraries.tfp_flows").flow_of(workload)
    with pytest.raises(RuntimeError, match=r"are not on TPU:0: .* is on .*CPU:0"):
        gpu.placement(flow, tf.constant(workload.data()), "TPU:0")
    row = gpu.measure(workload, {"no_such_option": 1}, False, "CPU:0", 1)
    assert "no_such_option" in gpu.line("real_nvp", "none", False, row)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(SystemExit, match="no GPU"):
        gpu.main([])


@pytest.mark.slow
def test_transformers(module):
    transformers = module("transformers")
    name = "Bernstein"
    row = transformers.measure("moons", transformers.TRANSFORMERS[name], 40)
    assert 0 < row["kl"] < 2 and row["step"] > 0 and row["sample"] > 0
    text = transformers.table({name: dict.fromkeys(transformers.TOYS, row)})
    found = cells(text, f"`{name}`")
    assert found[1] == "9" and found[2] == found[3]
    assert found[2] == f"{row['kl']:.3f} ± {row['error']:.3f}"


@pytest.mark.slow
def test_categories(module):
    categories = module("categories")
    rows, log_p = categories.draw(50_000, 3)
    # Of what does not depend on the rest, the density is the frequency.
    city = np.bincount(rows[:, 0].astype(int), minlength=12) / len(rows)
    assert (city > 0).all() and np.isfinite(log_p).all()
    found = categories.measure({"binary": True, "layers": 0}, 8)
    assert found["size"] == 4 + 2 + 6 + 3
    assert found[1][0] > found[64][0] > 0
    row = cells(categories.table({"signs": found}), "signs")
    assert row[1:3] == ["15", "{:.2f} ± {:.2f}".format(*found[1])]


# Iris is measured in tenths of a centimetre.
@pytest.mark.filterwarnings("ignore:.*few distinct values")
@pytest.mark.slow
def test_a_flow_of_a_small_table_is_near_the_mixture(module):
    tables = module("tables")
    iris = next(x for name, x in tables.tables() if name == "iris")
    found = tables.run("iris", iris, "maf", 0)
    # From a standard normal, it ended 6 nats below.
    assert found["flow"] > max(found["gaussian"], found["mixture"]) - 1.0
    assert found["epochs"] == 200
    assert tables.cell([1.0, 3.0]) == "+2.00 ± 1.00"


@pytest.mark.slow
def test_slcp(module, capsys):
    options = {"observations": 1, "proposals": 5000, "pairs": 40, "samples": 100}
    results = module("slcp").main(600, epochs=2, **options)
    assert list(results)[:3] == ["ranks", "coverage", "TARP"] and len(results) == 4
    assert "C2ST " in capsys.readouterr().out


@pytest.mark.slow
def test_recipes_are_built_and_stepped(module):
    recipes = module("recipes")
    found = recipes.recipes.find("mnist", "nice")
    # Dinh et al. 2014: four networks 392-1000-1000-1000-1000-1000-392, and a scaling.
    network = 393 * 1000 + 4 * 1001 * 1000 + 1001 * 392
    assert recipes.row(found, False)[4] == f"{4 * network + 784:,}"
    spline = recipes.recipes.find("miniboone", "neural_spline_flow")
    before, after = map(float, recipes.row(spline, True)[6:8])
    assert after < before


def test_inference_knows_its_moments(module):
    inference = module("inference")
    for name in ("funnel", "banana"):
        target, shown, (mean, deviation), _ = inference.case(name)
        x = inference.entries(target.sample(200_000, seed=0))
        assert x.shape[1] == len(mean) == len(deviation)
        assert abs(x[:, 0].std() / deviation[0] - 1) < 0.01
        # The tails of the funnel's x are too heavy for a sample's deviation.
        if name == "banana":
            assert abs(x[:, 1].std() / deviation[1] - 1) < 0.02
        assert inference.moments(shown, mean, deviation).startswith("v: 0.00 ± ")


@pytest.mark.slow
def test_paths_of_the_double_well(module):
    inference = module("inference")
    share = inference.of_double_well()[1]
    assert 0.008 < share < 0.0085
    rows = inference.paths(2, evaluations=6_000, repeats=2)
    assert {len(row) for row in rows} == {len(inference.HEADS["paths"])}
    assert [row[2] for row in rows] == ["1", "53", "53", "53", ""]
    # Steps alone need no training to be right.
    assert abs(float(rows[1][4].split(" ")[0])) < 1.0
    assert rows[-1][-2] == f"{100 * share:.2f}"


@pytest.mark.slow
def test_inference(module, tmp_path, capsys):
    inference = module("inference")
    other = ["logistic regression", "flow", *"1234567"]
    kept = {"logistic regression": {"surrogates": [other]}}
    (tmp_path / "inference.json").write_text(json.dumps(kept))
    sizes = ["--steps", "20", "--chain-steps", "6", "--output", str(tmp_path)]
    inference.main(["banana", *sizes])
    chains = (tmp_path / "inference_chains.md").read_text()
    rows = [row for row in chains.splitlines() if row.startswith("| banana |")]
    assert [row.split("|")[3].strip() for row in rows] == ["8", "4", "1", "11"]
    assert all(0 <= float(row.split("|")[4]) <= 1 for row in rows)
    # Rows of another part are kept.
    found = (tmp_path / "inference_surrogates.md").read_text().splitlines()
    names = ["banana"] * 4 + ["logistic regression"]
    assert [row.split("|")[1].strip() for row in found[2:]] == names
    assert cells("\n".join(found), "logistic regression") == other
    with pytest.raises(SystemExit):
        inference.main(["fennel"])
    assert "got 'fennel'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")
def test_at_work(module, tmp_path, capsys):
    at_work = module("at_work")
    at_work.main(["scores", "--calls", "1", "--output", str(tmp_path)])
    text = (tmp_path / "at_work_scores.md").read_text()
    density = cells(text, "density of a NICE")
    assert all(float(cell) > 0 for cell in density[1:5])
    assert 0 < float(density[5].strip("%")) <= 100
    assert cells(text, "`complexity_corrected`")[2] == ""
    with pytest.raises(SystemExit):
        at_work.main(["scoring"])
    assert "got 'scoring'" in capsys.readouterr().err


def test_bayes_by_a_tarflow(module):
    """Densities of images that got noise once, the same for all classes."""
    script = module("tarflow_mnist")
    size = {"layers": 1, "depth": 1, "width": 8, "num_classes": 10}
    flow = flows.tarflow((4, 4, 1), normalize=False, seed=0, **size)
    perturb(flow, 0.3)
    model = FlowModel(flow, noise=script.NOISE)
    draw = np.random.default_rng(1)
    x = draw.normal(size=(300, 4, 4, 1)).astype("float32")
    y = draw.integers(0, 10, 300).astype("int32")
    nats, error, right = script.bayes(model, x, y)
    noise = np.random.default_rng(0).normal(size=x.shape).astype("float32")
    noisy = x + script.NOISE * noise
    each = np.stack([flow.log_prob(noisy, context=[k] * 300) for k in range(10)], -1)
    own = each[np.arange(300), y]
    np.testing.assert_allclose([nats, error], [own.mean(), own.std() / 300**0.5], 1e-4)
    assert right == pytest.approx(np.mean(each.argmax(-1) == y), abs=0.01)
    assert each.std(-1).min() > 1e-3


@pytest.mark.slow
def test_surjections(module, monkeypatch):
    script = module("surjections")
    monkeypatch.setattr(script, "TEST", 500)
    monkeypatch.setattr(script, "DRAWS", 2)
    rows = [cells(script.toys(1, 8, ["moons"]), str(k)) for k in (0, 2)]
    kl = [float(row[1].split()[0]) for row in rows]
    # A flow that has seen 40 batches is above the truth, and not far.
    assert all(0.2 < value < 3 for value in kl), kl
    x = tf.fill([2, 8, 8, 1], 3.0) + tf.random.stateless_uniform([2, 8, 8, 1], [0, 1])
    for name in ("a further channel of noise", "of maxima, and of gaps given these"):
        flow = script.DIGITS[name]({"width": 4, "depth": 0})
        assert np.isfinite(flow.log_prob(x)).all(), name
        is_bound = name == "a further channel of noise"
        assert flow.exactness == ("bound" if is_bound else "exact"), name
