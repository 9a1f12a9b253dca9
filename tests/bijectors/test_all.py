"""What holds for every bijector, written once and run for each."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.bijectors.cases import CASES, Case
from tests.support import close, perturb
from tfp_flows import bijectors as B
from tfp_flows import check_bijector

tfb = tfp.bijectors
tfd = tfp.distributions

all_cases = pytest.mark.parametrize("case", CASES, ids=str)
# A case or two of each kind of bijector; the others differ in options alone.
REPRESENTATIVE = frozenset(
    {
        "additive_half",
        "affine_sigmoid",
        "affine_checkerboard",
        "scaling",
        "actnorm_image",
        "standardize",
        "batch_norm",
        "conv1x1_plu",
        "plu",
        "qr",
        "squeeze",
        "haar",
        "permutation_random",
        "logit",
        "spline_coupling",
        "logistic_mixture_coupling",
        "elementwise_context",
        "marginal_gaussianization_context",
        "masked_autoregressive",
        "inverse_autoregressive",
        "block_autoregressive",
        "multiscale_context",
        "planar",
        "radial_amortized",
        "sylvester_orthogonal",
        "residual",
        "continuous",
        "chain_context",
    }
)
# One of each kind of computation, where tracing or compiling takes long. An inverse
# autoregression computes what an autoregression does, the other way round.
COMPUTATIONS = REPRESENTATIVE - {"inverse_autoregressive"}
# Where it is the machinery around bijectors that can fail: couplings alone, in a chain
# with a context, and with a change of shape; loops over entries, and until convergence.
MACHINERY = frozenset(
    {
        "affine_checkerboard",
        "masked_autoregressive",
        "multiscale_context",
        "planar",
        "residual",
        "chain_context",
    }
)


def some_cases(cases, names=REPRESENTATIVE):
    """Parametrises over all cases, of which those that are left out are slow."""
    return pytest.mark.parametrize(
        "case",
        [
            pytest.param(c, marks=() if c.name in names else pytest.mark.slow)
            for c in cases
        ],
        ids=str,
    )


# Where it is operations that can fail: also those of splines and of matrices.
OPERATIONS = MACHINERY | {
    "conv1x1_plu",
    "qr",
    "spline_coupling",
    "sylvester_orthogonal",
}
# What traces or compiles otherwise than its like; the others would repeat them.
OTHERWISE = frozenset(
    {
        "conv1x1_dense",
        "permutation_of_rows",
        "spline_on_a_circle",
        "sum_of_squares_coupling",
        "per_entry_coupling_with_angles",
        "inverse_autoregressive",
        "planar_amortized",
        "sylvester_householder_amortized",
        "residual_conv_sine_context",
        "repeat",
    }
)
# Take long to differentiate, and differ from a faster case in options alone.
LONG = {
    "inverse_autoregressive_context",
    "logistic_mixture_inverted",
    "masked_autoregressive_chunks",
    "masked_autoregressive_context",
    "masked_autoregressive_film",
    "multiscale",
    "per_entry_autoregressive",
    "residual_any_contraction",
    "residual_conv_sine_context",
    "residual_elu_context",
    "spline_autoregressive_context",
    "spline_inverse_autoregressive",
    "sylvester_orthogonal_amortized",
}
TRACED = [c for c in CASES if c.name in COMPUTATIONS | MACHINERY | OTHERWISE]
differentiated_cases = some_cases(CASES, {c.name for c in CASES} - LONG)
differentiated_trainable_cases = some_cases(
    [c for c in CASES if c.trainable], {c.name for c in CASES} - LONG
)
representative_cases = some_cases(CASES)
computations = some_cases(TRACED, COMPUTATIONS)
# The same, with the rest of one of each kind as slow ones: more would repeat them.
machinery_of_each_kind = some_cases(
    [c for c in CASES if c.name in COMPUTATIONS | MACHINERY], MACHINERY
)
# What samples has no training mode of its own.
ONE_WAY = {"batch_norm", "batch_norm_image"}
WITH_TRAINING = [c for c in CASES if c.name.startswith(("batch_norm", "residual"))]
representative_trainable_cases = some_cases([c for c in CASES if c.trainable])
trainable_machinery = some_cases(
    [c for c in CASES if c.trainable and c.name in COMPUTATIONS | MACHINERY], MACHINERY
)
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


def new(x):
    """The same numbers in a tensor that no cache has seen."""
    return tf.constant(x.numpy())


def base_of(case: Case, dtype="float64"):
    """Noise that also stays on a circle, whose bijectors wrap what is outside."""
    shape = case.noise_shape or case.data_shape
    half = tf.constant(0.5, dtype)
    return tfd.Independent(tfd.Normal(tf.zeros(shape, dtype), half), len(shape))


def extra_ndims(case: Case, bijector) -> int:
    """Event dimensions beyond the minimum (a scalar bijector on vectors)."""
    return len(case.data_shape) - bijector.inverse_min_event_ndims


@differentiated_cases
def test_log_det_equals_autodiff(case):
    bijector = case.make()
    keywords = case.keywords((2,))
    # One event of noise, and the noise of one of data.
    z = bijector.inverse(case.data((2,)), **keywords)
    x = tf.concat([case.noise((1,)), z[1:]], 0)
    report = check_bijector(
        bijector, x, event_ndims=x.shape.rank - 1, tolerance=1e-8, **keywords
    )
    report.raise_if_bad()
    assert None not in (report.forward_log_det, report.inverse_log_det)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(
            case, dtype, marks=() if case.name in REPRESENTATIVE else pytest.mark.slow
        )
        for dtype in ("float64", "float32")
        for case in CASES
    ],
    ids=str,
)
def test_round_trip_before_and_after_training(case, dtype):
    bijector = case.make(dtype, perturbed=False)
    keywords = case.keywords(dtype=dtype)
    x, y = case.noise(dtype=dtype), case.data(dtype=dtype)
    tolerance = TOLERANCE[dtype]
    for trained in (False, True):
        there, fldj = bijector.forward_and_log_det(x, **keywords)
        back, ildj = bijector.inverse_and_log_det(new(there), **keywords)
        assert there.dtype == back.dtype == fldj.dtype == tf.as_dtype(dtype)
        close(back, x, tolerance)
        scale = max(1.0, float(tf.reduce_max(tf.abs(fldj))))
        close(fldj / scale, -ildj / scale, tolerance)
        z = bijector.inverse(y, **keywords)
        size = max(1.0, float(tf.reduce_max(tf.abs(y))))
        close(bijector.forward(new(z), **keywords) / size, y / size, tolerance)
        if trained or not case.trainable:
            break
        perturb(bijector, 0.05, seed=0)
        with tf.GradientTape() as tape:
            z, ildj = bijector.inverse_and_log_det(y, **keywords)
            loss = tf.reduce_mean(tf.square(z)) - 0.1 * tf.reduce_mean(ildj)
        variables = bijector.trainable_variables
        for v, g in zip(variables, tape.gradient(loss, variables), strict=True):
            if g is not None:
                v.assign_sub(0.05 * g)


@differentiated_trainable_cases
def test_every_variable_exists_and_gets_gradients(case):
    bijector = case.make()
    variables = bijector.trainable_variables
    assert variables
    before = {v.ref() for v in bijector.variables}
    keywords = case.keywords()
    x, y = case.noise(), case.data()
    assert len({v.ref() for v in variables}) == len(variables)
    reached = {"forward": set(), "inverse": set(), "fldj": set(), "ildj": set()}
    with tf.GradientTape(persistent=True) as tape:
        out, fldj = bijector.forward_and_log_det(x, **keywords)
        z, ildj = bijector.inverse_and_log_det(y, **keywords)
        weight = tf.constant(np.random.default_rng(5).standard_normal(out.shape))
        targets = {
            "forward": tf.reduce_sum(weight * out),
            "inverse": tf.reduce_sum(tf.reshape(weight, z.shape) * tf.sin(z)),
            "fldj": tf.reduce_sum(fldj * tf.range(1.0, 6.0, dtype=fldj.dtype)),
            "ildj": tf.reduce_sum(ildj * tf.range(1.0, 6.0, dtype=ildj.dtype)),
        }
    for name, target in targets.items():
        gradients = tape.gradient(target, variables)
        for v, g in zip(variables, gradients, strict=True):
            if g is not None and np.abs(g.numpy()).max() > 0:
                reached[name].add(v.ref())
    everything = {v.ref() for v in variables}
    assert reached["forward"] == everything
    assert reached["inverse"] == everything
    # What one log-determinant depends on, so does the other; in a composition, where
    # a member's depends on what the members before it do, that need not be.
    if not any(isinstance(m, tfb.Bijector) for m in bijector.submodules):
        assert reached["fldj"] == reached["ildj"]
    assert {v.ref() for v in bijector.variables} == before


@some_cases(TRACED, MACHINERY - {"multiscale_context"})
def test_eager_function_and_xla_agree(case):
    bijector = case.make()
    keywords = case.keywords()
    x, y = case.noise(), case.data()

    def both(x, y, **keywords):
        return (
            bijector.forward_and_log_det(x, **keywords),
            bijector.inverse_and_log_det(y, **keywords),
        )

    eager = both(x, y, **keywords)
    for jit in (False, True):
        traced = tf.function(both, jit_compile=jit)(x, y, **keywords)
        tf.nest.map_structure(lambda a, b: close(a, b, 1e-9), eager, traced)


def results_and_gradients(chain, method, value, keywords):
    """Both results; of a function of them: by value, context and variables."""
    floating = {k: v for k, v in keywords.items() if k == "context"}
    sources = [value, *floating.values(), *chain.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch([value, *floating.values()])
        result, log_det = getattr(chain, method)(value, **keywords)
        weights = tf.cast(tf.range(1, 1 + tf.size(log_det)), log_det.dtype)
        loss = tf.reduce_sum(tf.sin(result)) + tf.reduce_sum(
            tf.reshape(log_det, [-1]) * weights
        )
    gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
    return [result, log_det, *gradients]


@representative_cases
def test_gradients_that_recompute(case):
    bijector = case.make()
    assert ("training" in bijector.keywords) == (case in WITH_TRAINING)
    compare_recomputed(case, bijector, case.keywords((3,)))


@some_cases(WITH_TRAINING, {c.name for c in WITH_TRAINING} - LONG)
def test_gradients_that_recompute_in_training(case):
    bijector = case.make()
    keywords = {**case.keywords((3,)), "training": True}
    if "seed" in bijector.keywords:
        keywords["seed"] = 5
    compare_recomputed(case, bijector, keywords, training=True)


def compare_recomputed(case, bijector, keywords, training=False):
    plain = B.Chain([bijector])
    frugal = B.Chain([bijector], recompute_gradients=True)
    for method, value in (
        ("inverse_and_log_det", case.data((3,))),
        ("forward_and_log_det", case.noise((3,))),
    ):
        if training and method.startswith("forward") and case.name in ONE_WAY:
            continue
        state = [v.numpy() for v in bijector.non_trainable_variables]
        expected = results_and_gradients(plain, method, value, keywords)
        after = [v.numpy() for v in bijector.non_trainable_variables]
        for v, before in zip(bijector.non_trainable_variables, state, strict=True):
            v.assign(before)
        found = results_and_gradients(frugal, method, value, keywords)
        for a, b in zip(found, expected, strict=True):
            close(a, b)
        # What training changes is changed once.
        for v, once in zip(bijector.non_trainable_variables, after, strict=True):
            np.testing.assert_array_equal(v, once)


@representative_cases
def test_batch_shapes(case):
    bijector = case.make()
    y = case.data((6,))
    keywords = case.keywords((6,))
    z, ildj = bijector.inverse_and_log_det(y, **keywords)
    extra = extra_ndims(case, bijector)
    assert ildj.shape == (6, *case.data_shape[:extra])
    z_event = tf.TensorShape(case.noise_shape or case.data_shape)
    for batch in ((), (6,), (2, 3), (0,), (2, 0)):
        count = int(np.prod(batch))
        if count == 0:
            part, kept = y[:0], {k: v[:0] for k, v in keywords.items()}
        else:
            part, kept = y[:count], {k: v[:count] for k, v in keywords.items()}
        part = tf.reshape(part, [*batch, *case.data_shape])
        kept = {k: tf.reshape(v, [*batch, *v.shape[1:]]) for k, v in kept.items()}
        eager = bijector.inverse_and_log_det(part, **kept)
        assert eager[0].shape == (*batch, *z_event)
        assert eager[1].shape == (*batch, *case.data_shape[:extra])
        close(tf.reshape(eager[0], [count, *z_event]), z[:count])
        close(tf.reshape(eager[1], [count, *case.data_shape[:extra]]), ildj[:count])
        back = bijector.forward(new(eager[0]), **kept)
        assert back.shape == part.shape
    assert bijector.inverse_event_shape(case.data_shape) == z_event
    assert bijector.forward_event_shape(z_event) == case.data_shape
    np.testing.assert_array_equal(
        bijector.inverse_event_shape_tensor(case.data_shape), z_event
    )
    np.testing.assert_array_equal(
        bijector.forward_event_shape_tensor(z_event), case.data_shape
    )


def both_directions(bijector):
    """`(x, y, keywords) -> results of both directions`, four tensors."""

    def both(x, y, keywords):
        return (
            *bijector.forward_and_log_det(x, **keywords),
            *bijector.inverse_and_log_det(y, **keywords),
        )

    return both


@some_cases(TRACED, OPERATIONS - {"multiscale_context", "sylvester_orthogonal"})
def test_unknown_batch_dimensions(case):
    """Both directions know nothing of the batch, or of two batch dimensions."""
    bijector = case.make()
    evaluate = both_directions(bijector)
    given = case.noise((6,)), case.data((6,)), case.keywords((6,))
    expected = evaluate(*given)
    ranks = [e.shape.rank - 1 for e in expected]

    def both(x, y, keywords):
        results = evaluate(x, y, keywords)
        batch_rank = x.shape.rank - len(given[0].shape[1:])
        assert [r.shape.rank - batch_rank for r in results] == ranks
        # What is known of an event stays known.
        for result, of_event in ((results[0], given[1]), (results[2], given[0])):
            assert result.shape[batch_rank:] == of_event.shape[1:]
        return results

    def reshaped(nest, rank, batch):
        return tf.nest.map_structure(
            lambda x: tf.reshape(x, [*batch, *x.shape[rank:]]), nest
        )

    def traced(batch):
        signature = of_batches(batch, given)
        return tf.function(both, signature, autograph=False)

    one = traced([None])
    for n in (6, 2, 0):
        got = one(*tf.nest.map_structure(lambda x, n=n: x[:n], given))
        for a, b in zip(got, expected, strict=True):
            close(a, b[:n])
    got = traced([None, None])(*reshaped(given, 1, (2, 3)))
    tf.nest.map_structure(close, reshaped(got, 2, (6,)), expected)


def of_batches(batch, nest):
    """What is known of tensors but for their first dimension."""
    return tf.nest.map_structure(
        lambda x: tf.TensorSpec([*batch, *x.shape[1:]], x.dtype), nest
    )


@some_cases([c for c in CASES if c.name in COMPUTATIONS], {"planar"})
def test_unknown_batches_under_xla(case):
    """In training, too: of loops and their gradients XLA knows even fewer shapes."""
    bijector = case.make()
    evaluate = both_directions(bijector)

    def both(x, y, keywords):
        with tf.GradientTape() as tape:
            tape.watch(y)
            results = evaluate(x, y, keywords)
            loss = tf.add_n([tf.reduce_sum(r) for r in results[2:]])
        sources = [y, *bijector.trainable_variables]
        zero = tf.UnconnectedGradients.ZERO
        return results, tape.gradient(loss, sources, unconnected_gradients=zero)

    given = case.noise((6,)), case.data((6,)), case.keywords((6,))
    signature = of_batches([None], given)
    compiled = tf.function(both, signature, autograph=False, jit_compile=True)
    tf.nest.map_structure(close, compiled(*given), both(*given))


@computations
def test_empty_batches(case):
    compare_empty(case, lambda f: f, lambda f: tf.function(f, autograph=False))


@machinery_of_each_kind
def test_empty_batches_under_xla(case):
    compare_empty(case, lambda f: tf.function(f, autograph=False, jit_compile=True))


def compare_empty(case, *runs):
    dtype = "float32"
    bijector = case.make(dtype)
    both = both_directions(bijector)
    given = [
        case.noise((0,), dtype),
        case.data((0,), dtype),
        case.keywords((0,), dtype),
    ]
    extra = extra_ndims(case, bijector)
    log_dets = (0, *case.data_shape[:extra])
    noise = case.noise_shape or case.data_shape
    shapes = (0, *case.data_shape), log_dets, (0, *noise), log_dets
    for run in runs:
        results = run(both)(*given)
        assert tuple(tuple(r.shape) for r in results) == shapes
        assert all(r.dtype == dtype for r in results)


@machinery_of_each_kind
def test_gradients_of_empty_batches(case):
    """Zeros for the variables, which no example moves, and nothing for no example."""
    bijector = case.make("float32")
    variables = bijector.trainable_variables
    # The statistics of no example are none.
    trains = "training" in bijector.keywords and not case.name.startswith("batch_norm")
    options = {"training": True} if trains else {}

    def gradients(y, keywords):
        with tf.GradientTape() as tape:
            tape.watch(y)
            x, log_det = bijector.inverse_and_log_det(y, **keywords, **options)
            loss = tf.reduce_sum(tf.square(x)) - tf.reduce_sum(log_det)
        return tape.gradient(loss, [y, *variables], unconnected_gradients="zero")

    given = case.data((0,), "float32"), case.keywords((0,), "float32")
    y = given[0]
    signature = of_batches([None], given)
    for method in (
        gradients,
        tf.function(gradients, autograph=False),
        tf.function(gradients, signature, autograph=False),
    ):
        of_y, *of_variables = method(*given)
        assert of_y.shape == y.shape
        for v, g in zip(variables, of_variables, strict=True):
            assert g.shape == v.shape
            np.testing.assert_array_equal(g, np.zeros(v.shape))


@representative_cases
def test_a_nan_gives_a_nan_log_determinant(case):
    """For its event alone, wherever it stands."""
    bijector = case.make()
    keywords = case.keywords((4,))
    for method, value in (
        (bijector.forward_and_log_det, case.noise((4,))),
        (bijector.inverse_and_log_det, case.data((4,))),
    ):
        for place in (0, -1):
            x = value.numpy()
            x.reshape(4, -1)[2, place] = np.nan
            result, log_det = method(tf.constant(x), **keywords)
            missing = np.isnan(np.reshape(log_det, (4, -1))).any(-1)
            np.testing.assert_array_equal(missing, [False, False, True, False])
            assert np.isnan(np.reshape(result, (4, -1))[2]).any()


@some_cases(
    [c for c in CASES if c.name in COMPUTATIONS | MACHINERY],
    {"affine_checkerboard", "planar", "residual"},
)
def test_in_a_graph_of_tensorflow_1(case):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        bijector = case.build("float64")
        both = both_directions(bijector)
        x, y, keywords = case.noise(), case.data(), case.keywords()
        there = bijector.forward_and_log_det(x, **keywords)
        back = bijector.inverse_and_log_det(y, **keywords)
        again = both(back[0], there[0], keywords)
        session.run(tf.compat.v1.global_variables_initializer())
        draw = np.random.default_rng(7)
        for v in bijector.trainable_variables:
            noise = 0.2 * draw.standard_normal(v.shape)
            session.run(v.assign_add(tf.constant(noise, v.dtype)))
        x, y, there, back, again = session.run([x, y, there, back, again])
    y_again, fldj, x_again, ildj = again
    close(x_again, x)
    close(y_again, y)
    close(ildj, -there[1])
    close(fldj, -back[1])


@representative_cases
def test_inside_tfp(case):
    bijector = case.make()
    keywords = case.keywords()
    y = case.data()
    z, ildj = bijector.inverse_and_log_det(y, **keywords)
    ndims = len(case.data_shape)
    ildj = tf.reduce_sum(ildj, axis=list(range(-extra_ndims(case, bijector), 0)))
    base = base_of(case)
    expected = base.log_prob(z) + ildj

    alone = tfd.TransformedDistribution(base, bijector)
    chain = tfb.Chain([bijector])
    chained = tfd.TransformedDistribution(base, chain)
    for distribution, given in (
        (alone, keywords),
        (chained, {bijector.name: keywords} if keywords else {}),
    ):
        got = distribution.log_prob(new(y), bijector_kwargs=given)
        close(got, expected)
        sample, log_prob = distribution.experimental_sample_and_log_prob(
            5, seed=1, bijector_kwargs=given
        )
        assert sample.shape == (5, *case.data_shape)
        close(distribution.log_prob(new(sample), bijector_kwargs=given), log_prob, 1e-8)
    inverted = tfb.Invert(bijector)
    close(inverted.forward(y, **keywords), z)
    close(inverted.forward_log_det_jacobian(y, ndims, **keywords), ildj)
    if not keywords:
        joint = tfd.JointDistributionSequential(
            [alone, lambda x: tfd.Normal(tf.reduce_sum(x), tf.ones([], x.dtype))]
        )
        sample = joint.sample(seed=2)
        close(
            joint.log_prob(sample),
            alone.log_prob(sample[0])
            + tfd.Normal(tf.reduce_sum(sample[0]), tf.ones([], y.dtype)).log_prob(
                sample[1]
            ),
        )


@representative_trainable_cases
def test_copy_shares_and_deepcopy_does_not(case):
    bijector = case.make()
    keywords = case.keywords()
    y = case.data()
    before = bijector.inverse(y, **keywords)
    shared = bijector.copy(name="other")
    deep = copy.deepcopy(bijector)
    assert shared.name == "other"
    assert {v.ref() for v in shared.variables} == {v.ref() for v in bijector.variables}
    assert len(deep.variables) == len(bijector.variables)
    assert not {v.ref() for v in deep.variables} & {v.ref() for v in bijector.variables}
    close(deep.inverse(y, **keywords), before)
    perturb(bijector)
    after = bijector.inverse(y, **keywords)
    close(shared.inverse(y, **keywords), after)
    close(deep.inverse(y, **keywords), before)
    assert np.abs(after - before).max() > 1e-6


@machinery_of_each_kind
def test_checkpoint_and_saved_model(case, tmp_path):
    bijector = case.make()
    keywords = case.keywords()
    y = case.data()
    z = bijector.inverse(y, **keywords)
    path = tf.train.Checkpoint(b=bijector).save(str(tmp_path / "checkpoint"))
    other = case.make(perturbed=False)
    tf.train.Checkpoint(b=other).restore(path).assert_consumed()
    np.testing.assert_array_equal(other.inverse(y, **keywords), z)

    module = tf.Module()
    module.bijector = bijector
    module.inverse = tf.function(
        lambda y, **keywords: bijector.inverse(y, **keywords), autograph=False
    )
    module.inverse.get_concrete_function(
        tf.TensorSpec([None, *case.data_shape], tf.float64),
        **{
            k: tf.TensorSpec([None, *v.shape[1:]], v.dtype, k)
            for k, v in keywords.items()
        },
    )
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    close(loaded.inverse(y, **keywords), z, 1e-12)


@trainable_machinery
def test_nothing_is_stale_after_a_variable_changes(case):
    bijector = case.make()
    keywords = case.keywords()
    y = case.data()
    tfp_keywords = {bijector.name: keywords} if keywords else {}
    chained = tfd.TransformedDistribution(base_of(case), tfb.Chain([bijector]))
    alone = tfd.TransformedDistribution(base_of(case), bijector)
    kept = (
        bijector.inverse(y, **keywords),
        chained.bijector.inverse(y, **tfp_keywords),
        alone.log_prob(y, bijector_kwargs=keywords),
        chained.log_prob(y, bijector_kwargs=tfp_keywords),
    )
    perturb(bijector)
    fresh = new(y)
    close(bijector.inverse(y, **keywords), bijector.inverse(fresh, **keywords), 0)
    assert np.abs(bijector.inverse(y, **keywords) - kept[0]).max() > 1e-6
    close(
        bijector.forward(kept[0], **keywords),
        bijector.forward(new(kept[0]), **keywords),
        0,
    )
    for distribution, given in ((alone, keywords), (chained, tfp_keywords)):
        close(
            distribution.log_prob(y, bijector_kwargs=given),
            distribution.log_prob(fresh, bijector_kwargs=given),
            0,
        )


@trainable_machinery
@pytest.mark.parametrize(
    "compose",
    [
        pytest.param(lambda b: b, id="own", marks=pytest.mark.slow),
        pytest.param(lambda b: tfb.Chain([b]), id="tfb.Chain"),
    ],
)
def test_eager_loop_over_one_tensor_trains_rightly(case, compose):
    losses = []
    for fresh in (False, True):
        bijector = case.make()
        composed = compose(bijector)
        distribution = tfd.TransformedDistribution(base_of(case), composed)
        given = case.keywords()
        given = (
            given if composed is bijector else {bijector.name: given} if given else {}
        )
        y = case.data()
        variables = bijector.trainable_variables
        track = []
        for _ in range(3):
            with tf.GradientTape() as tape:
                value = new(y) if fresh else y
                log_prob = distribution.log_prob(value, bijector_kwargs=given)
                loss = -tf.reduce_mean(log_prob)
            track.append(float(loss))
            # Small enough a step for the steepest of losses.
            steps, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), 1.0)
            for v, step in zip(variables, steps, strict=True):
                v.assign_sub(0.01 * step)
        losses.append(track)
    assert losses[0] == losses[1]
    assert losses[0][2] < losses[0][0]


@machinery_of_each_kind
def test_gradient_at_a_sample_just_drawn(case):
    bijector = case.make()
    keywords = case.keywords()
    given = {bijector.name: keywords} if keywords else {}
    for b, k in ((bijector, keywords), (tfb.Chain([bijector]), given)):
        distribution = tfd.TransformedDistribution(base_of(case), b)
        with tf.GradientTape(persistent=True) as tape:
            y = distribution.sample(5, seed=1, bijector_kwargs=k)
            tape.watch(y)
            log_prob = distribution.log_prob(y, bijector_kwargs=k)
        copied = new(y)
        with tf.GradientTape() as other:
            other.watch(copied)
            expected = distribution.log_prob(copied, bijector_kwargs=k)
        close(tape.gradient(log_prob, y), other.gradient(expected, copied), 1e-8)


@representative_cases
def test_second_order_gradients(case):
    bijector = case.make()
    keywords = case.keywords((1,))
    y = case.data((1,))
    direction = case.data((1,), seed=9)

    def slope(y):
        with tf.GradientTape() as tape:
            tape.watch(y)
            z, ildj = bijector.inverse_and_log_det(y, **keywords)
            value = tf.reduce_sum(tf.square(z)) + tf.reduce_sum(ildj)
        return tf.reduce_sum(tape.gradient(value, y) * direction)

    with tf.GradientTape() as tape:
        tape.watch(y)
        first = slope(y)
    second = tf.reduce_sum(tape.gradient(first, y) * direction)
    step = 1e-5
    numeric = (slope(y + step * direction) - slope(y - step * direction)) / (2 * step)
    close(second, numeric, 1e-5)


# A loop over entries, and a basis, are mapped for long.
@some_cases(
    TRACED,
    OPERATIONS
    - {"masked_autoregressive", "multiscale_context", "sylvester_orthogonal"},
)
def test_vectorized_map(case):
    bijector = case.make()
    both = both_directions(bijector)
    given = case.noise(), case.data(), case.keywords()
    got = tf.vectorized_map(lambda one: both(*one), given)
    tf.nest.map_structure(close, got, both(*given))


# By default what has one network, and what searches for a root.
@some_cases(
    [c for c in CASES if c.name in COMPUTATIONS | MACHINERY],
    {"affine_checkerboard", "masked_autoregressive", "planar", "chain_context"},
)
def test_threads(case):
    bijector = case.make()
    distribution = tfd.TransformedDistribution(base_of(case), bijector)
    inputs = [case.data(seed=i) for i in range(8)]
    given = case.keywords()

    def run(y):
        return distribution.log_prob(y, bijector_kwargs=given)

    expected = [run(y) for y in inputs]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(run, inputs * 3), expected * 3, strict=True):
            np.testing.assert_array_equal(got, want)


@all_cases
def test_wrong_input_raises(case):
    bijector = case.make()
    keywords = case.keywords()
    y = case.data()
    assert isinstance(type(bijector).parameter_properties(), dict)
    with pytest.raises(TypeError, match=r"unknown keyword.*'contxt'"):
        bijector.inverse(y, contxt=1.0, **keywords)
    with pytest.raises(TypeError, match="dtype"):
        bijector.inverse(tf.cast(y, tf.int32), **keywords)
    with pytest.raises(ValueError, match="None"):
        bijector.forward_and_log_det(None, **keywords)
    if bijector.inverse_min_event_ndims:
        with pytest.raises(ValueError, match="at least"):
            bijector.inverse(tf.zeros([], y.dtype), **keywords)
        with pytest.raises(ValueError, match="event_ndims"):
            bijector.inverse_log_det_jacobian(
                y, bijector.inverse_min_event_ndims - 1, **keywords
            )
    if bijector._output_event_shape is not None:
        wrong = (*case.data_shape[:-1], case.data_shape[-1] + 1)
        if bijector._output_event_shape[-1] is None:
            wrong = (case.data_shape[0] + 1, *case.data_shape[1:])
        with pytest.raises(ValueError, match="must end in"):
            bijector.inverse(tf.zeros((5, *wrong), y.dtype), **keywords)
    if keywords:
        with pytest.raises(ValueError, match="context is required"):
            bijector.inverse(y)
        with pytest.raises(ValueError, match="context must end in"):
            bijector.inverse(y, context=tf.zeros((5, 9), y.dtype))
        with pytest.raises(ValueError, match="batch shape"):
            bijector.inverse(y, context=tf.zeros((4, *case.context_shape), y.dtype))
    else:
        with pytest.raises(TypeError, match="unknown keyword"):
            bijector.inverse(y, context=y)


@pytest.mark.parametrize("case", [c for c in CASES if c.context_shape], ids=str)
def test_context_broadcasts_and_matters(case):
    bijector = case.make()
    y = case.data()
    one = case.keywords(())
    all_alike = {"context": tf.broadcast_to(one["context"], (5, *case.context_shape))}
    expected = bijector.inverse_and_log_det(y, **all_alike)
    got = bijector.inverse_and_log_det(y, **one)
    tf.nest.map_structure(close, got, expected)
    many = bijector.inverse(y[0], **case.keywords())
    assert many.shape == expected[0].shape
    assert np.abs(many[0] - many[1]).max() > 1e-6


def test_cases_cover_every_bijector():
    def parts(b):
        return (b, *b.submodules)

    built = {type(part) for case in CASES for part in parts(case.build("float64"))}
    public = {getattr(B, name) for name in B.__all__}
    bijectors = {
        c for c in public if isinstance(c, type) and issubclass(c, tfb.Bijector)
    }
    # Surfaces have fewer dimensions than entries, or no ends: `test_surfaces.py`.
    assert bijectors - built == {B.JointBijector, B.Simplex, B.Sphere, B.Torus}
