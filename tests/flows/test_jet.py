"""jet: which half each coupling keeps, and which images it takes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.networks.test_made import influence
from tests.support import normal, perturb
from tfp_flows import flows

HEIGHT, WIDTH, CHANNELS = 4, 6, 2
SHAPE = (HEIGHT, WIDTH, CHANNELS)
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]


def kept(layers, **options):
    """Which entries of an image the last of some couplings keeps."""
    flow = flows.jet(SHAPE, layers=layers, depth=1, width=4, patch=1, seed=0, **options)
    # Couplings start as the identity, and keep the first half of what they see.
    numbers = np.arange(np.prod(SHAPE), dtype="float32").reshape(SHAPE)
    first = flow.encode(numbers).numpy()[: numbers.size // 2]
    return np.isin(numbers, first)


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("spatial_every", [0, 5])
def test_a_coupling_divides_the_entries_of_all_patches_alike(layers, spatial_every):
    found = kept(layers, spatial_every=spatial_every)
    np.testing.assert_array_equal(found.sum(-1), np.ones((HEIGHT, WIDTH)))
    assert (found == found[0, 0]).all()


def test_patches_are_divided_in_six_ways_in_turn():
    board = (ROWS + COLUMNS) % 2 == 0
    columns, rows = COLUMNS % 2 == 0, ROWS % 2 == 0
    six = [board, ~board, columns, ~columns, rows, ~rows]
    for i, expected in enumerate([*six, board]):
        found = kept(i + 1, spatial_every=1)
        np.testing.assert_array_equal(
            found, np.broadcast_to(expected[..., None], SHAPE)
        )
    found = kept(6, spatial_every=3)
    np.testing.assert_array_equal(found, np.broadcast_to(~board[..., None], SHAPE))


def test_ten_couplings_let_all_see_all():
    options = {"layers": 10, "depth": 1, "width": 8, "seed": 0, "dtype": "float64"}
    flow = flows.jet((4, 4, 2), patch=1, **options)
    perturb(flow, 0.3)
    x = normal(2, 32)
    seen = influence(lambda x: flow.encode(tf.reshape(x, [-1, 4, 4, 2])), x)
    assert seen.all()


def test_layers_draw_different_halves_and_another_seed_others():
    def order(seed):
        flow = flows.jet((4, 4, 2), layers=3, depth=1, width=4, patch=1, seed=seed)
        x = normal(4, 4, 2, dtype="float32")
        return flow.encode(x).numpy()

    assert (order(0) == order(0)).all() and (order(0) != order(1)).any()
    halves = [kept(n, spatial_every=0) for n in range(1, 5)]
    assert any((half != halves[0]).any() for half in halves)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((28, 28, 1), {"patch": 4}, r"patch=4 needs a height divisible by 8; got 28"),
        ((6, 8, 1), {}, r"patch=2 needs a height divisible by 4; got 6"),
        ((4, 4, 1), {"patch": 1}, r"patch=1 must be even for 1 channel"),
        ((4, 4, 2), {"patch": 0}, r"patch must be at least 1, got 0"),
        ((4, 4, 2), {"spatial_every": -1}, r"spatial_every"),
        ((4, 4, 2), {"width": 6, "heads": 4}, r"heads must divide width=6"),
        ((4,), {}, r"event_shape"),
    ],
)
def test_what_does_not_fit(shape, options, message):
    with pytest.raises(ValueError, match=message):
        flows.jet(shape, **{"layers": 1, "depth": 1, "width": 8, **options})


def test_patches_of_mnist_have_a_side_of_two():
    flow = flows.jet((28, 28, 1), layers=1, depth=1, width=8, seed=0)
    first = next(v for v in flow.trainable_variables if "positions" in v.name)
    assert first.shape == (14 * 14, 8)
