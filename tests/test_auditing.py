"""Reported likelihoods whose conversion is known."""

from __future__ import annotations

import math

import pytest
import tensorflow as tf

import tfp_flows
from tfp_flows import audit_likelihood

MNIST = {"event_shape": (28, 28, 1), "dequantized": True}
LOG_256 = math.log(256)


def nice(value=1980.5, **options):
    return audit_likelihood(value, **{**MNIST, "pixels": (0, 1), **options})


def test_a_published_loss_without_its_constant():
    """D / 2 log(2 pi) = 720.4 nats for 784 pixels."""
    found = nice(-2200, quantity="loss", dropped="gaussian")
    assert found.nats_unit == pytest.approx(2200 - 720.4, abs=0.1)
    assert found.nats_unit == pytest.approx(1480, abs=0.5)
    assert found.bits_per_dim == pytest.approx(5.277, abs=1e-3)
    assert found.better_than(nice()) == pytest.approx(1479.6 - 1980.5, abs=0.1)
    assert "-720.4 nats were added for the constant left out" in str(found)


def test_the_paper():
    found = nice()
    assert found.nats_unit == pytest.approx(1980.5)
    assert found.nats == pytest.approx(1980.5 - 784 * LOG_256)
    # README: a NICE with 1784.1 nats of pixels in [0, 1] has 4.717 bits.
    assert nice(1784.1).bits_per_dim == pytest.approx(4.717, abs=1e-3)
    assert found.comparable and "NOT" not in str(found)


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (1980.5, {"pixels": (0, 1)}),
        (1980.5 - 784 * math.log(2), {"pixels": (-1, 1)}),
        (1980.5 - 784 * LOG_256, {"pixels": (0, 256)}),
        (1980.5 - 784 * LOG_256, {"pixels": (0, 255)}),
        (1980.5 / math.log(2), {"unit": "bits"}),
        (-1980.5 / 784 / math.log(2), {"unit": "bits_per_dim"}),
        (-1980.5 / 784 / math.log(2), {"unit": "bits_per_dim", "quantity": "loss"}),
        (8 - 1980.5 / 784 / math.log(2), {"unit": "bits_per_dim", "pixels": (0, 255)}),
        (1970.5, {"dropped": 10.0}),
        (1970.5, {"log_det": 10.0}),
        (-1980.5, {"quantity": "loss"}),
        (1980.5, {"event_shape": 784}),
    ],
)
def test_one_number_in_many_units(value, options):
    found = nice(value, **options)
    assert found.nats_unit == pytest.approx(1980.5)
    assert found.bits_per_dim == pytest.approx(4.3556, abs=1e-4)


def test_as_a_flow_says():
    """Scaling the pixels in front of a flow and scaling its density are the same."""
    stored = tfp_flows.flows.nice((3,), width=4, bounds=(0, 256), seed=0)
    x = stored.sample(1, seed=0)
    scale = tfp_flows.bijectors.Scaling(log_scale=-tf.fill([3], tf.math.log(256.0)))
    unit = tfp_flows.Flow(
        stored.distribution, tfp_flows.bijectors.Chain([scale, stored.bijector])
    )
    reported = float(unit.log_prob(x / 256)[0])
    found = audit_likelihood(reported, 3, pixels=(0, 1), dequantized=True)
    assert found.nats == pytest.approx(float(stored.log_prob(x)[0]), abs=1e-3)
    bits = float(stored.bits_per_dim(x)[0])
    assert found.bits_per_dim == pytest.approx(bits, abs=1e-3)


def test_other_levels():
    found = audit_likelihood(0.0, 64, pixels=(0, 1), dequantized=True, levels=17)
    assert found.bits_per_dim == pytest.approx(math.log2(17))
    assert found.nats_unit == pytest.approx(0.0)
    with pytest.raises(ValueError, match="64 entries with 17 levels, got 784 with 256"):
        found.better_than(nice())


def test_not_comparable():
    raw = nice(3000.0, dequantized=False)
    assert not raw.comparable and "without noise" in str(raw)
    # Pixels divided by 255.
    assert raw.nats == pytest.approx(3000 - 784 * math.log(255))
    unknown = nice(dequantized=None)
    assert not unknown.comparable and "not said" in str(unknown)
    assert unknown.nats == nice().nats
    for one, other in ((raw, nice()), (nice(), unknown)):
        with pytest.raises(ValueError, match="is not comparable"):
            one.better_than(other)


def test_impossible():
    """Pixels in [0, 1] reported as if they were in [0, 256]."""
    found = nice(1980.5, pixels=(0, 256))
    assert found.bits_per_dim < 0 and not found.comparable
    assert "Below 0 bits" in str(found)
    assert "Worse than the uniform density, 8 bits" in str(nice(-10.0))


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("pixels must be .low, high., got 255", {"pixels": 255}),
        ("pixels must be .low, high. with low < high", {"pixels": (1, 0)}),
        ("value must be finite, got nan", {"value": math.nan}),
        ("unit must be one of 'nats', ", {"unit": "bpd"}),
        ("quantity must be one of 'log_likelihood', 'loss'", {"quantity": "nll"}),
        ("dropped must be one of 'nothing', 'gaussian'", {"dropped": "logistic"}),
        ("dequantized must be one of True, False, None", {"dequantized": "yes"}),
        ("levels must be at least 2", {"levels": 1}),
        ("event_shape.0. must be at least 1", {"event_shape": 0}),
    ],
)
def test_errors(words, options):
    with pytest.raises(ValueError, match=words):
        nice(**options)
