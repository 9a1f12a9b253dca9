"""What `JointBijector` does for every subclass."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.bijectors.cases import mlp, multiscale
from tests.support import normal, perturb
from tfp_flows import bijectors as B
from tfp_flows import masks, networks, transformers
from tfp_flows.core import tfp_internals

tfb = tfp.bijectors
tfd = tfp.distributions


@pytest.mark.parametrize(
    "make",
    [
        lambda: B.Permutation("reverse", 4),
        lambda: B.Squeeze(2),
        lambda: B.Chain([]),
        lambda: B.Chain([tfb.Tanh()]),
        lambda: B.Coupling(masks.half(4), tf.identity, _shift()),
    ],
)
def test_arrays_keep_their_precision_where_any_is_taken(make):
    bijector = make()
    shape = (1, 2, 2, 4) if bijector.forward_min_event_ndims == 3 else (3, 4)
    x = np.linspace(0.1, 0.7, np.prod(shape)).reshape(shape)
    for dtype in (np.float64, np.float32):
        given = x.astype(dtype)
        for method in (bijector.forward, bijector.inverse):
            assert method(given).dtype == dtype
    assert bijector.forward(x.tolist()).dtype == tf.float32


def _shift():
    from tfp_flows.transformers import Shift

    return Shift()


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.arange(4), "x must have dtype"),
        (np.ones(4, complex), "x must hold real numbers"),
        (tf.ones(4, tf.complex64), "x must have dtype"),
    ],
)
def test_other_dtypes_are_refused(value, match):
    with pytest.raises(TypeError, match=match):
        B.Permutation("reverse", 4).forward(value)


class Swallows(tf.Module):
    """A network that makes a number of NaN, as fused operations may."""

    def __call__(self, x, context):
        given = tf.reduce_sum(context, -1, keepdims=True)
        return x + tf.where(tf.math.is_finite(given), given, 0.0)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_context_that_is_not_finite_shows(compiled, bad):
    coupling = B.AdditiveCoupling(masks.half(4), Swallows(), context_shape=(2,))
    chain = B.Chain([coupling, coupling])
    context = tf.constant([[1.0, 2.0], [bad, 1.0], [3e38, 3e38]])
    x = tf.ones([3, 4])
    for method in (chain.forward_and_log_det, chain.inverse_and_log_det):
        call = tf.function(method) if compiled else method
        with tf.GradientTape() as tape:
            tape.watch(x)
            value, log_det = call(x, context=context)
            good = value[0]
        assert np.isnan(value[1]).all() and np.isnan(log_det[1])
        assert not np.isnan(log_det.numpy()[[0, 2]]).any()
        assert np.isfinite(tape.gradient(good, x)[0]).all()


def test_fast_paths_end_where_a_subclass_overrides_what_they_bypass():
    class Same(B.AffineCoupling):
        note = "nothing is overridden"

    class Other(B.AffineCoupling):
        def _change(self, kept, changed, forward, context=None):
            return super()._change(kept, changed, forward, context)

    class Below(Other):
        note = "inherits what is overridden"

    class Again(Other):
        _fast_paths = frozenset({"event_split"})

    expected = {
        B.Coupling: (True, True),
        Same: (True, True),
        Other: (False, False),
        Below: (False, False),
        Again: (True, False),
        B.JointBijector: (False, False),
    }
    for cls, paths in expected.items():
        found = tuple(cls._has_fast_path(path) for path in ("event_split", "replay"))
        assert found == paths, cls


def test_repr_shows_what_differs_from_the_defaults():
    coupling = B.AffineCoupling(masks.half(4), networks.MLP(4, name="net"), "exp")
    assert repr(coupling) == (
        "AffineCoupling(mask=<bool (4,)>, conditioner=net, scale='exp', "
        "name='affine_coupling')"
    )
    chain = B.Chain([tfb.Invert(coupling), tfb.Tanh()], name="both")
    first, second, third = repr(chain).split("\n")
    assert first == "Chain(name='both')"
    assert second == f"  Invert({coupling!r})"
    assert "Tanh" in third
    repeated = B.Repeat(lambda: [B.ActNorm([3]), B.Permutation("reverse", 3)], 5)
    assert len(repr(repeated).split("\n")) == 3
    assert "count=5" in repr(repeated)


def test_a_generator_of_members_is_kept():
    chain = B.Chain(b for b in [B.ActNorm([3]), B.Permutation("reverse", 3)])
    assert len(chain.bijectors) == len(chain.copy(name="again").bijectors) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: B.Planar(2, seed=1),
        lambda: B.Scaling([2], learning_rate_multiplier=3.0),
        lambda: B.Permutation("random", 4, seed=3),
        lambda: B.Elementwise(_shift(), (2, 3)),
    ],
)
def test_a_copy_may_be_given_what_stays_as_it_is(make):
    bijector = make()
    shared = bijector.copy(**bijector.parameters)
    assert all(
        a is b for a, b in zip(shared.variables, bijector.variables, strict=True)
    )
    with pytest.raises(ValueError, match="a copy shares the variables, so dtype"):
        bijector.copy(**{**bijector.parameters, "dtype": "float16"})


def test_members_that_take_several_parts_are_refused():
    parts = tfb.Split(2)
    with pytest.raises(TypeError, match=r"bijectors\[1\]: split takes or"):
        B.Chain([tfb.Tanh(), parts])
    with pytest.raises(TypeError, match=r"levels\[0\]: it must be a tfb.Bijector"):
        B.MultiScale([3], (2, 2, 2))


def test_an_import_fails_where_tfp_has_changed():
    tfp_internals._required(True, "nothing")
    with pytest.raises(
        ImportError, match=rf"relies on a private class .*{tfp.__version__}"
    ):
        tfp_internals.class_behind(tfb.Exp)
    with pytest.raises(ImportError, match=r"Chain\.no_such_method"):
        tfp_internals._code_of(tfb.Chain, "no_such_method")


class Counted:
    """A conditioner that counts its calls."""

    def __init__(self, outputs):
        self.network = mlp(outputs, "float64")
        self.calls = 0

    @property
    def variables(self):
        return self.network.variables

    def __call__(self, x):
        self.calls += 1
        return self.network(x)


@pytest.mark.parametrize("chain", [B.Chain, tfb.Chain])
def test_each_conditioner_runs_once(chain):
    counters = [Counted(4) for _ in range(3)]
    members = [
        B.AffineCoupling(
            masks.half(4) if i % 2 else ~masks.half(4), c, dtype="float64", name=f"c{i}"
        )
        for i, c in enumerate(counters)
    ]
    bijector = chain([*members, tfb.Permute([3, 1, 0, 2])])
    base = tfd.MultivariateNormalDiag(tf.zeros(4, tf.float64))
    flow = tfd.TransformedDistribution(base, bijector)
    x = normal(5, 4)

    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(flow.log_prob(x))
        return tape.gradient(loss, bijector.trainable_variables)

    uses = {
        "log_prob": lambda: flow.log_prob(x),
        "gradient": gradient,
        "traced": lambda: tf.function(flow.log_prob)(x),
        "xla": lambda: tf.function(flow.log_prob, jit_compile=True)(x),
        "sample": lambda: flow.sample(3),
        "sample and log_prob": lambda: flow.experimental_sample_and_log_prob(3),
        "ildj": lambda: bijector.inverse_log_det_jacobian(x, 1),
        "fldj": lambda: bijector.forward_log_det_jacobian(x, 1),
        "inverted": lambda: tfb.Invert(bijector).forward_log_det_jacobian(x, 1),
    }
    for name, use in uses.items():
        for c in counters:
            c.calls = 0
        use()
        assert [c.calls for c in counters] == [1, 1, 1], name


def test_results_are_not_handed_over_between_answers():
    """The same tensor, asked for twice by TFP, is computed twice."""
    counter = Counted(4)
    bijector = B.AffineCoupling(masks.half(4), counter, dtype="float64")
    base = tfd.MultivariateNormalDiag(tf.zeros(4, tf.float64))
    flow = tfd.TransformedDistribution(base, bijector)
    x = normal(5, 4)
    counter.calls = 0
    kept = bijector.inverse(x)
    flow.log_prob(x)
    flow.log_prob(x)
    bijector.forward(kept)
    assert counter.calls == 4


def test_a_broken_answer_leaves_nothing_behind():
    counter = Counted(4)
    bijector = B.AffineCoupling(masks.half(4), counter, dtype="float64")

    class Broken(tfd.Normal):
        def _log_prob(self, x):
            raise RuntimeError("broken")

        @classmethod
        def _parameter_properties(cls, dtype, num_classes=None):
            return super()._parameter_properties(dtype, num_classes)

    zeros, one = tf.zeros(4, tf.float64), tf.ones([], tf.float64)
    x = normal(5, 4)
    broken = tfd.Independent(Broken(zeros, one), 1)
    with pytest.raises(RuntimeError, match="broken"):
        tfd.TransformedDistribution(broken, bijector).log_prob(x)
    perturb(bijector)
    flow = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(zeros), bijector)
    np.testing.assert_array_equal(flow.log_prob(x), flow.log_prob(tf.identity(x)))


def test_constant_jacobians_are_declared():
    shift, affine = transformers.Shift(), transformers.Affine()
    spline, made = transformers.RationalQuadratic(), networks.MADE(3, 1)
    for bijector, expected in (
        (B.MaskedAutoregressive(made, shift), True),
        (B.InverseAutoregressive(made, transformers.Inverted(shift)), True),
        (B.MaskedAutoregressive(networks.MADE(3, 2), affine), False),
        (B.Elementwise(shift, (3,), networks.MLP(3), (2,)), True),
        (B.Elementwise(affine, (3,)), True),
        (B.Elementwise(transformers.Inverted(affine), (3,)), True),
        (B.Elementwise(affine, (3,), networks.MLP(6), (2,)), False),
        (B.Elementwise(spline, (3,)), False),
    ):
        assert bijector.is_constant_jacobian == expected, bijector


def test_initialisation_walks_through_chains_and_levels():
    bijector = multiscale("float64")
    y = 4 + 2 * normal(200, 4, 4, 2)
    z = bijector.initialize(y)
    np.testing.assert_allclose(bijector.inverse(y), z, atol=1e-12)
    norms = [m for m in bijector.submodules if isinstance(m, B.ActNorm)]
    assert len(norms) == 2 and all(bool(m.initialized) for m in norms)
    wrapped = tfb.Chain([B.ActNorm([3], dtype="float64")])
    B.Chain([wrapped]).initialize(normal(9, 3))
    assert bool(wrapped.bijectors[0].initialized)


def test_hash_and_equality_are_by_identity():
    one, two = B.Scaling([3]), B.Scaling([3])
    assert one == one and one != two
    assert {one: 1}[one] == 1 and two not in {one: 1}
