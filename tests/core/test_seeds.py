"""Seeds of every size."""

import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_flows.core.seeds import generator, new_seed, stateless_seed

HUGE = [
    2**31,
    2**62,
    2**64,
    int(hashlib.sha256(b"flow").hexdigest(), 16),
    # As NumPy draws one (SeedSequence().entropy).
    66141709016700981469007772556432446186,
    -1,
    -(2**70),
]


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, np.int64(5), *HUGE])
def test_any_integer_is_a_seed(seed):
    first, again = stateless_seed(seed).numpy(), stateless_seed(seed).numpy()
    assert first.shape == (2,) and first.dtype == np.int32
    np.testing.assert_array_equal(first, again)
    assert generator(seed).random() == generator(seed).random()


def test_different_seeds_differ():
    seeds = [0, 1, 2**31, 2**31 + 1, *HUGE]
    assert len({tuple(stateless_seed(s).numpy()) for s in seeds}) == len(set(seeds))
    assert len({generator(s).random() for s in seeds}) == len(set(seeds))


def test_the_global_seed_reaches_what_is_drawn():
    drawn = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        drawn.append((new_seed(), generator().random()))
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_stateless_seeds_of_every_kind_of_integer(dtype):
    for seed in (np.array([1, 2], dtype), tf.constant([1, 2], dtype)):
        found = stateless_seed(seed)
        assert found.dtype == tf.int32
        np.testing.assert_array_equal(found, [1, 2])
