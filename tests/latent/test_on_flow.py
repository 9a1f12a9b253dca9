"""Flows on top of flows, and round trips between two sets."""

from __future__ import annotations

import numpy as np
import pytest

from tests.flows.support import SMALL
from tests.latent.support import linear_flow
from tests.support import close_to_largest, perturb
from tfp_flows import FlowModel, flows, latent, training
from tfp_flows.distributions import standard_normal


def test_density_of_two_scalings():
    flow = latent.on_flow(linear_flow((3,), 2.0), linear_flow((3,), 5.0))
    x = np.array([[1.0, -20.0, 3.0]])
    close_to_largest(flow.log_prob(x), linear_flow((3,), 10.0).log_prob(x))
    # Codes are data of the base.
    close_to_largest(flow.encode(x), x / 2)


def test_round_trip():
    base = SMALL["nice"].make(dtype="float64")
    top = perturb(flows.real_nvp((4,), width=4, seed=1, dtype="float64"))
    flow = latent.on_flow(top, base)
    x = SMALL["nice"].data(3)
    close_to_largest(flow.decode(flow.encode(x)), x)
    assert np.abs(flow.encode(x) - x).max() > 0.01
    assert len(flow.trainable_variables) == len(
        [*top.trainable_variables, *base.trainable_variables]
    )


def test_freezing():
    base = flows.nice((2,), layers=2, width=4, seed=0)
    top = flows.real_nvp((2,), layers=2, width=4, seed=1)
    model = FlowModel(latent.on_flow(top, base))
    for frozen, kept in ((base, top), (top.bijector, base)):
        training.freeze(model, frozen)
        names = sorted(id(v.value) for v in model.trainable_variables)
        assert names == sorted(id(v) for v in kept.trainable_variables)
        training.freeze(model, frozen, trainable=True)
        assert len(model.trainable_variables) == len(model.flow.trainable_variables)


@pytest.mark.slow
def test_only_the_top_is_trained():
    base = perturb(flows.nice((2,), layers=2, width=4, normalize=False, seed=0))
    top = flows.real_nvp((2,), layers=2, width=4, normalize=False, seed=1)
    draw = np.random.default_rng(0)
    training.initialize(base, draw.normal(size=(64, 2)))
    model = FlowModel(latent.on_flow(top, base))
    training.freeze(model, base)
    model.compile("adam")
    before = [v.numpy() for v in base.variables]
    start = [v.numpy() for v in top.trainable_variables]
    model.fit(draw.normal(3, 1, size=(32, 2)), epochs=1, verbose=0)
    for v, old in zip(base.variables, before, strict=True):
        np.testing.assert_array_equal(v, old)
    assert any(
        np.abs(v - old).max() > 0
        for v, old in zip(top.trainable_variables, start, strict=True)
    )


def test_errors():
    flow = linear_flow((3,))
    with pytest.raises(TypeError, match="base must be a Flow, got Independent"):
        latent.on_flow(flow, standard_normal((3,)))
    with pytest.raises(TypeError, match="flow must be a Flow, got Chain"):
        latent.on_flow(latent.on_flow(flow, flow).bijector, flow)
    with pytest.raises(ValueError, match=r"shape \(2,\) and dtype float64, the noise"):
        latent.on_flow(flow, linear_flow((2,)))
    with pytest.raises(ValueError, match=r"dtype float32, the noise .* float64"):
        latent.on_flow(flow, linear_flow((3,), dtype="float32"))
    model = FlowModel(flows.nice((2,), width=4, seed=0))
    other = flows.nice((2,), width=4, seed=1)
    for wrong in (other, model.flow.distribution):
        with pytest.raises(
            ValueError, match="must be a distribution or bijector of ni"
        ):
            training.freeze(model, wrong)
