"""Masks of couplings."""

from __future__ import annotations

import numpy as np
import pytest

from tfp_flows import masks


def test_masks():
    np.testing.assert_array_equal(masks.half(5), [1, 1, 1, 0, 0])
    np.testing.assert_array_equal(masks.alternating(5), [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(
        masks.checkerboard(2, 3)[..., 0], [[1, 0, 1], [0, 1, 0]]
    )
    np.testing.assert_array_equal(masks.channel(3), [[[1, 1, 0]]])
    np.testing.assert_array_equal(masks.copy_channel(3, 1), [[[0, 1, 0]]])


@pytest.mark.parametrize(
    "bad",
    [
        lambda: masks.half(1),
        lambda: masks.alternating(1),
        lambda: masks.channel(1),
        lambda: masks.checkerboard(1, 1),
        lambda: masks.copy_channel(3, 3),
    ],
)
def test_mask_errors(bad):
    with pytest.raises(ValueError, match="must be"):
        bad()
