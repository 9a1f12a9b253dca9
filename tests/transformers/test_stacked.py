"""One transformer after another."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.transformers.support import (
    parameters_of,
)
from tfp_flows import transformers


def test_stacked_is_one_after_the_other():
    first, second = transformers.Bernstein(3), transformers.Analytic("sinh", 1)
    both = transformers.Stacked([first, second])
    theta = parameters_of(both, 1)
    x = tf.constant(np.linspace(-4, 4, 9))
    y, one = first.forward_and_log_det(x, theta[:4])
    y, two = second.forward_and_log_det(y, theta[4:])
    got, log_det = both.forward_and_log_det(x, theta)
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(log_det, one + two)
    assert not both.has_direct_inverse and both.is_increasing


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: transformers.Stacked([]), "one or more, got none"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
