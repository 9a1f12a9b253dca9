"""Averages of weights in the place of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

__all__ = ["ShowAverages", "keeps_averages"]


def keeps_averages(optimizer: Any) -> bool:
    """Whether an optimizer, if there is one, averages the weights."""
    # What scales the loss has another one inside.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return bool(getattr(optimizer, "use_ema", False))


class ShowAverages(keras.callbacks.Callback):
    """Puts the averages that an optimizer with `use_ema=True` keeps where they are due.

    They are in the place of the weights while the validation data are looked at, and
    from the end of an epoch to the beginning of the next: other callbacks choose and
    save by them. At the end of `fit`, Keras leaves them there. `FlowModel.fit` adds
    this callback by itself.

    `keras.callbacks.SwapEMAWeights` exchanges the two instead, and so loses the
    averages where training ends before its last epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        # The weights themselves, while averages are in their place.
        self._weights: list[Any] | None = None

    def show(self) -> None:
        """Puts the averages in the place of the weights."""
        optimizer = self.model.optimizer
        if self._weights is None and keeps_averages(optimizer) and optimizer.built:
            weights = self.model.trainable_variables
            self._weights = [weight.numpy() for weight in weights]
            # What Keras calls at the end of `fit`.
            optimizer.finalize_variable_values(weights)

    def hide(self) -> None:
        """Puts the weights back."""
        if self._weights is not None:
            weights = self.model.trainable_variables
            for weight, value in zip(weights, self._weights, strict=True):
                weight.assign(value)
            self._weights = None

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """A context in which the weights are in their place, as training needs them."""
        shown = self._weights is not None
        self.hide()
        try:
            yield
        finally:
            if shown:
                self.show()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.hide()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.show()

    def on_test_begin(self, logs: Any = None) -> None:
        self.show()

    def on_test_end(self, logs: Any = None) -> None:
        self.hide()
