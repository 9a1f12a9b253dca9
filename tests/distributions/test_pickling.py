"""Copies through `pickle` and `copy.deepcopy`, here and in another process."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.distributions.support import make_chain, make_flow
from tests.support import fast_and_slow, normal, perturb
from tfp_flows import Flow, bijectors, distributions, flows, masks, networks

tfb = tfp.bijectors
tfd = tfp.distributions


class Scaled(keras.layers.Layer):
    """A layer as a user writes it, registered nowhere."""

    def __init__(self, units, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.factor = units, factor
        self.dense = keras.layers.Dense(units)

    def call(self, x):
        return self.factor * self.dense(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "factor": self.factor}


class Mute(keras.layers.Layer):
    """One that does not say how it was built."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


class Location(tf.Module):
    def __init__(self):
        super().__init__()
        self.matrix = tf.Variable(normal(2, 4, seed=3, dtype="float32"))

    def __call__(self, context):
        return tfd.Independent(tfd.Normal(context @ self.matrix, 1.0), 1)


def coupled(layer):
    return Flow(
        distributions.standard_normal((4,)),
        bijectors.AdditiveCoupling(masks.half(4), layer),
    )


def dequantized():
    flow = flows.real_nvp((4,), layers=2, width=4, bounds=(0, 8), seed=0)
    return distributions.VariationalDequantization(flow, None, 8)


def encoded():
    encoder = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(2)])
    return Flow(
        distributions.standard_normal((4,)),
        make_chain(context_shape=(2,)),
        context_encoder=encoder,
        context_shape=(2,),
    )


MADE = {
    "hand_made": make_flow,
    "conditional": lambda: make_flow(context_shape=(2,)),
    "encoder": encoded,
    "own_layer": lambda: coupled(Scaled(2, 3.0)),
    "real_nvp": lambda: flows.real_nvp((4,), layers=2, width=4, batch_norm=True),
    "maf": lambda: flows.maf((4,), seed=0),
    "planar": lambda: flows.planar((4,), seed=0),
    "sylvester": lambda: flows.sylvester((4,), seed=0),
    "dequantized": dequantized,
    "diagonal_normal": lambda: distributions.diagonal_normal((4,)),
    "mixture": lambda: distributions.gaussian_mixture((4,), components=3),
    "fitted_mixture": lambda: distributions.FittedMixture((4,), components=3),
    "student_t": lambda: distributions.student_t((4,)),
    "logistic": lambda: distributions.standard_logistic((4,)),
    "resampled": lambda: distributions.ResampledBase(
        networks.MLP(1, (4,)), (4,), draws=16
    ),
    "by_class": lambda: distributions.ClassConditionalNormal((4,), 2, spread=1.0),
    "by_context": lambda: distributions.Conditional(Location(), (4,), (2,)),
    "given": lambda: make_flow(context_shape=(2,)).given(normal(3, 2, dtype="float32")),
    "transformed": lambda: tfd.TransformedDistribution(
        distributions.diagonal_normal((4,)), tfb.Chain([tfb.Scale(2.0), make_chain()])
    ),
}
every = pytest.mark.parametrize("build", MADE.values(), ids=MADE)
WAYS = {"pickle": lambda v: pickle.loads(pickle.dumps(v)), "deepcopy": copy.deepcopy}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def density(made):
    keywords = {}
    if getattr(made, "context_shape", None) is not None:
        keywords["context"] = normal(3, *made.context_shape, seed=1, dtype="float32")
    if "seed" in getattr(made, "keywords", ()):
        keywords["seed"] = 0
    return made.log_prob(2.0 + tf.abs(normal(3, 4, dtype="float32")), **keywords)


@pytest.mark.parametrize("way", fast_and_slow(WAYS.values(), WAYS["pickle"]), ids=WAYS)
@every
def test_a_copy_is_the_same_with_variables_of_its_own(build, way):
    made = build()
    perturb(made, 0.1)
    before = density(made)
    again = way(made)
    assert type(again) is type(made)
    assert again.name == made.name
    assert getattr(again, "config", None) == getattr(made, "config", None)
    np.testing.assert_array_equal(density(again), before)
    assert len(again.variables) == len(made.variables)
    assert [v.trainable for v in again.variables] == [
        v.trainable for v in made.variables
    ]
    assert not {v.ref() for v in again.variables} & {v.ref() for v in made.variables}
    # The variables that are listed are those that count.
    for v in again.trainable_variables:
        v.assign_add(0.2 * tf.ones_like(v))
    if again.trainable_variables:
        assert np.abs(density(again) - before).max() > 1e-4
    np.testing.assert_array_equal(density(made), before)
    if again.trainable_variables:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(density(again))
        gradients = tape.gradient(loss, again.trainable_variables)
        assert sum(g is not None for g in gradients) > 0.5 * len(gradients)


@ways
def test_layers_that_are_shared_stay_shared(way):
    layer = Scaled(2)
    parts = [
        bijectors.AdditiveCoupling(mask, layer)
        for mask in (masks.half(4), ~masks.half(4))
    ]
    flow = Flow(distributions.standard_normal((4,)), bijectors.Chain(parts))
    again = way(flow)
    first, second = again.bijector.bijectors
    assert {v.ref() for v in first.variables} == {v.ref() for v in second.variables}
    assert len({v.ref() for v in again.variables}) == 2


@ways
def test_a_copy_of_a_copy_has_its_layer(way):
    """The constructor's argument is the layer that is used, not another one."""
    coupling = bijectors.AdditiveCoupling(masks.half(4), Scaled(2))
    again = way(coupling)
    shared = again.copy(name="other")
    assert {v.ref() for v in shared.variables} == {v.ref() for v in again.variables}
    for v in again.trainable_variables:
        v.assign_add(tf.ones_like(v))
    x = normal(3, 4, dtype="float32")
    np.testing.assert_array_equal(shared.inverse(x), again.inverse(x))


@ways
@pytest.mark.parametrize(
    "build",
    [
        lambda: bijectors.ActNorm([4]),
        lambda: bijectors.PLU(4, seed=0),
        lambda: make_chain(),
        lambda: tfb.Invert(make_chain()),
        lambda: tfb.Chain([tfb.Scale(2.0), make_chain()]),
    ],
    ids=["actnorm", "plu", "chain", "invert", "tfp_chain"],
)
def test_bijectors_alone(build, way):
    bijector = build()
    perturb(bijector, 0.3)
    again = way(bijector)
    x = normal(3, 4, dtype="float32")
    np.testing.assert_array_equal(again.inverse(x), bijector.inverse(x))
    assert not {v.ref() for v in again.variables} & {
        v.ref() for v in bijector.variables
    }


def test_what_cannot_be_copied_says_so():
    with pytest.raises(TypeError, match=r"Mute cannot be copied nor pickled"):
        pickle.dumps(coupled(Mute(lambda x: 2.0 * x)))
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(coupled(lambda x: x))


_ELSEWHERE = """
import pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    made, x = pickle.load(file)
np.save(sys.argv[2], made.log_prob(x).numpy())
"""


@pytest.mark.slow
def test_in_another_process(tmp_path):
    flow = flows.real_nvp((4,), layers=2, width=4, seed=0)
    perturb(flow, 0.3)
    x = normal(3, 4, dtype="float32").numpy()
    (tmp_path / "flow").write_bytes(pickle.dumps((flow, x)))
    files = [str(tmp_path / "flow"), str(tmp_path / "found.npy")]
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", _ELSEWHERE, *files], check=True, cwd=root)
    np.testing.assert_allclose(np.load(files[1]), flow.log_prob(x), 1e-5)
