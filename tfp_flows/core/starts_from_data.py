"""Bijectors that start from data."""

from __future__ import annotations

import tensorflow as tf

from tfp_flows.core.joint_bijector import JointBijector

__all__ = ["StartsFromData"]


class StartsFromData(JointBijector):
    """A bijector whose variables are set by the first batch of data, such as `ActNorm`.

    A subclass calls `_add_start` in its constructor, and sets its variables in
    `_set_from(y)`.
    """

    # None for a bijector that does not start from data after all.
    _initialized: tf.Variable | None = None

    def _add_start(self) -> None:
        self._initialized = self._add_variable("initialized", False, trainable=False)

    @property
    def initialized(self) -> tf.Variable | None:
        """Boolean variable, saved with the weights: whether `initialize` has run.

        `None` if there is nothing to initialise.
        """
        return self._initialized

    @property
    def needs_initialization(self) -> bool:
        """Whether `initialize` still has to set the variables."""
        done = self._initialized
        return done is not None and not bool(tf.convert_to_tensor(done))

    def _initialize(self, y, **keywords):
        if self.needs_initialization:
            if not y.shape.num_elements():
                raise ValueError(f"{self.name}: cannot initialise from an empty batch.")
            self._set_from(y)
            self._initialized.assign(True)
        return self._inverse_and_log_det(y, **keywords)[0]

    def _set_from(self, y: tf.Tensor) -> None:
        """Sets the variables from a batch `[N, *event_shape]` that is not empty."""
        raise NotImplementedError
