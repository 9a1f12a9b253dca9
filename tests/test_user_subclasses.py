"""Bijectors as users write them, through every machine of the package.

Each class knows only the contract of two methods, or overrides one method of a class of
the package, and keeps what it needs in one of the ways in which users do.
"""

import copy
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import close_nests, fast_and_slow, perturb
from tfp_flows import Flow, FlowModel, masks, networks, transformers
from tfp_flows import bijectors as B

tfb = tfp.bijectors
tfd = tfp.distributions
DTYPE = "float64"
SIZE = 4
X = tf.random.stateless_normal([5, SIZE], [1, 2], dtype=DTYPE)


class Gain(B.JointBijector):
    """The contract and nothing else."""

    def __init__(self, start=0.3, name="gain"):
        parameters = dict(locals())
        self.raw = self._add_variable("raw", tf.fill([SIZE], np.float64(start)))
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    def _forward_and_log_det(self, x):
        return x * tf.exp(self.raw), tf.reduce_sum(self.raw)

    def _inverse_and_log_det(self, y):
        return y * tf.exp(-self.raw), -tf.reduce_sum(self.raw)


class OwnVariable(Gain):
    """State in a plain `tf.Variable`, under names that the package uses inside."""

    def __init__(self, name="own_variable"):
        parameters = dict(locals())
        super().__init__(name=name)
        self._own = tf.Variable(0.2, dtype=DTYPE)
        self._shared = {"raw": 1.0}
        self._check = self._evaluate = self._ndims = "mine"
        self._set_parameters(parameters)

    def _forward_and_log_det(self, x):
        y, log_det = super()._forward_and_log_det(x)
        return y + self._own, log_det

    def _inverse_and_log_det(self, y):
        return super()._inverse_and_log_det(y - self._own)


class Shifted(B.Coupling):
    """Overrides the two documented methods of a class with fast paths."""

    def _forward_and_log_det(self, x, **keywords):
        y, log_det = super()._forward_and_log_det(x, **keywords)
        return 2 * y + 1, log_det + SIZE * np.log(2)

    def _inverse_and_log_det(self, y, **keywords):
        x, log_det = super()._inverse_and_log_det((y - 1) / 2, **keywords)
        return x, log_det - SIZE * np.log(2)


class Stretched(B.AffineCoupling):
    """Overrides the hook below the two methods."""

    def _change(self, kept, changed, forward, context=None):
        if not forward:
            changed = changed / 3
        changed, log_det = super()._change(kept, changed, forward, context)
        factor = tf.cast(changed.shape[-1] * np.log(3), changed.dtype)
        return (
            (3 * changed, log_det + factor)
            if forward
            else (
                changed,
                log_det - factor,
            )
        )


class Twice(B.Chain):
    """A composition that does something after its members."""

    def _forward_and_log_det(self, x, **keywords):
        y, log_det = super()._forward_and_log_det(x, **keywords)
        return 2 * y, log_det + SIZE * np.log(2)

    def _inverse_and_log_det(self, y, **keywords):
        x, log_det = super()._inverse_and_log_det(y / 2, **keywords)
        return x, log_det - SIZE * np.log(2)


class Centred(B.ActNorm):
    """Overrides the initialisation by data."""

    def _initialize(self, y):
        z = super()._initialize(y + 1)
        return z - 1 * tf.exp(-self.log_scale)


class Named(B.JointBijector):
    """Looks its constant up by its own name."""

    FACTORS = {"double": 2.0, "treble": 3.0}

    def __init__(self, name="double"):
        parameters = dict(locals())
        self.scale = self._add_variable("scale", np.float64(1.0))
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    def _forward_and_log_det(self, x):
        factor = self.FACTORS[self.name] * self.scale
        return factor * x, SIZE * tf.math.log(factor)

    def _inverse_and_log_det(self, y):
        factor = self.FACTORS[self.name] * self.scale
        return y / factor, -SIZE * tf.math.log(factor)


class Settings(dict):
    """A dictionary with an attribute."""

    offset = 0.0


class Configured(Gain):
    """State in a dictionary subclass, a random generator and a function."""

    def __init__(self, offset=1.5, name="configured"):
        parameters = dict(locals())
        super().__init__(name=name)
        self.settings = Settings(unit=1.0)
        self.settings.offset = offset
        self.random = random.Random(offset)
        self.noise = self.random.random()
        self.function = lambda x: x + self.settings.offset + self.noise
        self._set_parameters(parameters)

    def _forward_and_log_det(self, x):
        y, log_det = super()._forward_and_log_det(x)
        return self.function(y), log_det

    def _inverse_and_log_det(self, y):
        return super()._inverse_and_log_det(y - self.function(0.0))


class WithLayers(B.JointBijector):
    """Keras layers as attributes, alone and in a list."""

    def __init__(self, name="with_layers"):
        parameters = dict(locals())
        self.first = keras.layers.Dense(8, activation="tanh", dtype=DTYPE)
        self.first.build((None, 2))
        last = keras.layers.Dense(2, dtype=DTYPE)
        last.build((None, 8))
        self.rest = [last]
        super().__init__(
            forward_min_event_ndims=1,
            input_event_shape=[SIZE],
            parameters=parameters,
            name=name,
        )

    def _network(self, x):
        return self.rest[0](self.first(x))

    def _forward_and_log_det(self, x):
        a, b = tf.split(x, 2, axis=-1)
        return tf.concat([a, b + self._network(a)], -1), tf.zeros([], x.dtype)

    def _inverse_and_log_det(self, y):
        a, b = tf.split(y, 2, axis=-1)
        return tf.concat([a, b - self._network(a)], -1), tf.zeros([], y.dtype)


class Sloped(transformers.Transformer):
    """A transformer of the user's own."""

    num_parameters = 1

    def forward_and_log_det(self, x, parameters):
        (slope,) = tf.unstack(parameters, axis=-2)
        return tf.exp(slope) * x, slope

    def inverse_and_log_det(self, y, parameters):
        (slope,) = tf.unstack(parameters, axis=-2)
        return tf.exp(-slope) * y, -slope

    def __repr__(self):
        return "Sloped()"


class PlainTFP(tfb.Bijector):
    """A bijector written for TFP."""

    def __init__(self, name="plain_tfp"):
        self.shift = tf.Variable(tf.fill([SIZE], np.float64(0.4)))
        super().__init__(
            forward_min_event_ndims=1, dtype=tf.float64, parameters={}, name=name
        )

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    def _forward(self, x):
        return 2 * tf.sinh(x) + self.shift

    def _inverse(self, y):
        return tf.asinh((y - self.shift) / 2)

    def _forward_log_det_jacobian(self, x):
        return tf.reduce_sum(tf.math.log(2 * tf.cosh(x)), -1)


class TakesGradients(B.JointBijector):
    """Computes its log-determinant by a tape of its own."""

    def __init__(self, name="takes_gradients"):
        parameters = dict(locals())
        self.bend = self._add_variable("bend", np.full(SIZE, 0.5))
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)

    def _value(self, x):
        return x + 0.5 * tf.tanh(self.bend) * tf.sin(x)

    def _forward_and_log_det(self, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = self._value(x)
            total = tf.reduce_sum(y)
        return y, tf.reduce_sum(tf.math.log(tape.gradient(total, x)), -1)

    def _inverse_and_log_det(self, y):
        x = y
        # Each step leaves less than half of the error.
        for _ in range(40):
            x = y - 0.5 * tf.tanh(self.bend) * tf.sin(x)
        return x, -self._forward_and_log_det(x)[1]


class WithTraining(Gain):
    """A training mode."""

    _has_training_mode = True

    def _forward_and_log_det(self, x, training=False):
        y, log_det = super()._forward_and_log_det(x)
        return (y + 1 if training else y), log_det

    def _inverse_and_log_det(self, y, training=False):
        return super()._inverse_and_log_det(y - 1 if training else y)


MASK = masks.half(SIZE)


def mlp(outputs):
    return networks.MLP(outputs, [8], seed=1, dtype=DTYPE)


CLASSES = {
    "Gain": Gain,
    "OwnVariable": OwnVariable,
    "Shifted": lambda: Shifted(MASK, mlp(4), transformers.Affine(), dtype=DTYPE),
    "Stretched": lambda: Stretched(MASK, mlp(4), dtype=DTYPE),
    "Twice": lambda: Twice([Gain(), B.Permutation("reverse", SIZE)]),
    "Centred": lambda: Centred((SIZE,), dtype=DTYPE),
    "Named": Named,
    "Configured": Configured,
    "WithLayers": WithLayers,
    "Sloped": lambda: B.Coupling(MASK, mlp(2), Sloped(), dtype=DTYPE),
    "PlainTFP": PlainTFP,
    "TakesGradients": TakesGradients,
    "WithTraining": WithTraining,
}
every_class = pytest.mark.parametrize("name", CLASSES)
# One of each kind: options, a variable, layers, a training mode, and of TFP alone.
some_classes = pytest.mark.parametrize(
    "name",
    fast_and_slow(
        CLASSES, "Shifted", "OwnVariable", "WithLayers", "WithTraining", "PlainTFP"
    ),
)


def made(name):
    return perturb(CLASSES[name](), seed=0)


def by_hand(members, y):
    """Density direction of members one after the other, as the classes define it."""
    total = tf.zeros([], y.dtype)
    for b in members:
        x = b.inverse(y)
        total -= b.forward_log_det_jacobian(tf.identity(x), 1)
        y = x
    return y, total


def results(inverse, y, variables):
    with tf.GradientTape() as tape:
        tape.watch(y)
        x, log_det = inverse(y)
        loss = tf.reduce_sum(tf.sin(x)) + tf.reduce_sum(tf.sin(log_det))
    return (
        x,
        log_det + tf.zeros(y.shape[:-1], y.dtype),
        tape.gradient(loss, [y, *variables]),
    )


@some_classes
@pytest.mark.parametrize("recompute", fast_and_slow([False, True], True))
def test_chains_eager_and_traced(name, recompute):
    members = [made(name), B.AffineCoupling(MASK, mlp(4), dtype=DTYPE), made(name)]
    perturb(members[1], seed=0)
    chain = B.Chain(members, recompute_gradients=recompute)
    variables = [v for b in members for v in b.trainable_variables]
    assert {id(v) for v in variables} == {id(v) for v in chain.trainable_variables}
    expected = results(lambda y: by_hand(members, y), X, variables)
    assert all(d is not None for d in expected[2])
    close_nests(results(chain.inverse_and_log_det, X, variables), expected)
    traced = tf.function(
        lambda: results(chain.inverse_and_log_det, X, variables), autograph=False
    )
    close_nests(traced(), expected)


@every_class
@pytest.mark.parametrize("recompute", fast_and_slow([False, True], False))
def test_repeated(name, recompute):
    bijector = B.Repeat(CLASSES[name], 3, recompute_gradients=recompute)
    perturb(bijector, seed=0)
    variables = bijector.trainable_variables
    expected = results(lambda y: by_hand(bijector.bijectors, y), X, variables)
    traced = tf.function(
        lambda: results(bijector.inverse_and_log_det, X, variables), autograph=False
    )
    close_nests(traced(), expected)


def test_names_and_constants_are_each_member_s_own():
    members = [Named("double"), Named("treble"), Configured(1.0), Configured(2.0)]
    chain = B.Chain(members)
    expected = by_hand(members, X)
    close_nests(tf.function(chain.inverse_and_log_det, autograph=False)(X), expected)
    model = FlowModel(Flow(standard_normal(), chain))
    close_nests(model.predict(X, verbose=0), model.flow.log_prob(X))


def standard_normal():
    return tfd.MultivariateNormalDiag(tf.zeros([SIZE], DTYPE))


@every_class
def test_compositions_of_tfp(name):
    member = made(name)
    expected = by_hand([member, member], X)
    twice = tfb.Chain([member, member])
    close_nests((twice.inverse(X), twice.inverse_log_det_jacobian(X, 1)), expected)
    inverted = B.Chain([tfb.Invert(tfb.Chain([tfb.Invert(member)]))])
    close_nests(inverted.inverse_and_log_det(X), by_hand([member], X))
    distribution = tfd.TransformedDistribution(standard_normal(), member)
    z, log_det = by_hand([member], X)
    log_prob = standard_normal().log_prob(z) + log_det
    close_nests(distribution.log_prob(X), log_prob)
    close_nests(Flow(standard_normal(), member).log_prob(X), log_prob)


@every_class
def test_round_trip_and_autodiff(name):
    member = B.Chain([made(name)])
    x, ildj = member.inverse_and_log_det(X)
    back, fldj = member.forward_and_log_det(tf.identity(x))
    close_nests(back, X)
    close_nests(fldj + tf.zeros_like(X[:, 0]), -ildj + tf.zeros_like(X[:, 0]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        rows = tf.unstack(member.forward(x), axis=-1)
    # Row by row: nothing is traced.
    jacobian = np.stack([tape.gradient(row, x) for row in rows], -2)
    _, by_autodiff = np.linalg.slogdet(jacobian)
    close_nests(fldj + tf.zeros_like(X[:, 0]), tf.constant(by_autodiff))


@some_classes
def test_training_saving_and_loading(name, tmp_path):
    def flow():
        members = [CLASSES[name](), B.AffineCoupling(MASK, mlp(4), dtype=DTYPE)]
        return Flow(standard_normal(), B.Chain(members))

    keras.utils.set_random_seed(0)
    model = FlowModel(flow())
    model.compile("adam")
    before = [v.numpy() for v in model.trainable_variables]
    model.fit(tf.data.Dataset.from_tensors(2 * X + 1).repeat(3), verbose=0)
    after = [v.numpy() for v in model.trainable_variables]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    assert len(after) == len(model.flow.trainable_variables)
    model.save_weights(str(tmp_path / "a.weights.h5"))
    other = FlowModel(flow())
    other.load_weights(str(tmp_path / "a.weights.h5"))
    close_nests(other.flow.log_prob(X), model.flow.log_prob(X))
    path = tf.train.Checkpoint(flow=model.flow).save(str(tmp_path / "c"))
    third = flow()
    tf.train.Checkpoint(flow=third).restore(path).assert_consumed()
    close_nests(third.log_prob(X), model.flow.log_prob(X))


@every_class
def test_copies(name):
    member = made(name)
    deep = copy.deepcopy(member)
    close_nests(deep.inverse(X), member.inverse(X))
    assert not {id(v) for v in deep.variables} & {id(v) for v in member.variables}
    if name in ("OwnVariable", "WithLayers"):
        with pytest.raises(ValueError, match=r"constructor of .* makes new ones"):
            member.copy(name="other")
        return
    if name == "PlainTFP":
        return
    shared = member.copy(name="other") if name != "Named" else member.copy()
    close_nests(shared.inverse(X), member.inverse(X))
    assert {id(v) for v in shared.variables} == {id(v) for v in member.variables}


def test_initialisation_that_a_user_overrides():
    def norm():
        return Centred((SIZE,), dtype=DTYPE)

    alone, inside = norm(), norm()
    z = alone.initialize(X)
    for chain in (B.Chain([inside]), B.Chain([tfb.Chain([norm()])])):
        close_nests(chain.initialize(X), z)
    close_nests(inside.shift, alone.shift)


@pytest.mark.parametrize("batch", [[SIZE], [1], [3], [2, 3]])
def test_a_log_det_that_is_not_summed(batch):
    class NotSummed(Gain):
        def _inverse_and_log_det(self, y):
            return y * tf.exp(-self.raw), -self.raw + tf.zeros_like(y)

    y = tf.ones([*batch, SIZE], DTYPE)
    for use in (
        NotSummed().inverse_and_log_det,
        B.Chain([NotSummed()]).inverse_and_log_det,
        B.Chain([NotSummed()], recompute_gradients=True).inverse_and_log_det,
        Flow(standard_normal(), NotSummed()).log_prob,
        tf.function(NotSummed().inverse_and_log_det, autograph=False),
    ):
        with pytest.raises(ValueError, match="one number for each event"):
            use(y)


def test_a_keras_layer_that_is_not_built():
    class Unbuilt(Gain):
        def __init__(self):
            super().__init__(name="unbuilt")
            self.network = keras.layers.Dense(SIZE)

    for use in (lambda b: b.forward(X), lambda b: B.Chain([b])):
        with pytest.raises(ValueError, match=r"dense.* no variables yet.*Build them"):
            use(Unbuilt())


@pytest.mark.parametrize(
    ("make", "overrides"),
    [
        (lambda: B.PLU(3), {"initial": np.eye(3)}),
        (lambda: B.PLU(3), {"seed": 1}),
        (lambda: B.ActNorm([4]), {"event_shape": [5]}),
        (lambda: B.Scaling((3,)), {"dtype": "float64"}),
        (Gain, {"start": 2.0}),
    ],
)
def test_copies_do_not_replace_what_variables_depend_on(make, overrides):
    (argument,) = overrides
    with pytest.raises(ValueError, match=f"{argument} cannot be replaced"):
        make().copy(**overrides)


def test_tfp_s_tools_may_copy_with_validate_args():
    for bijector in (Gain(), B.Permutation("reverse", 3), B.Squeeze(2)):
        assert type(bijector.copy(validate_args=True)) is type(bijector)


def gradient_of(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return y, tape.gradient(y, x)


class Sinh(transformers.Transformer):
    """A transformer that leaves its slope to TensorFlow."""

    num_parameters = 1

    def forward_and_log_det(self, x, parameters):
        y, slope = gradient_of(lambda x: tf.sinh(x) + tf.squeeze(parameters, -2), x)
        return y, tf.math.log(slope)

    def inverse_and_log_det(self, y, parameters):
        x, slope = gradient_of(lambda y: tf.asinh(y - tf.squeeze(parameters, -2)), y)
        return x, tf.math.log(slope)


class Uphill(tf.Module):
    """A conditioner that gives the gradient of a potential."""

    def __init__(self, outputs):
        super().__init__()
        draw = np.random.default_rng(0)
        self.w = tf.Variable(draw.normal(size=[2, 3]), dtype=DTYPE)
        self.outputs = outputs

    def __call__(self, x):
        _, slope = gradient_of(lambda x: tf.reduce_sum(tf.tanh(x @ self.w) ** 2), x)
        return slope[:, : self.outputs]


HALF = masks.half(SIZE)
TAKES_GRADIENTS = {
    "transformer": lambda: B.Coupling(HALF, networks.MLP(2, [8], dtype=DTYPE), Sinh()),
    "conditioner": lambda: B.AdditiveCoupling(HALF, Uphill(2), dtype=DTYPE),
    "layer": lambda: B.AdditiveCoupling(
        HALF,
        keras.Sequential(
            [
                keras.layers.Lambda(Uphill(2), dtype=DTYPE),
                keras.layers.Dense(2, dtype=DTYPE),
            ]
        ),
        dtype=DTYPE,
    ),
    "elementwise": lambda: B.Elementwise(Sinh(), [SIZE], dtype=DTYPE),
    "made of others": lambda: B.Elementwise(
        transformers.Stacked([transformers.Affine(), transformers.Inverted(Sinh())]),
        [SIZE],
        dtype=DTYPE,
    ),
    "autoregressive": lambda: B.MaskedAutoregressive(
        networks.MADE(SIZE, 1, [8], dtype=DTYPE), Sinh(), SIZE, dtype=DTYPE
    ),
}


@pytest.mark.parametrize("name", TAKES_GRADIENTS)
def test_what_takes_gradients_itself(name):
    """Tapes stop where a chain recomputes; those inside of a user's code must not."""
    member = perturb(TAKES_GRADIENTS[name](), seed=0)
    found = [
        results(B.Chain([member], recompute_gradients=r).inverse_and_log_det, X, [])
        for r in (False, True)
    ]
    close_nests(found[1], found[0])
    assert np.abs(found[0][1]).max() < 10
