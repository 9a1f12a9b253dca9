"""SavedModels in other formats."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.support import perturb
from tests.training.support import contexts, image, images, points, vector
from tfp_flows import FlowModel, flows

SMALL = {"width": 4, "seed": 0}

# Each has layers that would share a trace.
FLOWS = {
    "conditional": lambda: vector(layers=3, context_shape=(3,)),
    "glow": lambda: image(steps=2),
    "maf": lambda: flows.maf((2,), layers=2, depth=1, **SMALL),
    "spline": lambda: flows.neural_spline_flow((2,), layers=2, **SMALL),
    "planar": lambda: flows.planar((2,), layers=3, seed=0),
}


def data(flow):
    if len(flow.event_shape) == 3:
        x, labels = images(5)
        return {"x": x, "context": labels}
    x = {"x": points(5)}
    return x if flow.context_shape is None else {**x, "context": contexts(5)}


def log_prob(flow, x, **keywords):
    return flow.log_prob(x, **keywords).numpy()


def test_loaded_functions_refuse_other_shapes(tmp_path):
    """`[5, 1]` would broadcast with parameters of two features."""
    FlowModel(FLOWS["planar"]()).export(tmp_path)
    loaded = tf.saved_model.load(str(tmp_path))
    good, bad = tf.ones([5, 2]), tf.ones([5, 1])
    for name, argument in (("log_prob", "x"), ("encode", "x"), ("decode", "z")):
        assert loaded.signatures[name](**{argument: good})
        with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
            loaded.signatures[name](**{argument: bad})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter")
@pytest.mark.parametrize("name", FLOWS)
def test_tensorflow_lite_says_the_same(name, tmp_path):
    """It would give layers that share a trace the weights of one of them."""
    flow = perturb(FLOWS[name]())
    FlowModel(flow).export(tmp_path)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(tmp_path), signature_keys=["log_prob"]
    )
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    given = data(flow)
    found = interpreter.get_signature_runner("log_prob")(**given)["log_prob"]
    expected = log_prob(flow, **given)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, 1e-4, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conditional", "glow"])
def test_onnx_says_the_same(name, tmp_path):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    flow = perturb(FLOWS[name]())
    FlowModel(flow).export(tmp_path / "saved")
    options = {"saved-model": "saved", "signature_def": "log_prob", "output": "onnx"}
    command = [sys.executable, "-m", "tf2onnx.convert", "--opset", "17"]
    for key, value in options.items():
        command += [f"--{key}", value]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    session = runtime.InferenceSession(tmp_path / "onnx")
    given = data(flow)
    (found,) = session.run(None, given)
    np.testing.assert_allclose(found, log_prob(flow, **given), 1e-4, 1e-4)


def test_operations_that_onnx_knows():
    """A batch shape that is not known is found without TensorFlow's own operations."""
    flow = vector(layers=1, context_shape=(3,))
    trace = tf.function(
        lambda x, context: flow.log_prob(x, context=context), autograph=False
    ).get_concrete_function(
        tf.TensorSpec([None, 2], tf.float32), tf.TensorSpec([None, 3], tf.float32)
    )
    kinds = {op.type for op in trace.graph.get_operations()}
    for function in trace.graph.as_graph_def().library.function:
        kinds |= {node.op for node in function.node_def}
    assert "BroadcastArgs" not in kinds
    one = trace(tf.constant(points(4)), tf.constant(contexts(1)))
    np.testing.assert_allclose(one, flow.log_prob(points(4), context=contexts(1)), 1e-5)
