"""Rows of mixed tables under a flow: the bound against the exact density."""

from __future__ import annotations

import copy
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, stats

from tests.support import perturb
from tfp_flows import Flow, FlowModel, bijectors, distributions, flows
from tfp_flows.distributions import MixedDequantization
from tfp_flows.distributions.mixed_columns import MixedColumns

tfb = tfp.bijectors

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

COLUMNS = [["a", "b", "c"], "real", 5, "integer"]
NUMBERS = {False: 1 + 1 + 3 + 5, True: 1 + 1 + 2 + 3}
both = pytest.mark.parametrize("binary", [False, True])
EVERY = np.array(list(itertools.product(range(3), [0.3], range(5), range(-1, 3))))
# The same rows with other real numbers.
DATA = EVERY + np.linspace(-1, 1, len(EVERY))[:, None] * [0, 1, 0, 0]


def gaussian(binary, dtype="float64"):
    """Independent Gaussians; a real number, an integer, then categories."""
    mean = np.linspace(-0.6, 0.8, NUMBERS[binary])
    bijector = tfb.Chain([tfb.Shift(tf.constant(mean, dtype))])
    base = distributions.standard_normal(mean.shape, dtype)
    return Flow(base, bijectors.Chain([bijector])), mean


def exact(binary) -> np.ndarray:
    """Log-densities of `EVERY` under the Gaussians."""
    _, (real, integer, *means) = gaussian(binary)
    log_p = stats.norm.logpdf(EVERY[:, 1], real)
    cells = [stats.norm.cdf(EVERY[:, 3] + i, integer) for i in (0, 1)]
    log_p += np.log(cells[1] - cells[0])
    for column, count in ((0, 3), (2, 5)):
        width = (count - 1).bit_length() if binary else count
        own, means = np.array(means[:width]), means[width:]
        of_category = signs(own, count) if binary else largest(own)
        np.testing.assert_allclose(np.sum(of_category), 1)
        log_p += np.log(of_category)[EVERY[:, column].astype(int)]
    return log_p


def largest(means):
    """The probability of each of several Gaussians to be the largest."""

    def density(t, k):
        others = np.delete(means, k)
        return stats.norm.pdf(t, means[k]) * np.prod(stats.norm.cdf(t, others))

    return [integrate.quad(density, -9, 9, (k,))[0] for k in range(len(means))]


def signs(means, count):
    """The probability of each code, from that of each digit to be one."""
    ones = stats.norm.cdf(means)
    found = np.zeros(count)
    for digits in itertools.product((0, 1), repeat=len(means)):
        code = sum(d << i for i, d in enumerate(digits))
        p = np.prod(
            [one if d else 1 - one for one, d in zip(ones, digits, strict=True)]
        )
        found[code if code < count else code - 2 ** (len(means) - 1)] += p
    return found


def noise_flow(binary, dtype="float64"):
    columns = MixedColumns(COLUMNS, binary)
    flow = flows.iaf(
        (columns.noise_size,),
        layers=1,
        width=16,
        depth=1,
        context_shape=(columns.context_size,),
        normalize=False,
        normalize_context=False,
        base="logistic",
        seed=1,
        dtype=dtype,
    )
    perturb(flow, 0.1)
    return flow


def rows(binary, learned=True, dtype="float64", **options):
    noise = noise_flow(binary, dtype) if learned else None
    flow, _ = gaussian(binary, dtype)
    return MixedDequantization(flow, COLUMNS, noise, binary, **options)


@both
@pytest.mark.parametrize("learned", [False, True])
def test_a_bound_in_the_mean_that_rises_to_the_density(binary, learned):
    flow = rows(binary, learned)
    x = np.repeat(EVERY[::7, None], 2000, 1)
    expected = exact(binary)[::7]
    gaps, errors = [], []
    for samples in (1, 4):
        values = flow.log_prob(x, samples=samples, seed=samples).numpy()
        gaps.append(expected - values.mean(1))
        errors.append(values.std(1) / np.sqrt(values.shape[1]))
    for gap, error in zip(gaps, errors, strict=True):
        assert (gap > -4 * error).all()
    assert gaps[0].mean() > 1.5 * gaps[1].mean() > 0
    many = flow.log_prob(EVERY[::7], samples=50_000, seed=0)
    np.testing.assert_allclose(many, expected, atol=0.1)


@both
def test_probabilities_of_all_categories_add_up_to_one(binary):
    columns = [5, 3]
    size = MixedDequantization.flow_size(columns, binary)
    flow = flows.maf((size,), layers=2, width=8, normalize=False, seed=0)
    perturb(flow, 0.1)
    mixed = MixedDequantization(flow, columns, binary=binary)
    x = np.array(list(itertools.product(range(5), range(3))))
    total = np.exp(mixed.log_prob(x, samples=20_000, seed=0)).sum()
    assert total == pytest.approx(1, abs=0.05)
    # And they are the frequencies of samples.
    draws = mixed.sample(20_000, seed=1).numpy()
    shares = [(draws == row).all(1).mean() for row in x]
    p = np.exp(mixed.log_prob(x, samples=20_000, seed=0))
    np.testing.assert_allclose(shares, p, atol=0.015)
    assert np.isneginf(mixed.log_prob([[5, 0], [0, -1]], seed=0)).all()


@both
def test_lift_and_drop(binary):
    columns = MixedColumns(COLUMNS, binary)
    u = np.random.default_rng(0).normal(size=(len(EVERY), columns.noise_size)) * 2
    x, u = tf.constant(EVERY), tf.constant(u)
    with tf.GradientTape() as tape:
        tape.watch(u)
        v, log_det = columns.lift(x, u)
    np.testing.assert_array_equal(columns.drop(v), x)
    assert v.shape[1] == columns.flow_size == NUMBERS[binary]
    # But for the real number, which does not depend on the noise.
    jacobian = tape.batch_jacobian(v, u)[:, 1:]
    expected = np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(log_det, expected, rtol=1e-9, atol=1e-9)


def test_any_signs_are_those_of_one_category():
    """Of 5 in three digits: 3 in two ways, 0 to 2 in two, 4 in one."""
    columns = MixedColumns([5], binary=True)
    v = tf.constant(list(itertools.product((-1.0, 1.0), repeat=3)))
    codes, counts = np.unique(columns.drop(v), return_counts=True)
    assert codes.tolist() == [0, 1, 2, 3, 4]
    # 4 is 100; 5 to 7 count as 1 to 3.
    assert counts.tolist() == [1, 2, 2, 2, 1]


@both
def test_noise_far_out_stays_finite(binary):
    columns = MixedColumns(COLUMNS, binary)
    for size in (-100.0, 100.0):
        u = tf.fill([len(EVERY), columns.noise_size], size)
        v, log_det = columns.lift(tf.constant(EVERY, tf.float32), u)
        assert np.isfinite(v).all() and np.isfinite(log_det).all()


@both
def test_compiled_and_batch_shapes(binary):
    flow = rows(binary, samples=2)
    first = flow.log_prob(EVERY, seed=3)
    np.testing.assert_array_equal(flow.log_prob(EVERY, seed=3), first)
    assert np.abs(flow.log_prob(EVERY, seed=4) - first).min() > 0
    assert np.abs(flow.log_prob(EVERY) - flow.log_prob(EVERY)).min() > 0
    spec = [tf.TensorSpec([None, 4], tf.float64)]
    for jit in (False, True):
        run = tf.function(
            lambda x: flow.log_prob(x, seed=3), input_signature=spec, jit_compile=jit
        )
        found = run(tf.constant(EVERY))
        if not jit:
            np.testing.assert_allclose(found, first, rtol=1e-9)
        assert np.isfinite(found).all()
        assert run(tf.zeros([0, 4], tf.float64)).shape == (0,)
    for batch in ((), (6,), (2, 3), (0,), (2, 0)):
        x = np.resize(EVERY, (*batch, 4))
        assert flow.log_prob(x).shape == batch
        assert flow.sample(batch, seed=0).shape == (*batch, 4)


def test_values_stand_for_rows():
    flow = rows(False)
    expected = flow.log_prob(EVERY, seed=0)
    noisy = EVERY + np.array([0.9, 0.0, 0.9, 0.9])
    np.testing.assert_array_equal(flow.log_prob(noisy, seed=0), expected)
    # A row that is not known tells nothing of the others.
    for column in range(4):
        x = EVERY[:3].copy()
        x[1, column] = np.nan
        found = flow.log_prob(x, seed=0)
        assert np.isnan(found[1])
        np.testing.assert_array_equal(np.isfinite(found), [True, False, True])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@both
def test_gradients_reach_both_flows(binary, dtype):
    size = NUMBERS[binary]
    inner = flows.maf((size,), layers=1, width=8, normalize=False, seed=0, dtype=dtype)
    perturb(inner, 0.1)
    flow = MixedDequantization(inner, COLUMNS, noise_flow(binary, dtype), binary)
    with tf.GradientTape() as tape:
        log_prob = flow.log_prob(EVERY, seed=0)
        loss = tf.reduce_mean(log_prob)
    assert log_prob.dtype == dtype
    for gradient in tape.gradient(loss, flow.trainable_variables):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_cells_have_names():
    flow = rows(False)
    assert flow.cells([[2, 0.1, 4, -1.0]]) == [("c", 0.1, 4, -1)]
    x = flow.sample(50, seed=0)
    assert x.shape == (50, 4)
    names, _, codes, integers = zip(*flow.cells(x), strict=True)
    assert set(names) <= {"a", "b", "c"} and set(codes) <= set(range(5))
    assert {type(i) for i in integers} == {int}
    for code in (3, -1):
        with pytest.raises(ValueError, match="codes of categories from 0 to 2"):
            flow.cells([[code, 0.1, 4, -1]])
    assert flow.discrete == (True, False, True, True)
    assert flow.exactness == "bound"


def test_copies_and_checkpoints(tmp_path):
    flow = rows(False)
    flow.initialize(DATA)
    expected = flow.log_prob(EVERY, seed=0)
    deep, shared = copy.deepcopy(flow), flow.copy(samples=5)
    assert shared.samples == 5
    assert [v.ref() for v in shared.variables] == [v.ref() for v in flow.variables]
    path = tf.train.Checkpoint(flow=flow).save(str(tmp_path / "checkpoint"))
    for v in flow.variables:
        v.assign(tf.zeros_like(v))
    np.testing.assert_array_equal(deep.log_prob(EVERY, seed=0), expected)
    tf.train.Checkpoint(flow=flow).restore(path).assert_consumed()
    np.testing.assert_array_equal(flow.log_prob(EVERY, seed=0), expected)


def test_units_of_numbers_do_not_matter_to_the_noise():
    """`initialize` brings what the noise flow sees to mean 0 and deviation 1."""
    first, second = rows(False), rows(False)
    assert first.needs_initialization
    first.initialize(DATA)
    assert not first.needs_initialization
    scaled = DATA * [1, 100, 1, 1]
    _, one = first.dequantize(DATA, seed=0)
    _, two = second.dequantize(scaled, seed=0)
    assert np.abs(one - two).max() > 1e-3
    second.initialize(scaled)
    _, two = second.dequantize(scaled, seed=0)
    np.testing.assert_allclose(one, two, rtol=1e-6)


@both
def test_ready_flows(binary, tmp_path):
    dequantize = {"name": "mixed", "columns": COLUMNS, "binary": binary, "width": 8}
    flow = flows.real_nvp((4,), layers=2, width=8, seed=0, dequantize=dequantize)
    assert isinstance(flow, MixedDequantization)
    assert (flow.event_shape, flow.name) == ((4,), "real_nvp")
    assert flow.flow.event_shape == [NUMBERS[binary]]
    x = DATA.astype("float32")
    model = FlowModel(flow)
    model.compile("adam")
    model.fit(x, batch_size=20, epochs=1, verbose=0)
    # Also the noise is trained.
    assert np.abs(flow.noise_flow.trainable_variables[-1]).max() > 0
    again = flows.from_config(json.loads(json.dumps(flow.config)))
    assert again.config == flow.config
    model.save(tmp_path / "model.keras")
    from tfp_flows.training import load_model

    loaded = load_model(tmp_path / "model.keras").flow
    assert loaded.columns == (("a", "b", "c"), "real", 5, "integer")
    expected = flow.log_prob(x, seed=0)
    np.testing.assert_array_equal(loaded.log_prob(x, seed=0), expected)
    fixed = {**dequantize, "layers": 0}
    assert flows.nice((4,), width=4, dequantize=fixed).noise_flow is None


def test_context():
    dequantize = {"name": "mixed", "columns": ["real", 3]}
    flow = flows.maf((2,), width=4, num_classes=2, dequantize=dequantize, seed=0)
    perturb(flow, 0.1)
    x = np.array([[0.1, 2], [0.1, 2]])
    one, two = flow.log_prob(x, context=[0, 1], seed=0).numpy()
    assert one != two
    assert flow.given([0, 1]).sample(3, seed=0).shape == (3, 2, 2)


@pytest.mark.slow
@both
def test_learns_what_depends_on_what(binary):
    """A category decides another and the mean of a number: -2 nats less than apart."""
    draw = np.random.default_rng(0)
    a = draw.integers(0, 4, 4000)
    b = np.where(draw.random(4000) < 0.9, a, draw.integers(0, 4, 4000))
    number = a + 0.3 * draw.normal(size=4000)
    count = draw.poisson(2 + 2 * a)
    x = np.stack([a, b, number, count], 1).astype("float32")
    columns = [4, 4, "real", "integer"]
    p_b = np.where(a == b, 0.9 + 0.1 / 4, 0.1 / 4)
    log_p = np.log(p_b / 4) + stats.norm.logpdf(number, a, 0.3)
    log_p += stats.poisson.logpmf(count, 2 + 2 * a)
    dequantize = {"name": "mixed", "columns": columns, "binary": binary}
    flow = flows.neural_spline_flow(
        (4,), layers=4, width=32, seed=0, dequantize=dequantize
    )
    keras.utils.set_random_seed(0)
    model = FlowModel(flow)
    model.compile("adam")
    model.fit(x, batch_size=200, epochs=60, verbose=0)
    found = flow.log_prob(x, samples=16, seed=0).numpy().mean()
    assert log_p.mean() - 0.25 < found < log_p.mean() + 0.05
    drawn = flow.sample(4000, seed=0).numpy()
    # 0.925 in truth, a quarter if apart. An argmax gets there later than signs: 0.81
    # and 0.875 after half of these epochs, 0.87 and 0.89 after all.
    least = 0.875 if binary else 0.75
    assert least < (drawn[:, 0] == drawn[:, 1]).mean() < 0.975


def test_errors():
    flow, _ = gaussian(False)
    for error, options, words in (
        (TypeError, {"flow": flow.distribution}, "flow must be.*Independent"),
        (ValueError, {"columns": ["real", 3]}, r"over \(4,\).*\(10,\)"),
        (ValueError, {"columns": ["real", "text"]}, r"columns\[1\].*'integer'.*'text'"),
        (ValueError, {"columns": [1]}, r"columns\[0\] must be at least 2"),
        (TypeError, {"columns": [2.5]}, r"columns\[0\] must be an integer"),
        (ValueError, {"columns": [["a", "a"]]}, "different categories"),
        (ValueError, {"columns": [["a"]]}, "two or more"),
        (TypeError, {"columns": [[1, 2]]}, "names of categories"),
        (TypeError, {"columns": "real"}, "columns must be a sequence"),
        (ValueError, {"columns": ["real"] * 10}, "nothing to dequantise"),
        (ValueError, {"binary": 2}, "binary"),
        (ValueError, {"samples": 0}, "samples"),
        (TypeError, {"noise_flow": 1}, "noise_flow.*int"),
        (ValueError, {"noise_flow": flow}, r"event shape \(9,\)"),
        (ValueError, {"noise_flow": noise_flow(False, "float32")}, "dtype float64"),
    ):
        with pytest.raises(error, match=words):
            options = {"flow": flow, "columns": COLUMNS, "binary": False, **options}
            MixedDequantization(**options)
    for options, words in (
        ({"dequantize": "mixed"}, "needs columns"),
        ({"bounds": (0, 4)}, "bounds=.*not for dequantize"),
        ({"event_shape": (3,)}, r"2 columns, but the event_shape is \(3,\)"),
        ({"dequantize": {"name": "mixed", "columns": ["real", 3], "wide": 1}}, "wide"),
        ({"dequantize": {"name": "mixed", "columns": ["real"]}}, "nothing"),
    ):
        mixed = {"name": "mixed", "columns": ["real", 3]}
        with pytest.raises(ValueError, match=words):
            flows.maf(**{"event_shape": (2,), "dequantize": mixed, **options})
