"""The coupling layer, generic over mask, conditioner and transformer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_shape
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.event_split import AxisPartition, partition
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.shapes import reshape_event
from tfp_flows.transformers import Transformer
from tfp_flows.transformers.transformer import attribute, check_entries

__all__ = ["Coupling"]


class Coupling(JointBijector):
    r"""Transforms one part of an event by parameters computed from the other part.

    With the kept part $x_a$ and the changed part $x_b$ (Dinh et al. 2017, eq. 4-8):

    $$ y_a = x_a, \quad y_b = \tau(x_b;\, c(x_a, \text{context})), \quad
       \log|\det \partial y / \partial x| =
       \sum_i \log|\partial \tau / \partial x_{b,i}|, $$

    where $c$ is the conditioner and $\tau$ the transformer. The inverse costs as much
    as the forward, and the conditioner is never inverted.

    A mask that is the same along all axes but one is a split: the conditioner gets
    the kept part alone, and only the other part is computed. Any other mask (a
    checkerboard) shows the conditioner the whole event with zeros for what changes.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, masks, networks, transformers
      >>> spline = transformers.RationalQuadratic(bins=4)
      >>> network = networks.MLP(2 * spline.num_parameters, hidden_units=(8,), seed=0)
      >>> coupling = bijectors.Coupling(masks.half(4), network, spline)
      >>> coupling.forward_log_det_jacobian(tf.ones([3, 4])).shape
      TensorShape([3])

    Args:
      mask: boolean array of the event's rank, `True` where the event is kept. A
        dimension of size 1 broadcasts to `event_shape`.
      conditioner: a callable `(kept[, context]) -> parameters`: a Keras layer, a
        tf_keras layer, a `tf.Module` or a function. It gets `[batch, *kept]` and
        returns `[batch, *changed]` with the last dimension times
        `transformer.num_parameters`: first all of the first parameter, and so on.
      transformer: an elementwise transformer, see `tfp_flows.transformers`.
      event_shape: shape of the event; the mask's shape by default.
      context_shape: shape of one context, or `None` for no context.
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if the mask is all `True` or all `False`, does not fit
        `event_shape`, the transformer is for another number of entries, or the
        conditioner returns another shape.
      TypeError: if the mask is not boolean or the conditioner not callable.
    """

    papers = ("dinh2017real_nvp",)

    def __init__(
        self,
        mask: Any,
        conditioner: Callable,
        transformer: Transformer,
        event_shape: Sequence[int] | None = None,
        context_shape: Sequence[int] | None = None,
        dtype: Any = None,
        name: str = "coupling",
    ):
        parameters = dict(locals())
        mask, event_shape = _check_mask(mask, event_shape)
        self._mask = mask
        self._partition = partition(mask, event_shape)
        self._transformer = transformer
        count = transformer.num_parameters
        *leading, last = self._partition.changed_shape
        check_entries(transformer, last)
        self._conditioner = Conditioner(
            conditioner,
            self._partition.kept_shape,
            (*leading, count * last),
            context_shape,
            tf.as_dtype(dtype or tf.float32),
            f" ({count} parameter(s) for each of {last} transformed entries of the "
            "last axis)",
        )
        super().__init__(
            forward_min_event_ndims=len(event_shape),
            input_event_shape=event_shape,
            context_shape=context_shape,
            dtype=dtype,
            is_constant_jacobian=attribute(transformer, "is_constant_jacobian"),
            parameters=parameters,
            name=name,
        )

    @property
    def mask(self) -> np.ndarray:
        """Boolean array, `True` where the event is kept."""
        return self._mask

    @property
    def conditioner(self) -> Callable:
        """The conditioner as it was given."""
        return self.parameters["conditioner"]

    @property
    def transformer(self) -> Transformer:
        """The elementwise transformer."""
        return self._transformer

    @property
    def _structure(self):
        mask = hashlib.sha256(np.packbits(self._mask)).hexdigest()[:16]
        return f" {self._transformer!r} mask {mask}"

    def _forward_and_log_det(self, x, context=None):
        kept, changed = self._partition.split(x)
        changed, log_det = self._change(kept, changed, True, context)
        return self._partition.merge(kept, changed), log_det

    def _inverse_and_log_det(self, y, context=None):
        kept, changed = self._partition.split(y)
        changed, log_det = self._change(kept, changed, False, context)
        return self._partition.merge(kept, changed), log_det

    def _change(self, kept, changed, forward, context=None):
        """Transforms the changed part; returns it and the log-determinant."""
        parameters = self._conditioner(kept, context)
        parameters = split_parameters(parameters, self._transformer.num_parameters)
        changed, log_det = self._transform(forward)(changed, parameters)
        return changed, self._partition.log_det(log_det)

    def _transform(self, forward):
        transformer = self._transformer
        return (
            transformer.forward_and_log_det
            if forward
            else transformer.inverse_and_log_det
        )

    _fast_paths = frozenset({"event_split", "replay", "untaped"})

    @property
    def _event_split(self):
        is_split = isinstance(self._partition, AxisPartition)
        return self._partition if is_split else None

    @property
    def has_direct_inverse(self) -> bool:
        return attribute(self._transformer, "has_direct_inverse")

    def _replay(self, result, forward, tape, context=None):
        # The kept part is the same in input and result, so one run of the conditioner
        # is enough for both directions.
        kept, changed = self._partition.split(result)
        tape.watch(kept)
        parameters = self._conditioner(kept, context)
        parameters = split_parameters(parameters, self._transformer.num_parameters)
        with tape.stop_recording():
            changed, _ = self._transform(not forward)(changed, parameters)
        tape.watch(changed)
        again, log_det = self._transform(forward)(changed, parameters)
        merge = self._partition.merge
        log_det = self._partition.log_det(log_det)
        return [kept, changed], lambda p: merge(*p), merge(kept, again), log_det


def split_parameters(parameters: tf.Tensor, count: int) -> tf.Tensor:
    """Reshapes `[..., count * n]` to `[..., count, n]`, as transformers take it."""
    return reshape_event(parameters, 1, [count, parameters.shape[-1] // count])


def _check_mask(mask, event_shape):
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask must be boolean (True is kept), got dtype {mask.dtype}.")
    event_shape = (
        mask.shape if event_shape is None else check_shape("event_shape", event_shape)
    )
    if mask.ndim == 0 or mask.ndim != len(event_shape):
        raise ValueError(
            f"mask must have the rank of the event: its shape is {mask.shape}, the "
            f"event shape {event_shape}."
        )
    if any(m not in (1, n) for m, n in zip(mask.shape, event_shape, strict=True)):
        raise ValueError(
            f"mask of shape {mask.shape} does not broadcast to the event shape "
            f"{event_shape}."
        )
    if mask.all() or not mask.any():
        size = int(np.prod(event_shape))
        raise ValueError(
            f"mask is all {bool(mask.all())}: a coupling needs one part to keep and "
            "one to transform"
            + (
                ", so an event needs two features or more."
                if size < 2
                else "; give it both True and False."
            )
        )
    return mask, event_shape
