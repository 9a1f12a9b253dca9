"""What an elementwise transformer is."""

from __future__ import annotations

from typing import Protocol

import tensorflow as tf

__all__ = ["Transformer"]


class Transformer(Protocol):
    r"""A strictly monotonic function of one number, given its parameters.

    Both methods take a tensor `[..., n]` and unconstrained parameters `[...,
    num_parameters, n]`, and return the result and the elementwise $\log|dy/dx|$
    ($\log|dx/dy|$), both `[..., n]`. Parameters of zero give the identity, or nearly.

    One whose inverse is found by iteration, in either direction, has an attribute
    `has_direct_inverse = False`.
    """

    num_parameters: int

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]: ...

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]: ...
