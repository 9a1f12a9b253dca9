"""Training that is no longer finite ends with an error, and finite weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.support import assert_same, compiled, points, values, vector
from tfp_flows import FlowModel, flows
from tfp_flows.training import FusedAdam, TrainingDiverged, divergence


def spoilt(n=32, where=20):
    """Batches of 8, one of which holds a NaN that no first look finds."""
    x = points(n)
    x[where, 1] = np.nan
    return tf.data.Dataset.from_tensor_slices(x).batch(8)


def finite(flow):
    return all(np.isfinite(v).all() for v in values(flow) if v.dtype.kind == "f")


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_it_says_where_it_began(run_eagerly):
    model = compiled(vector(), run_eagerly=run_eagerly)
    model.fit(spoilt().take(2), epochs=2, verbose=0)
    before = values(model.flow)
    with pytest.raises(
        TrainingDiverged, match=r"the loss became nan in epoch 1, batch 3\..*normalize"
    ):
        model.fit(spoilt(), epochs=3, verbose=0)
    assert finite(model.flow)
    # The weights are those of a moment before the bad batch.
    steps = FusedAdam().learning_rate.numpy() * 4
    for a, b in zip(before, values(model.flow), strict=True):
        np.testing.assert_allclose(a, b, atol=steps)
    # The optimizer is finite too: training goes on.
    history = model.fit(spoilt().take(2), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert finite(model.flow)


class Hiding(FlowModel):
    """One whose loss is finite whatever the densities are."""

    def compute_loss(self, x=None, y=None, y_pred=None, *args, **kwargs):
        return tf.reduce_mean(tf.where(tf.math.is_finite(y_pred), -y_pred, 0.0))


def test_a_loss_that_hides_what_weights_have_become():
    model = Hiding(vector())
    model.compile(run_eagerly=True)
    with pytest.raises(TrainingDiverged, match="weights became NaN or infinite"):
        model.fit(spoilt(16, 12), verbose=0)
    assert finite(model.flow)


def test_a_step_that_overflows():
    model = compiled(vector(), keras.optimizers.SGD(1e30))
    with pytest.raises(TrainingDiverged, match="epoch 1, batch 2"):
        model.fit(points(), batch_size=8, epochs=5, shuffle=False, verbose=0)
    assert finite(model.flow)


def test_finite_weights_with_an_infinite_loss_are_not_kept(monkeypatch):
    """Copies of the weights are taken before each step, the spoilt one included."""
    monkeypatch.setattr(divergence, "_SHARE", 1e9)
    model = compiled(flows.maf((2,), seed=0), keras.optimizers.SGD(1e6))
    x = points(96)
    with pytest.raises(TrainingDiverged, match="are again those of 'before"):
        model.fit(x, epochs=5, shuffle=False, verbose=0)
    assert np.isfinite(model.evaluate(x, verbose=0)).all()


def test_a_validation_loss_that_is_nan_is_said():
    model = compiled(vector())
    with pytest.warns(UserWarning, match=r"val_loss is nan after epoch 1.*validation"):
        model.fit(points(), validation_data=spoilt(), verbose=0)


def test_others_do_not_save_what_diverged(tmp_path):
    model = compiled(vector(), keras.optimizers.SGD(1e30))
    saves = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5", save_weights_only=True
    )
    with pytest.raises(TrainingDiverged):
        model.fit(points(), epochs=5, callbacks=saves, verbose=0)
    # The first epoch of one batch ended before anything was wrong with its loss.
    assert {p.name for p in tmp_path.iterdir()} <= {"1.weights.h5"}


def test_callbacks_of_all_kinds():
    """A list, a tuple, one alone, and Keras's own list."""
    model = compiled(vector(), run_eagerly=True)
    one = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(1))
    for given in (one, [one], (one,), keras.callbacks.CallbackList([one], model=model)):
        seen = []
        model.fit(points(), callbacks=given, verbose=0)
        assert seen == [1]
        with pytest.raises(TrainingDiverged):
            model.fit(spoilt(), callbacks=given, verbose=0)


def half(**options):
    return vector(conditioner_dtype="float16", **options)


def test_half_precision_scales_the_loss(tmp_path):
    model = compiled(half())
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(model.optimizer.inner_optimizer, FusedAdam)
    assert not isinstance(
        compiled(half(), auto_scale_loss=False).optimizer,
        keras.optimizers.LossScaleOptimizer,
    )
    assert isinstance(compiled(vector()).optimizer, FusedAdam)
    bfloat = vector(conditioner_dtype="bfloat16")
    assert isinstance(compiled(bfloat).optimizer, FusedAdam)
    start = values(model.flow)
    history = model.fit(points(), epochs=3, batch_size=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert any(
        not np.array_equal(a, b) for a, b in zip(start, values(model.flow), strict=True)
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(loaded.optimizer.inner_optimizer, FusedAdam)
    loaded.fit(points(), verbose=0)


def test_an_overflow_skips_a_step():
    """Gradients that are too large for the scale of the loss change no weight."""
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=1e38
    )
    model = compiled(half(), optimizer)
    before = values(model.flow)
    model.fit(points(), batch_size=24, verbose=0)
    assert_same(before, values(model.flow))
    assert float(model.optimizer.dynamic_scale) == pytest.approx(5e37)
