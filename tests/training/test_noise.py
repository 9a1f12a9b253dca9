"""Gaussian noise on data in training."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest

from tfp_flows import FlowModel, flows


def test_data_are_noisy_in_every_step():
    """Of zeros and a standard normal density: half the variance of the noise more."""
    flow = flows.maf((2,), layers=1, width=4, normalize=False, seed=0)
    x = np.zeros((20_000, 2), np.float32)
    nll = []
    for noise in (0.0, 2.0):
        model = FlowModel(flow, noise=noise)
        model.compile(keras.optimizers.SGD(0.0))
        nll.append(model.evaluate(x, batch_size=4000, verbose=0, return_dict=True))
    assert nll[0]["nll"] == pytest.approx(np.log(2 * np.pi), rel=1e-5)
    assert nll[1]["nll"] == pytest.approx(np.log(2 * np.pi) + 4.0, rel=0.02)


def test_whole_numbers_with_noise_are_no_warning_and_the_noise_is_saved(tmp_path):
    x = np.random.default_rng(0).integers(0, 16, (256, 2)).astype("float32")
    flow = flows.maf((2,), layers=1, width=8, seed=0)
    model = FlowModel(flow, noise=0.5)
    model.compile()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(x, verbose=0)
    model.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").noise == 0.5


def test_errors():
    bounded = flows.maf((2,), layers=1, width=8, bounds=(0, 1), logit_margin=0.05)
    with pytest.raises(ValueError, match=r"noise=0\.1 needs a flow on all numbers"):
        FlowModel(bounded, noise=0.1)
    with pytest.raises(ValueError, match="noise must be at least 0"):
        FlowModel(flows.maf((2,), layers=1, width=8), noise=-1.0)
