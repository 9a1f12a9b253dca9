from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows.inference.parameters import as_vectors, from_vectors


def test_vectors_are_in_the_order_of_nest():
    # As TFP's dictionaries are, which do not sort their names.
    shapes = {"b": tf.TensorShape([2, 1]), "a": tf.TensorShape([])}
    parts = {"b": np.array([[[1], [2]], [[3], [4]]]), "a": np.array([5, 6])}
    found = as_vectors(parts, shapes, tf.float32)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, [[5, 1, 2], [6, 3, 4]])
    one = as_vectors({"a": 5.0, "b": np.array([[1], [2]])}, shapes, tf.float32)
    np.testing.assert_array_equal(one, [5, 1, 2])


def test_a_discrete_distribution_has_no_bijector():
    # TFP gives None for one.
    with pytest.raises(ValueError, match=r"prior\.exp.* discrete part"):
        from_vectors(tfd.Poisson(1.0), name="prior")
    size, bijector = from_vectors(tfd.Poisson(1.0), tfb.Identity())
    assert size == 1
    np.testing.assert_allclose(bijector.forward([[3.0]]), [3.0])
