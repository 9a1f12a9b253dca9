"""Who sees whom is found by trying, and errors are clear."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.plots.support import assert_same_size, heat
from tests.support import perturb
from tfp_flows import bijectors, flows, masks, networks, plots

tfb = tfp.bijectors


def patterns(given, **options):
    figure = plots.dependencies(given, **options)
    return [heat(axes).astype(bool).astype(int).tolist() for axes in figure.axes]


def coupling(mask):
    return bijectors.AdditiveCoupling(mask, networks.MLP(2, [8]))


class TestDependencies:
    def test_couplings_until_everything_sees_everything(self, path):
        half = masks.half(4)
        layers = [coupling(half), coupling(~half), coupling(half)]
        stacks = [bijectors.Chain(layers[-n:]) for n in (1, 2, 3)]
        before = [v.numpy() for v in stacks[-1].trainable_variables]
        titles = ["1", "2", "3"]
        figure = plots.dependencies(stacks, titles=titles, path=path)
        assert_same_size(figure, path)
        one, two, three = (heat(axes).astype(bool) for axes in figure.axes)
        np.testing.assert_array_equal(
            one, np.eye(4, dtype=bool) | np.outer(~half, half)
        )
        assert two.sum() == 14 and not two[2, 3] and not two[3, 2]
        assert three.all()
        assert [axes.get_title() for axes in figure.axes] == titles
        # Own entries are marked, and variables have their values again.
        assert (heat(figure.axes[0]).diagonal() == 2).all()
        for v, value in zip(stacks[-1].trainable_variables, before, strict=True):
            np.testing.assert_array_equal(v, value)

    @pytest.mark.parametrize("direction", ["forward", "inverse"])
    def test_an_autoregression(self, direction):
        made = networks.MADE(
            4, 2, hidden_units=[8], order=[2, 0, 3, 1], activation="tanh", seed=0
        )
        bijector = bijectors.MaskedAutoregressive(made)
        rank = np.argsort([2, 0, 3, 1])
        expected = (rank[:, None] >= rank).astype(int).tolist()
        assert patterns(bijector, direction=direction) == [expected]

    def test_it_is_the_pattern_of_the_jacobian(self):
        chain = bijectors.Chain(
            [coupling(masks.alternating(4)), bijectors.Permutation([2, 0, 3, 1])]
        )
        (found,) = patterns(chain)
        perturb(chain)
        z = tf.random.stateless_normal([5, 4], seed=(0, 1))
        with tf.GradientTape() as tape:
            tape.watch(z)
            x = chain.forward(z)
        jacobian = tape.batch_jacobian(x, z)
        assert found == (np.abs(jacobian).max(0) > 0).astype(int).tolist()

    def test_events_of_other_shapes(self):
        squeeze = bijectors.Squeeze(2)
        (found,) = patterns(squeeze, event_shape=(2, 2, 1))
        assert found == np.eye(4, dtype=int).tolist()
        flow = flows.real_nvp((2,), layers=2, width=4, context_shape=(3,), seed=0)
        assert np.shape(patterns(flow.bijector)[0]) == (2, 2)
        assert patterns(tfb.Exp(), event_shape=(2,)) == [[[1, 0], [0, 1]]]

    def test_errors(self):
        with pytest.raises(TypeError, match=r"^bijectors must be bijectors, got Flow"):
            plots.dependencies([flows.nice((4,), layers=2, width=4, seed=0)])
        with pytest.raises(ValueError, match=r"^event_shape must have at most 64"):
            plots.dependencies(bijectors.Scaling([65]))
        with pytest.raises(ValueError, match=r"^event_shape is needed: exp"):
            plots.dependencies(tfb.Exp())
        with pytest.raises(ValueError, match=r"^direction"):
            plots.dependencies(bijectors.Scaling([2]), direction="sideways")
        with pytest.raises(ValueError, match=r"^titles"):
            plots.dependencies(bijectors.Scaling([2]), titles=["a", "b"])
