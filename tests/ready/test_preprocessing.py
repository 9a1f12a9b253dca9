"""What data meet first: bounds, logits and normalisation, in any units."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tensorflow as tf

from tests.flows.support import SMALL, members
from tests.support import perturb
from tfp_flows import FlowModel, bijectors, flows, training

# New flows are looked at, which no data have initialised.
pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")

LOW, HIGH = np.array([0.0, -5.0, 100.0]), np.array([1.0, 5.0, 100.5])


def flow_of(event_shape=(3,), **options):
    options = {"layers": 2, "width": 8, "seed": 0, **options}
    return flows.real_nvp(event_shape, **options)


def within(n=7, seed=0):
    draw = np.random.default_rng(seed)
    return draw.uniform(LOW + 0.01 * (HIGH - LOW), HIGH - 0.01 * (HIGH - LOW), (n, 3))


@pytest.mark.parametrize("logit_margin", [None, 0.05])
def test_bounds_of_each_feature(logit_margin):
    options = {"logit_margin": logit_margin, "dtype": "float64"}
    flow = flow_of(bounds=(LOW, HIGH), **options)
    unit = flow_of(bounds=(0, 1), **options)
    perturb(flow), perturb(unit)
    x = within()
    u = (x - LOW) / (HIGH - LOW)
    np.testing.assert_allclose(
        flow.log_prob(x), unit.log_prob(u) - np.log(HIGH - LOW).sum(), rtol=1e-9
    )
    np.testing.assert_allclose(flow.encode(x), unit.encode(u), atol=1e-9)
    sample = flow.sample(200, seed=0).numpy()
    if logit_margin is not None:
        margin = 0.06 * (HIGH - LOW)
        assert ((sample > LOW - margin) & (sample < HIGH + margin)).all()
    again = flows.from_config(flow.config)
    assert again.config["bounds"] == [LOW.tolist(), HIGH.tolist()]
    np.testing.assert_array_equal(perturb(again).log_prob(x), flow.log_prob(x))


def test_bounds_broadcast_to_channels_and_flattened_images():
    low, high = [0.0, 10.0], [1.0, 30.0]
    x = np.random.default_rng(0).uniform(low, high, (3, 2, 2, 2)).astype("float32")
    for build, options in (
        (flows.nice, {"width": 4, "layers": 2}),
        (flows.glow, {"width": 4, "steps": 1, "event_shape": (4, 4, 2)}),
    ):
        shape = options.pop("event_shape", (2, 2, 2))
        flow = build(shape, bounds=(low, high), seed=0, **options)
        unit = build(shape, bounds=(0, 1), seed=0, **options)
        data = np.tile(x, (1, 2, 2, 1)) if shape[0] == 4 else x
        u = (data - low) / (np.subtract(high, low))
        expected = unit.log_prob(u.astype("float32"))
        expected -= np.log(20.0) * data[0, ..., 0].size
        np.testing.assert_allclose(flow.log_prob(data), expected, rtol=1e-4)


def test_heavy_tails_count_by_their_logarithm():
    draw = np.random.default_rng(0)
    x = draw.standard_t(1.5, size=(4_000, 3)) * [1.0, 100.0, 0.01] + [0.0, 7.0, 1.0]
    options = {"normalize": "heavy_tails", "dtype": "float64"}
    flow = flow_of(**options)
    z = training.initialize(flow, x).numpy()
    robust = flow_of(**{**options, "normalize": "robust"})
    far = training.initialize(robust, x).numpy()
    np.testing.assert_allclose([z.mean(0), z.std(0)], [[0] * 3, [1] * 3], atol=1e-9)
    assert np.abs(far).max() > 100 and np.abs(z).max() < 6
    # By hand: within three deviations as they are, then their logarithm.
    near = np.clip(far, -3, 3)
    by_hand = near + np.sign(far) * np.log1p(np.abs(far - near))
    expected = (by_hand - by_hand.mean(0)) / by_hand.std(0)
    # A flow is the identity at first, but for the order of its entries.
    np.testing.assert_allclose(np.sort(z, 1), np.sort(expected, 1), atol=1e-9)
    perturb(flow)
    np.testing.assert_allclose(flow.decode(flow.encode(x)), x, rtol=1e-6, atol=1e-9)
    again = flows.from_config(flow.config)
    assert again.config["normalize"] == "heavy_tails"
    with pytest.raises(ValueError, match="is for data without bounds"):
        flow_of(bounds=(LOW, HIGH), normalize="heavy_tails")


@pytest.mark.parametrize("name", ["nice", "real_nvp", "maf", "glow", "planar"])
def test_data_are_normalised_unless_there_are_bounds(name):
    small = SMALL[name]
    assert isinstance(members(small.make(0).bijector)[0], bijectors.Standardize)
    for options in ({"normalize": False}, {"bounds": (0, 1)}):
        first = members(small.make(0, **options).bijector)[0]
        assert not isinstance(first, bijectors.Standardize)
    robust = members(small.make(0, normalize="robust").bijector)[0]
    assert robust.parameters["robust"] is True


@pytest.mark.parametrize(
    ("offset", "deviation"), [(0.0, 1e-8), (3e8, 0.5), (0.0, 1e6), (-7.0, 1.0)]
)
def test_density_does_not_depend_on_units(offset, deviation):
    z = np.random.default_rng(0).standard_normal((500, 3))
    flow, plain = flow_of(dtype="float64"), flow_of(dtype="float64")
    x = offset + deviation * z
    training.initialize(flow, x)
    training.initialize(plain, z)
    perturb(flow), perturb(plain)
    expected = plain.log_prob(z) - 3 * np.log(deviation)
    np.testing.assert_allclose(flow.log_prob(x), expected, rtol=0, atol=1e-5)
    sample = (flow.sample(300, seed=1).numpy() - offset) / deviation
    np.testing.assert_allclose(sample, plain.sample(300, seed=1), atol=1e-5)


def test_training_in_small_and_large_units_is_the_same():
    """The entropy of each column is found, whatever its unit."""
    z = np.random.default_rng(0).standard_normal((512, 3))
    scales = np.array([1e-6, 1.0, 1e5])
    gains = []
    for x in (z, z * scales):
        model = FlowModel(flow_of())
        model.compile()
        history = model.fit(x.astype("float32"), epochs=2, verbose=0, shuffle=False)
        gains.append(history.history["nll"][-1])
    assert abs(gains[1] - gains[0] - np.log(scales).sum()) < 0.01
    assert abs(gains[0] - 1.5 * np.log(2 * np.pi * np.e)) < 0.2


def test_a_constant_column_is_named():
    x = np.random.default_rng(0).standard_normal((100, 3))
    x[:, 1] = 4.0
    with pytest.warns(UserWarning, match="normalize: feature 1 is constant"):
        training.initialize(flow_of(), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training.initialize(flow_of(normalize=False), x)


def test_the_state_is_saved(tmp_path):
    model = FlowModel(flow_of())
    model.compile()
    x = (np.random.default_rng(0).standard_normal((64, 3)) * 50).astype("float32")
    model.fit(x, verbose=0)
    model.save_weights(tmp_path / "m.weights.h5")
    other = FlowModel(flow_of(seed=1))
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(other.flow.log_prob(x), model.flow.log_prob(x))
    assert not training.needs_initialization(other.flow)


def test_values_of_normalisation_are_not_trained():
    flow = flow_of()
    before = len(flow_of(normalize=False).trainable_variables)
    assert len(flow.trainable_variables) == before
    assert tf.reduce_all(members(flow.bijector)[0].scale == 1)
