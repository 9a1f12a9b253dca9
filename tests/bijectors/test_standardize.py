"""Normalisation by fixed numbers that data set."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.bijectors import Standardize
from tfp_flows.core.data_warnings import ConstantDataWarning


def standardized(x, dtype="float64", **options):
    bijector = Standardize(x.shape[1:], dtype=dtype, **options)
    return bijector, bijector.initialize(tf.constant(x, dtype)).numpy()


def columns(n=1000):
    """One column each of many units."""
    draw = np.random.default_rng(0).standard_normal((n, 5))
    return draw * [1.0, 1e-8, 0.5, 1e30, 1e-12] + [0.0, 0.0, 3e8, -1e31, 1e-3]


def test_columns_in_any_units():
    x = columns()
    bijector, z = standardized(x)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(0), 1, rtol=1e-6)
    mean = np.array([math.fsum(column) / len(x) for column in x.T])
    assert (
        np.abs(bijector.shift - mean) <= np.spacing(np.abs(mean)) + 1e-16 * x.std(0)
    ).all()
    np.testing.assert_allclose(bijector.scale, x.std(0), rtol=1e-9)
    assert not bijector.needs_initialization
    expected = -np.log(x.std(0)).sum()
    ildj = bijector.inverse_log_det_jacobian(x[:3])
    np.testing.assert_allclose(ildj, np.full(3, expected), rtol=1e-9)
    np.testing.assert_allclose(bijector.forward(z), x, rtol=1e-14, atol=1e-20)


def test_single_precision_loses_nothing_that_the_data_hold():
    # In steps of 32, with a mean that is no number of single precision.
    x = (3e8 + 32 * np.random.default_rng(0).integers(0, 9, (777, 2))).astype("float32")
    _, z = standardized(x, "float32")
    exact = (x - x.mean(0, dtype="float64")) / x.std(0, dtype="float64")
    np.testing.assert_allclose(z, exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("robust", [False, True])
def test_the_order_of_rows_does_not_matter(robust):
    # More rows than are taken at a time, sorted, and not.
    x = np.sort(np.random.default_rng(0).standard_normal((10_001, 2)) ** 3, 0)
    other = np.random.default_rng(1).permutation(x)
    numbers = [standardized(v, robust=robust)[0] for v in (x, other)]
    a, b = numbers
    np.testing.assert_allclose(a.shift, b.shift, rtol=0, atol=1e-14)
    np.testing.assert_allclose(a.scale, b.scale, rtol=1e-13)


def test_constant_features_keep_their_scale_and_are_named():
    x = columns()
    x[:, 1], x[:, 3] = 7.5, 0.1
    with pytest.warns(
        ConstantDataWarning, match="feature 1, 3 is constant in the 1000 rows"
    ):
        bijector, z = standardized(x)
    np.testing.assert_array_equal(z[:, [1, 3]], 0.0)
    np.testing.assert_array_equal(bijector.scale.numpy()[[1, 3]], 1.0)
    np.testing.assert_array_equal(bijector.shift.numpy()[[1, 3]], [7.5, 0.1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A rare one in zeros is no constant.
        x[:, 1], x[:, 3] = np.arange(1000) == 3, np.arange(1000) == 998
        _, z = standardized(x)
    np.testing.assert_allclose(z.std(0), 1, rtol=1e-6)


def test_robust_numbers_do_not_see_outliers():
    x = np.random.default_rng(0).standard_normal((2000, 3)) * [1, 10, 0.1] + 5
    clean, _ = standardized(x, robust=True)
    np.testing.assert_allclose(clean.scale, x.std(0), rtol=0.1)
    x[:10] = 1e9
    spoiled, _ = standardized(x, robust=True)
    np.testing.assert_allclose(spoiled.scale, clean.scale, rtol=0.05)
    np.testing.assert_allclose(spoiled.shift, clean.shift, rtol=0.05)
    assert standardized(x)[0].scale.numpy().min() > 1e6
    # Where the quartiles are equal, there is only the deviation to go by.
    x[:, 0] = np.arange(2000) < 10
    rare, _ = standardized(x, robust=True)
    np.testing.assert_allclose(rare.scale[0], x[:, 0].std())


def test_images_by_channel():
    x = np.random.default_rng(0).standard_normal((6, 4, 3, 2)) * [1, 20] + [3, -5]
    bijector, z = standardized(x)
    np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(z.std((0, 1, 2)), 1)
    expected = 12 * np.log(x.std((0, 1, 2))).sum()
    np.testing.assert_allclose(
        bijector.forward_log_det_jacobian(z[0]), expected, rtol=1e-12
    )


def test_set_once_and_never_trained():
    x = columns()
    bijector, z = standardized(x)
    assert bijector.trainable_variables == ()
    assert len(bijector.variables) == 2
    np.testing.assert_array_equal(bijector.initialize(x[:5]), z[:5])
    np.testing.assert_array_equal(bijector.copy().inverse(x), z)
    new = Standardize([5], dtype="float64")
    assert new.needs_initialization
    np.testing.assert_array_equal(new.inverse(x), x)


def test_errors():
    bad = columns()
    bad[3, 2], bad[4, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="not finite, in feature 0, 2"):
        standardized(bad)
    with pytest.raises(ValueError, match="empty batch"):
        standardized(np.zeros([0, 3]))
    with pytest.raises(ValueError, match="must end in the number of channels"):
        Standardize([])
    with pytest.raises(TypeError, match="event_shape"):
        Standardize("3")
