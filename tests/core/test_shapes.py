"""Events in other shapes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.core.shapes import reshape_event


@pytest.mark.parametrize("batch", [(), (3,), (0,), (2, 3), (0, 3), (0, 0)])
@pytest.mark.parametrize("known", ["all", "none", "last"])
def test_batches_of_any_shape_stay(batch, known):
    signature = {
        "all": batch,
        "none": [None] * len(batch),
        "last": [*[None] * len(batch[:-1]), *batch[-1:]],
    }[known]
    x = np.arange(np.prod(batch) * 12, dtype=np.float32).reshape(*batch, 4, 3)

    @tf.function(input_signature=[tf.TensorSpec([*signature, 4, 3])], autograph=False)
    def reshape(x):
        y = reshape_event(x, 2, [2, 6])
        z = reshape_event(tf.reshape(x, [-1]), 2, [12], like=x)
        assert y.shape.as_list() == [*signature, 2, 6]
        assert z.shape.as_list() == [*signature, 12]
        return y, z

    y, z = reshape(x)
    np.testing.assert_array_equal(y, x.reshape(*batch, 2, 6))
    np.testing.assert_array_equal(z, x.reshape(*batch, 12))


def test_one_open_dimension_needs_no_operation_but_the_reshape():
    @tf.function(input_signature=[tf.TensorSpec([None, 4, 3])], autograph=False)
    def reshape(x):
        return reshape_event(x, 2, [2, 6])

    kinds = [op.type for op in reshape.get_concrete_function().graph.get_operations()]
    assert "Shape" not in kinds and kinds.count("Reshape") == 1
