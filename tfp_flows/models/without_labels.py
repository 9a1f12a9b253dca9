"""A Keras model that is fitted to data alone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.training import data_checks
from tfp_flows.training.divergence import WatchDivergence
from tfp_flows.training.flow_model import negative_log_likelihood
from tfp_flows.training.fused_adam import FusedAdam

__all__ = ["WithoutLabels", "check_finite", "check_layers"]


def check_layers(**layers: Any) -> None:
    """Raises a TypeError that names an argument which is no Keras layer."""
    for argument, layer in layers.items():
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(
                f"{argument} must be a Keras layer or model, got "
                f"{type(layer).__name__}."
            )


def check_finite(name: str, array: np.ndarray) -> None:
    """Raises a ValueError that names an argument which holds NaN or infinity."""
    if not np.isfinite([array.min(initial=0.0), array.max(initial=0.0)]).all():
        raise ValueError(f"{name} holds NaN or infinity.")


class WithoutLabels(keras.Model):
    """A model whose `call` gives a number for each example, which training maximises.

    Arrays are checked as a whole before they reach Keras; streams are left as they are.
    A subclass sets `_data_shape`, the shape of one example, in `build` or before.
    """

    _data_shape: tuple[int, ...]

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = negative_log_likelihood,
        jit_compile: bool | str = False,
        **kwargs: Any,
    ) -> None:
        """Like `keras.Model.compile`, with the negative objective as the loss.

        Args:
          optimizer: an optimizer or its name; `"adam"` is
            `tfp_flows.training.FusedAdam`.
          loss: a function of `(y_true, objective)`; `y_true` holds zeros.
          jit_compile: whether XLA compiles the step.
          **kwargs: as for `keras.Model.compile`.
        """
        if isinstance(optimizer, str) and optimizer.lower() == "adam":
            optimizer = FusedAdam()
        super().compile(optimizer, loss, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model like the saved one."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        # The saved state of the optimizer needs variables to go to.
        self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, **kwargs: Any) -> keras.callbacks.History:
        """Like `keras.Model.fit`, without labels.

        Args:
          x: data `[N, ...]`, or a stream of batches.
          **kwargs: as for `keras.Model.fit`; `validation_data` are `x` alone, too.

        Returns:
          Keras's `History`.

        Raises:
          TypeError: on data that are not real numbers.
          ValueError: on NaN, data of a wrong shape or range, or a `sample_weight`.
          TrainingDiverged: if the loss or the weights become NaN or infinite.
        """
        x = self._checked(x, kwargs)
        held_out = kwargs.get("validation_data")
        if held_out is not None and not isinstance(held_out, tuple):
            kwargs["validation_data"] = self._checked(held_out)
        given = kwargs.pop("callbacks", None)
        given = given if isinstance(given, (list, tuple)) else [given]
        callbacks = [WatchDivergence(), *(c for c in given if c is not None)]
        return super().fit(x, callbacks=callbacks, **kwargs)

    def evaluate(self, x: Any = None, **kwargs: Any) -> Any:
        """Like `keras.Model.evaluate`, without labels."""
        return super().evaluate(self._checked(x, kwargs), **kwargs)

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.predict`, without labels."""
        return super().predict(self._checked(x), **kwargs)

    def _checked(self, x, options=None):
        """Checks arrays, and options that Keras would ignore; leaves streams as is."""
        if (options or {}).get("sample_weight") is not None:
            raise ValueError(
                "sample_weight must be left out: Keras drops it where there are no "
                "labels."
            )
        if x is None or data_checks.is_stream(x):
            return x
        x = data_checks.as_array("x", x)
        if not self.built:
            self.build(x.shape)
        if x.shape[1:] != self._data_shape:
            raise ValueError(
                f"x must have shape [batch, {', '.join(map(str, self._data_shape))}], "
                f"got {x.shape}."
            )
        check_finite("x", x)
        return x

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """The loss of objectives `y_pred`.

        Raises:
          ValueError: if labels are given.
        """
        if y is not None:
            raise ValueError("x must come without labels: this model takes no y.")
        return super().compute_loss(
            x=x,
            y=tf.zeros_like(y_pred),
            y_pred=y_pred,
            sample_weight=sample_weight,
            **kwargs,
        )
