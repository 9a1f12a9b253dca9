"""The examples run, and do what they say."""

from __future__ import annotations

import ast
import json
import runpy
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support import perturb
from tfp_flows import FlowModel, datasets, flows
from tfp_flows.bijectors import ResidualFlow
from tfp_flows.command import cli

EXAMPLES = Path(__file__).parent.parent / "examples"
WEIGHTS = ("classifier", "1/D", "1", "flow alone")


def test_every_example_is_run_here():
    run = {
        name.removeprefix("test_").removeprefix("Test").lower()
        for name in globals()
        if name.lower().startswith("test") and name != "test_every_example_is_run_here"
    }
    assert {path.stem for path in EXAMPLES.glob("*.py")} == run


@pytest.mark.slow
def test_invertible_resnet(capsys):
    example = runpy.run_path(str(EXAMPLES / "invertible_resnet.py"))
    model, accuracy, bits = example["main"](epochs=8, blocks=1, width=16)
    assert accuracy > 0.8
    # 4.6 before training; 17 grey levels without any structure have log2(17) = 4.09.
    assert bits < 4.0
    assert "test accuracy" in capsys.readouterr().out
    flow = model.flow
    images = datasets.load("digits").arrays("test", 32)[0] + 0.5
    z = flow.encode(images)
    assert z.shape == (32, 4, 4, 4)
    np.testing.assert_allclose(flow.decode(z) / 17, images / 17, atol=1e-4)
    sample = flow.sample(4, seed=0)
    assert sample.shape == (4, 8, 8, 1)
    again = flow.decode(flow.encode(sample))
    np.testing.assert_allclose(again / 17, sample / 17, atol=1e-4)
    blocks = [m for m in flow.submodules if isinstance(m, ResidualFlow)]
    assert [b.log_det for b in blocks] == ["roulette", "roulette"]


@pytest.mark.slow
@pytest.mark.parametrize("has_classes", [True, False])
def test_guidance(capsys, tmp_path, has_classes):
    options = f"--epochs {15 if has_classes else 10} --width 32 --layers 2"
    options += " --conditional --class-drop 0.1" * has_classes
    words = f"train digits --flow tarflow {options} --verbose 0 -o {tmp_path}"
    assert cli.main(words.split()) == 0
    example = runpy.run_path(str(EXAMPLES / "guidance.py"))
    found = example["main"](tmp_path, n=100)
    if has_classes:
        # A tenth by chance.
        assert 0.2 < found[0.0][0] < found[2.0][0]
    else:
        # Less attention pushes to contrast.
        assert found[0.0][1] < found[4.0][1]
    assert "weight 1.0: 0." in capsys.readouterr().out


@pytest.mark.slow
def test_hybrid_digits(capsys):
    example = runpy.run_path(str(EXAMPLES / "hybrid_digits.py"))
    found = example["main"](epochs=10, kinds=("coupling",))
    classifier, hybrid, _, alone = (found["coupling", n] for n in WEIGHTS)
    assert classifier["accuracy"] > 0.9 and hybrid["accuracy"] > 0.85
    assert hybrid["bits_per_dim"] < alone["bits_per_dim"] + 0.5
    assert classifier["bits_per_dim"] > alone["bits_per_dim"] + 1.0
    assert "coupling, 1/D: " in capsys.readouterr().out


@pytest.mark.slow
def test_flow_vae(capsys):
    example = runpy.run_path(str(EXAMPLES / "flow_vae.py"))
    # The others differ in the posterior.
    for name in ("planar", "Sylvester"):
        example["CASES"].pop(name)
    found, vae = example["main"]("digits", epochs=5, evaluated=32, k=8)
    # 64 pixels without any structure have 64 log 2 = 44.4 nats.
    # Pixels are drawn anew for each of the two numbers.
    assert all(-40.0 < bound < likely + 0.5 for bound, likely in found.values())
    assert vae.decode(vae.prior.sample(4, seed=0)).mean().shape == (4, 8, 8, 1)
    assert "IAF: bound -" in capsys.readouterr().out


@pytest.mark.slow
def test_eight_schools(capsys):
    example = runpy.run_path(str(EXAMPLES / "eight_schools.py"))
    found, mu, log_tau = example["main"](steps=1000, nuts_steps=300)
    bounds = [found[name].bound for name in ("mean field", "normal", "flow")]
    assert bounds == sorted(bounds) and bounds[2] > bounds[1] + 1.0
    assert found["flow"].pareto_k < 0.8
    # Ten thousands of samples have 4.36 and 3.57.
    assert np.mean(mu) == pytest.approx(4.4, abs=0.3)
    assert np.mean(np.exp(log_tau)) == pytest.approx(3.6, abs=0.4)
    assert np.mean(found["flow"].samples.mu) == pytest.approx(np.mean(mu), abs=0.3)
    assert "NUTS 4." in capsys.readouterr().out


@pytest.mark.slow
def test_logistic_regression(capsys):
    example = runpy.run_path(str(EXAMPLES / "logistic_regression.py"))
    found = example["main"](steps=1500, features=5)
    bounds = [found[name].bound for name in ("mean field", "normal", "flow")]
    assert bounds == sorted(bounds)
    # One number, by two surrogates.
    evidence = [found[name].log_evidence for name in ("normal", "flow")]
    assert evidence[0] == pytest.approx(evidence[1], abs=0.2)
    assert "test accuracy 0." in capsys.readouterr().out


@pytest.mark.slow
def test_free_form_flow(capsys):
    example = runpy.run_path(str(EXAMPLES / "free_form_flow.py"))
    found = example["main"](weights=(50.0,), epochs=20)[50.0]
    # The true density has 2.381 nats, a normal of the same moments 3.293.
    assert 2.3 < found["nll"] < 2.55
    assert found["total"] == pytest.approx(1.0, abs=0.03)
    assert found["reconstruction"] < 5e-3
    # Samples of the decoder are of the same distribution, nearly.
    assert -3.2 < found["sampled"] < -2.3
    assert "weight 50: 2." in capsys.readouterr().out


@pytest.mark.slow
def test_neutra_funnel(capsys):
    example = runpy.run_path(str(EXAMPLES / "neutra_funnel.py"))
    found = example["main"](train_steps=600, steps=200)
    for name in ("funnel", "banana"):
        assert found[f"{name}, NeuTra"] > 2 * found[f"{name}, HMC"]
    assert "per 1000 gradients" in capsys.readouterr().out


@pytest.mark.slow
def test_out_of_distribution(capsys):
    example = runpy.run_path(str(EXAMPLES / "out_of_distribution.py"))
    table = example["main"]("digits", kind="nice")
    assert list(table["digits"].values()) == pytest.approx([0.5] * len(table["digits"]))
    assert min(table["noise"].values()) > 0.99
    # A black image looks more usual than the test set, by its density.
    assert table["black"]["density"] < 0.5 < 0.9 < table["black"]["complexity"]
    assert "inverted: " in capsys.readouterr().out


def test_audit_likelihood(capsys):
    found = runpy.run_path(str(EXAMPLES / "audit_likelihood.py"))["main"]()
    assert [a.comparable for a in found.values()] == [True, True, True, False, False]
    assert "-500.9 nats beside NICE's paper" in capsys.readouterr().out


@pytest.mark.slow
def test_translate(capsys):
    found = runpy.run_path(str(EXAMPLES / "translate.py"))["main"](epochs=8, width=32)
    for error, _, bits in found.values():
        assert error < 0.01 and bits < 4.2
    # A map that starts as the identity keeps the class, two flows pair at will.
    assert found["on top"][1] > 0.65 > found["apart"][1]
    assert "as they are: class 0." in capsys.readouterr().out


@pytest.mark.slow
def test_intrinsic_dimension(capsys):
    example = runpy.run_path(str(EXAMPLES / "intrinsic_dimension.py"))
    _, by_jacobian, by_slope = example["main"](count=5000, epochs=20)
    assert by_jacobian == 2
    assert by_slope == pytest.approx(2.0, abs=0.8)
    assert "slope in noise" in capsys.readouterr().out


@pytest.mark.slow
def test_tune(tmp_path, capsys):
    pytest.importorskip("optuna")
    pytest.importorskip("tensorboard")
    main = runpy.run_path(str(EXAMPLES / "tune.py"))["main"]
    study = main(trials=2, epochs=2, directory=str(tmp_path), points=500)
    assert len(study.trials) == 2 and study.best_value < 5
    assert len(list(tmp_path.glob("*/validation/events.*"))) == 2
    assert "0 pruned" in capsys.readouterr().out


@pytest.fixture(scope="module")
def flow():
    return perturb(flows.real_nvp((2,), layers=2, width=4, seed=0))


@pytest.fixture(scope="module")
def post(flow, tmp_path_factory):
    """A function that posts to a server of the exported flow."""
    path = tmp_path_factory.mktemp("saved")
    FlowModel(flow).export(path)
    serve = runpy.run_path(str(EXAMPLES / "serve.py"))["serve"]
    with serve(str(path), port=0) as server:
        url = f"http://localhost:{server.server_port}/v1/models/"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def post(name, request=None):
            body = None if request is None else json.dumps(request).encode()
            with urllib.request.urlopen(url + name, body, timeout=30) as answer:
                return json.load(answer)

        yield post
        server.shutdown()
        thread.join()


@pytest.mark.slow
class TestServe:
    def test_rows(self, flow, post):
        x = [[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]]
        found = post("flow:predict", {"instances": x})
        np.testing.assert_allclose(found["predictions"], flow.log_prob(x), rtol=1e-5)
        rows = [{"x": row} for row in x]
        assert post("flow:predict", {"instances": rows}) == found
        encoded = {"signature_name": "encode", "instances": x}
        z = post("flow:predict", encoded)["predictions"]
        np.testing.assert_allclose(z, flow.encode(x), rtol=1e-5)

    def test_columns(self, flow, post):
        inputs = {"n": 3, "seed": 7, "temperature": 0.5}
        request = {"signature_name": "sample", "inputs": inputs}
        found = post("flow:predict", request)["outputs"]
        expected = flow.sample(3, seed=7, temperature=0.5)
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_status(self, post):
        (version,) = post("flow")["model_version_status"]
        assert version["state"] == "AVAILABLE"

    @pytest.mark.parametrize(
        ("name", "request_", "words"),
        [
            ("flow:predict", {"instances": [[0.0]]}, "shape|Binding"),
            ("flow:predict", {"signature_name": "x", "instances": [[0.0]]}, "'x'"),
            ("flow:predict", {"inputs": {"y": [[0.0, 0.0]]}}, "KeyError: 'y'"),
            ("other:predict", {"instances": [[0.0, 0.0]]}, "other:predict"),
        ],
    )
    def test_errors(self, post, name, request_, words):
        with pytest.raises(urllib.error.HTTPError) as error:
            post(name, request_)
        assert error.value.code == 400
        assert any(w in json.load(error.value)["error"] for w in words.split("|"))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            post("other")

    def test_it_needs_tensorflow_alone(self):
        tree = ast.parse((EXAMPLES / "serve.py").read_text())
        found = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module)
        roots = {name.partition(".")[0] for name in found}
        assert roots - set(sys.stdlib_module_names) == {"tensorflow"}


@pytest.mark.slow
def test_multi_worker(tmp_path):
    """On one device; `tests/training/test_multi_worker.py` is about several."""
    train = runpy.run_path(str(EXAMPLES / "multi_worker.py"))["train"]
    strategy = tf.distribute.get_strategy()
    (first,) = train(strategy, tmp_path, 1, "float32")
    # Started again, it goes on where it stopped.
    (second,) = train(strategy, tmp_path, 2, "float32")
    assert second < first


@pytest.mark.slow
def test_two_moons_inference(capsys):
    example = runpy.run_path(str(EXAMPLES / "two_moons_inference.py"))
    accuracy, results = example["main"](4000, epochs=30, observations=1, samples=200)
    # A normal distribution, or the prior, would be above 0.9.
    assert accuracy < 0.75
    # How often the truth is in regions of each posterior mass: that often, but for
    # 300 points (0.08) and what a flow misses that few simulations have trained.
    values = np.sort(results["coverage"].values[:, 0])
    assert np.abs(values - np.linspace(0, 1, len(values))).max() < 0.15
    assert "mean C2ST 0." in capsys.readouterr().out


@pytest.mark.slow
def test_epidemic_inference(capsys):
    example = runpy.run_path(str(EXAMPLES / "epidemic_inference.py"))
    keras.utils.set_random_seed(0)
    found = example["main"](observations=2, pairs=500)
    exact, posterior, likelihood = (
        found[name] for name in ("exact", "posterior", "likelihood")
    )
    # The contact rates of these data are 0.4328 and 0.2533.
    assert np.all((exact[:, 1] < [0.4328, 0.2533]) & (exact[:, 3] > [0.4328, 0.2533]))
    width = (exact[:, 3] - exact[:, 1])[:, None]
    # Quantiles of 5, 50 and 95 %, in units of the interval between the outer two.
    assert np.abs((posterior - exact) / width)[:, 1:4].max() < 0.5
    # So are one in a thousand: rare samples as wide as the prior would lie 50 away.
    assert np.abs((posterior - exact) / width).max() < 2.0
    assert np.abs((likelihood - exact) / width)[:, 2].max() < 1.0
    assert "L-C2ST 0." in capsys.readouterr().out


@pytest.mark.slow
def test_temperatures(capsys):
    found = runpy.run_path(str(EXAMPLES / "temperatures.py"))["main"]((2, 20), 32)
    (early, _, _), (late, levels, bits) = found.values()
    # What overfits is too cold for held-out data.
    assert 0.9 < early < late < 1.3
    assert levels.shape == (2,) and levels.min() < late < levels.max()
    assert bits[0] > bits[1] > bits[2] - 0.005
    assert "by level [" in capsys.readouterr().out


@pytest.mark.slow
def test_flow_matching(capsys):
    example = runpy.run_path(str(EXAMPLES / "flow_matching.py"))
    ways = ("likelihood", example["MATCHING"])
    found = example["main"](4.0, ways, width=32, depth=2, steps=4)
    assert found["flow matching"][0] > 3 * found["likelihood"][0]
    # A Gaussian of the same data has 3.293, the truth 2.381.
    assert all(2.3 < nats < 3.25 for _, nats, _ in found.values())
    assert "truth: 2.381 nats" in capsys.readouterr().out
