"""Averages of weights are what is looked at, kept and left."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.support import fast_and_slow
from tfp_flows import FlowModel, flows
from tfp_flows.training import FusedAdam

MOMENTUM = 0.5
X = np.random.default_rng(0).normal(3.0, 2.0, (16, 2)).astype(np.float32)


def weights(model):
    return np.concatenate([v.numpy().ravel() for v in model.trainable_variables])


class Looking(keras.callbacks.Callback):
    """Notes the weights after each step, and what the end of an epoch shows."""

    def __init__(self, stop_after=None):
        super().__init__()
        self.steps, self.shown, self.logs = [], [], []
        self.stop_after = stop_after

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(weights(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.shown.append(weights(self.model))
        self.logs.append(dict(logs))
        self.model.stop_training = self.stop_after == epoch + 1


def fitted(use_ema, stop_after=None, callbacks=()):
    flow = flows.real_nvp((2,), layers=1, width=4, depth=1, seed=0)
    model = FlowModel(flow)
    model.compile(FusedAdam(0.1, use_ema=use_ema, ema_momentum=MOMENTUM))
    looking = Looking(stop_after)
    model.fit(
        X,
        batch_size=8,
        epochs=3,
        shuffle=False,
        validation_data=X,
        callbacks=[looking, *callbacks],
        verbose=0,
    )
    return model, looking


@pytest.fixture(scope="module")
def plain():
    return fitted(False)[1].steps


def averages(steps):
    found = [steps[0]]
    for step in steps[1:]:
        found.append(MOMENTUM * found[-1] + (1 - MOMENTUM) * step)
    return found


@pytest.mark.parametrize("stop_after", fast_and_slow([2, None], 2))
def test_averages_are_shown_and_left(plain, stop_after):
    model, looking = fitted(True, stop_after)
    epochs = stop_after or 3
    # Training goes on from the weights themselves.
    np.testing.assert_allclose(looking.steps, plain[: 2 * epochs], rtol=1e-5, atol=1e-6)
    expected = averages(plain)[1 : 2 * epochs : 2]
    np.testing.assert_allclose(looking.shown, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(looking.shown[0] - plain[1]).max() > 0.01
    np.testing.assert_allclose(weights(model), expected[-1], rtol=1e-5, atol=1e-6)
    # Validation has seen the same.
    seen = model.evaluate(X, verbose=0, return_dict=True)["nll"]
    assert looking.logs[-1]["val_nll"] == pytest.approx(seen, rel=1e-5)


@pytest.mark.slow
def test_a_callback_of_the_user_does_it_alone(plain):
    swap = keras.callbacks.SwapEMAWeights()
    model, looking = fitted(True, callbacks=[swap])
    np.testing.assert_allclose(looking.shown, plain[1::2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        weights(model), averages(plain)[-1], rtol=1e-5, atol=1e-6
    )
