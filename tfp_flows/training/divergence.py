"""Ends a training whose loss or weights become NaN or infinite."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any, NamedTuple

import keras
import numpy as np

from tfp_flows.core.keras_internals import storage

__all__ = ["TrainingDiverged", "WatchDivergence"]

# Copies of the weights take at most this share of the time.
_SHARE = 0.01


class TrainingDiverged(FloatingPointError):
    """The error of a training whose loss or weights became NaN or infinite.

    The weights are restored to the last finite ones that were kept.

    Args:
      what: what was found, and when.
      advice: what to do about it.
    """

    def __init__(self, what: str, advice: str = ""):
        super().__init__(f"{what}. {advice}".strip())
        self.what = what


class _Copy(NamedTuple):
    """Weights before a step `(epoch, batch)`, and a text that names that time."""

    step: tuple[int, int]
    when: str
    values: list[np.ndarray]


class WatchDivergence(keras.callbacks.Callback):
    """Ends `fit` once the loss or a weight is NaN or infinite.

    It checks the loss whenever Keras reads it for the progress bar. It checks and
    copies the weights at the start, at the end, and in between so often that this takes
    a hundredth of the time. This also finds a NaN that does not show in the loss.
    Finite weights may still give an infinite loss, so a copy first is a candidate, and
    is kept once the loss of the next step is finite.

    Raises:
      TrainingDiverged: with the weights restored to the last finite ones.
    """

    # Keras may then call `on_train_batch_end` in parallel to the next steps.
    async_safe = True

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0
        self._bad: tuple[int, int, float] | None = None
        self._kept = _Copy((0, 0), "before the first step", [])
        # A copy whose next step has not ended yet.
        self._candidate: _Copy | None = None
        # The last step, as (epoch, batch), after which the loss was finite.
        self._finite = (-1, 0)
        self._looked_at = self._kept.when
        self._next_time = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._bad = self._candidate = None
        self._finite = (-1, 0)
        self._kept = _Copy((0, 0), "before the first step", [])
        self._kept = self._look(self._kept)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._end_if_bad()
        if time.perf_counter() >= self._next_time:
            self._keep(
                (self._epoch, batch),
                f"before epoch {self._epoch + 1}, batch {batch + 1}",
            )

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if math.isfinite(loss):
            self._finite = max(self._finite, (self._epoch, batch))
            return
        if self._is_rescaled():
            return
        found = (self._epoch, batch, loss)
        self._bad = found if self._bad is None else min(self._bad, found)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._end_if_bad()
        val_loss = (logs or {}).get("val_loss", 0.0)
        suspicious = not math.isfinite(val_loss)
        if suspicious or time.perf_counter() >= self._next_time:
            self._keep((epoch + 1, 0), f"after epoch {epoch + 1}")
        if suspicious:
            warnings.warn(
                f"val_loss is {val_loss} after epoch {epoch + 1}, with finite weights: "
                "validation_data hold NaN or infinity, or examples whose density is 0.",
                UserWarning,
                stacklevel=2,
            )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._keep((self._epoch + 1, 0), "at the end")

    def _is_rescaled(self) -> bool:
        """Whether the optimizer will skip the step and lower its loss scale."""
        optimizer = self.model.optimizer
        return (
            isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
            and float(optimizer.dynamic_scale) >= 1.0
        )

    def _end_if_bad(self):
        if self._bad is not None:
            epoch, batch, loss = self._bad
            self._end(f"the loss became {loss} in epoch {epoch + 1}, batch {batch + 1}")

    def _keep(self, step: tuple[int, int], when: str) -> None:
        """Copies the weights if they are finite, else ends the training."""
        copy = self._look(_Copy(step, when, []))
        self._promote()
        if self._candidate is None:
            self._candidate = copy

    def _look(self, copy: _Copy) -> _Copy:
        """Fills a copy with the present weights, and ends if they are not finite."""
        start = time.perf_counter()
        values = [np.array(storage(v).numpy()) for v in self.model.weights]
        for variable, value in zip(self.model.weights, values, strict=True):
            if not _is_finite(value):
                name = variable.path
                if not self._kept.values:
                    raise TrainingDiverged(
                        f"the weights hold NaN or infinity before training: {name}"
                    )
                self._end(
                    f"weights became NaN or infinite ({name}) between the times "
                    f"{self._looked_at!r} and {copy.when!r}"
                )
        end = time.perf_counter()
        self._next_time = end + (end - start) / _SHARE
        self._looked_at = copy.when
        return copy._replace(values=values)

    def _promote(self) -> None:
        """Keeps the candidate if a step that began from it had a finite loss."""
        if self._candidate is not None and self._finite >= self._candidate.step:
            self._kept, self._candidate = self._candidate, None

    def _end(self, what: str) -> Any:
        self._promote()
        for variable, value in zip(self.model.weights, self._kept.values, strict=True):
            variable.assign(value)
        for variable in self.model.optimizer.variables:
            # Moments that are not finite start again from 0.
            if not _is_finite(storage(variable).numpy()):
                variable.assign(np.zeros(variable.shape))
        raise TrainingDiverged(
            f"training diverged: {what}",
            f"The weights are again those of {self._kept.when!r}. If that batch holds "
            "NaN or a context out of range, correct the data. Otherwise these help: "
            "normalize=True and normalize_context=True, arguments of ready flows, for "
            "data and contexts in units far from 1; "
            "a smaller bound on scales (max_log_scale); a smaller learning rate, or "
            "one that rises from 0; clipping "
            "(compile(tfp_flows.training.FusedAdam(global_clipnorm=1.0))).",
        )


def _is_finite(value: np.ndarray) -> bool:
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())
