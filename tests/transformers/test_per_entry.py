"""Different transformers for different entries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.support import close, normal, perturb
from tfp_flows import bijectors as B
from tfp_flows import masks, networks, transformers

LINE = transformers.RationalQuadratic(3, bound=2.0)
ANGLE = transformers.RationalQuadratic(3, circular=True)
AFFINE = transformers.Affine("exp", 1.0)
PER_ENTRY = transformers.PerEntry([LINE, ANGLE, AFFINE, LINE])


@pytest.mark.parametrize("method", ["forward_and_log_det", "inverse_and_log_det"])
def test_every_entry_has_its_own(method):
    x, theta = normal(5, 4), normal(PER_ENTRY.num_parameters, 4, seed=1)
    got = getattr(PER_ENTRY, method)(x, theta)
    for i, t in enumerate([LINE, ANGLE, AFFINE, LINE]):
        here = slice(i, i + 1)
        want = getattr(t, method)(x[:, here], theta[: t.num_parameters, here])
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a[:, here], np.broadcast_to(b, [5, 1]))


def test_attributes():
    assert PER_ENTRY.num_parameters == 10 and PER_ENTRY.entries == 4
    assert not PER_ENTRY.is_increasing and not PER_ENTRY.has_constant_slope
    direct = transformers.PerEntry([AFFINE, transformers.Bernstein(3)])
    assert not direct.has_direct_inverse and direct.is_increasing
    assert "PerEntry([RationalQuadratic(" in repr(PER_ENTRY)


def wrapped(kind):
    """The transformer and others that are made of it."""
    if kind == "inverted":
        return transformers.Inverted(PER_ENTRY)
    if kind == "stacked":
        return transformers.Stacked([PER_ENTRY, AFFINE])
    return PER_ENTRY


@pytest.mark.parametrize("order", ["natural", "random"])
@pytest.mark.parametrize("kind", ["plain", "inverted", "stacked"])
def test_entries_that_are_generated_have_their_own(kind, order):
    transformer = wrapped(kind)
    made = networks.MADE(
        4, transformer.num_parameters, (8,), order=order, seed=0, dtype="float64"
    )
    bijector = perturb(B.MaskedAutoregressive(made, transformer, dtype="float64"))
    x = normal(3, 4)
    y, fldj = bijector.forward_and_log_det(x)
    back, ildj = bijector.inverse_and_log_det(tf.constant(y.numpy()))
    close(back, x), close(ildj, -fldj)


def test_a_conditioner_of_the_users_has_them_too():
    kernel = np.triu(np.ones((4, 4)), 1)
    bijector = B.InverseAutoregressive(
        lambda x: tf.tile(tf.tanh(x @ kernel), [1, 10]), PER_ENTRY, 4, dtype="float64"
    )
    x = normal(3, 4)
    back = bijector.inverse(tf.constant(bijector.forward(x).numpy()))
    close(back, x)


def test_angles_beside_lines_in_a_coupling():
    """A turn more is the same angle; the line beside it does not wrap."""
    transformer = transformers.PerEntry([ANGLE, LINE])
    network = networks.MLP(20, (8,), seed=0, dtype="float64")
    coupling = perturb(B.Coupling(masks.half(4), network, transformer, dtype="float64"))
    x = normal(5, 4)
    turn = np.array([0, 0, 2 * math.pi, 0])
    y = coupling.forward(x)
    close(coupling.forward(x + turn), y)
    assert np.abs(coupling.forward(x + turn[::-1])[:, 3] - y[:, 3]).min() > 0.1


@pytest.mark.parametrize(
    "build",
    [
        lambda t: B.Elementwise(t, [3]),
        lambda t: B.Coupling(masks.half(6), networks.MLP(30, (4,)), t),
        lambda t: B.MaskedAutoregressive(networks.MADE(3, 10, (4,)), t),
    ],
    ids=["elementwise", "coupling", "autoregressive"],
)
@pytest.mark.parametrize("kind", ["plain", "inverted", "stacked"])
def test_another_number_of_entries(build, kind):
    with pytest.raises(ValueError, match="for 4 entries, got 3 to transform"):
        build(wrapped(kind))


def test_errors():
    with pytest.raises(ValueError, match=r"for 4 entries, got shape \(5, 3\)"):
        PER_ENTRY.forward_and_log_det(tf.zeros([5, 3]), tf.zeros([10, 3]))
    with pytest.raises(ValueError, match=r"different numbers of entries: \[2, 4\]"):
        transformers.Stacked([PER_ENTRY, transformers.PerEntry([LINE, LINE])])


def test_one_transformer_at_least():
    with pytest.raises(ValueError, match="one for each entry, got none"):
        transformers.PerEntry([])
