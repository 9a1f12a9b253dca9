"""Block autoregressive networks: the formula, far out, and derivatives of inverses."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.bijectors.support import assign
from tests.support import close, normal, perturb
from tfp_flows import bijectors as B


def of_its_formula(block, x, context=None):
    """$y$, entry by entry and block by block."""
    size, (width, depth) = x.shape[1], map(block.parameters.get, ("width", "depth"))
    by_name = {v.name.split(":")[0]: v.numpy() for v in block.trainable_variables}
    g = 1 / (1 + np.exp(-by_name["gate"]))
    h = [x[:, [i]] for i in range(size)]
    if context is not None:
        counts = size * np.array([width] * depth + [1])
        moved = np.split(context @ by_name["context_kernel"], counts.cumsum()[:-1], 1)
    for k in range(depth + 1):
        n, m = 1 if k == 0 else width, 1 if k == depth else width
        raw = by_name[f"kernel_{k}"].reshape([size, n, size, m])
        log_length, bias = by_name[f"length_and_bias_{k}"].reshape([2, size, m])
        new = []
        for i in range(size):
            weights = [raw[j, :, i] for j in range(i)] + [np.exp(raw[i, :, i])]
            length = np.sqrt(sum(np.square(w).sum(0) for w in weights))
            u = sum(h[j] @ w for j, w in enumerate(weights)) / length
            u = u * np.exp(log_length[i]) + bias[i]
            if context is not None:
                u += moved[k][:, i * m : (i + 1) * m]
            new.append(np.tanh(u) if k < depth else u)
        h = new
    return (1 - g) * x + g * np.concatenate(h, 1)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("has_context", [False, True])
def test_the_network_is_its_formula(depth, has_context):
    options = {"context_shape": (2,)} if has_context else {}
    block = B.BlockAutoregressive(3, 4, depth, seed=0, dtype="float64", **options)
    perturb(block, 0.5)
    x, context = normal(5, 3), normal(5, 2, seed=1) if has_context else None
    keywords = {} if context is None else {"context": context}
    want = of_its_formula(block, x.numpy(), context)
    close(block.forward(x, **keywords), want, 1e-12)


def test_an_output_rises_with_its_input_and_sees_no_later_one():
    block = perturb(B.BlockAutoregressive(4, 3, seed=0, dtype="float64"), 1.0)
    x = normal(6, 4)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = block.forward(x)
    jacobian = tape.batch_jacobian(y, x).numpy()
    assert (np.triu(jacobian, 1) == 0).all()
    assert (np.diagonal(jacobian, axis1=1, axis2=2) > 0).all()
    assert (np.abs(jacobian) > 1e-4).any(0)[np.tril_indices(4)].all()


def test_where_units_saturate_the_slope_is_still_known():
    """In single precision, of a slope that is no number of it."""
    block = B.BlockAutoregressive(1, width=1, seed=0)
    assign(block, gate=300.0, length_and_bias_0=[[0.0], [0.0]])
    assign(block, length_and_bias_1=[[-30.0], [0.0]])
    x = tf.constant([[-60.0], [0.0], [60.0]])
    _, log_det = block.forward_and_log_det(x)
    u = np.abs(x.numpy()[:, 0])
    want = -30.0 + 2 * (np.log(2.0) - np.logaddexp(u, -u))
    close(log_det, want, 1e-5)


def test_far_out_it_is_a_line_that_noise_reaches():
    block = perturb(B.BlockAutoregressive(3, seed=0), 0.5)
    (gate,) = (v for v in block.trainable_variables if "gate" in v.name)
    x = tf.constant([[-1e30] * 3, [1e4] * 3, [-1e6, 1.0, 1e6]])
    with tf.GradientTape() as tape:
        y, log_det = block.forward_and_log_det(x)
    kept = 1 / (1 + np.exp(gate.numpy()))
    close(y[:2] / x[:2], np.tile(kept, [2, 1]), 1e-2)
    close(log_det[:2], 2 * [np.log(kept).sum()], 1e-5)
    for gradient in tape.gradient(log_det, block.trainable_variables):
        assert gradient is None or np.isfinite(gradient).all()
    back, inverse_log_det = block.inverse_and_log_det(tf.constant(y.numpy()))
    np.testing.assert_allclose(back, x, rtol=1e-5, atol=1e-2)
    close(inverse_log_det, -log_det, 1e-2)


def test_steep_networks_invert():
    block = perturb(B.BlockAutoregressive(5, 4, 2, seed=0, dtype="float64"), 0.5)
    for v in block.trainable_variables:
        if "length" in v.name:
            v[0].assign(v[0] + 1.0)
    x = normal(40, 5)
    y, log_det = block.forward_and_log_det(x)
    assert log_det.numpy().max() - log_det.numpy().min() > 5
    back, inverse_log_det = block.inverse_and_log_det(tf.constant(y.numpy()))
    close(block.forward(back), y)
    close(inverse_log_det, -log_det, 1e-5)


def test_derivatives_of_a_sample_by_variables():
    """By the inverse function theorem: dx = -(dy/dx)^-1 dy, at the same noise."""
    options = {"context_shape": (2,), "seed": 0, "dtype": "float64"}
    block = perturb(B.BlockAutoregressive(3, 2, 2, **options), 0.5)
    y, context, upstream = normal(1, 3), normal(1, 2, seed=1), normal(1, 3, seed=2)
    with tf.GradientTape() as tape:
        x = block.inverse(y, context=context)
    found = tape.gradient(x, block.trainable_variables, upstream)
    with tf.GradientTape(persistent=True) as tape:
        fixed = tf.constant(x.numpy())
        tape.watch(fixed)
        again = block.forward(fixed, context=context)
    slopes = tape.batch_jacobian(again, fixed)
    through = -tf.linalg.solve(slopes, upstream[..., None], adjoint=True)[..., 0]
    want = tape.gradient(again, block.trainable_variables, through)
    for one, other in zip(found, want, strict=True):
        close(one, other, 1e-9)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: B.BlockAutoregressive((2, 2)), ValueError, "event_shape.*vector"),
        (lambda: B.BlockAutoregressive(2, 0), ValueError, "width must be at least 1"),
        (lambda: B.BlockAutoregressive(2, 2.5), TypeError, "width must be an int"),
        (lambda: B.BlockAutoregressive(2, depth=0), ValueError, "depth must be at"),
        (
            lambda: B.BlockAutoregressive(2, context_shape=(2, 2)),
            ValueError,
            "context_shape must be.*vector",
        ),
    ],
)
def test_errors(build, error, words):
    with pytest.raises(error, match=words):
        build()
