"""The autoregressive flow whose density takes one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors.coupling import split_parameters
from tfp_flows.core.arguments import check_number, check_vector_shape
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.shapes import reshape_event
from tfp_flows.core.tf_internals import NOT_INLINED
from tfp_flows.transformers import Affine, Transformer
from tfp_flows.transformers.transformer import (
    at_entry,
    attribute,
    check_entries,
)

__all__ = ["MaskedAutoregressive"]


class MaskedAutoregressive(JointBijector):
    r"""Transforms each entry with parameters computed from the data before it.

    $$ y_i = \tau(x_i;\, c_i(y_{<i}, \text{context})), \qquad
       \log|\det \partial y / \partial x| =
       \sum_i \log|\partial \tau / \partial x_i| $$

    (Papamakarios et al. 2017, "Masked Autoregressive Flow", equations 3 to 5, with any
    elementwise transformer $\tau$.) `inverse`, from data to noise, runs the
    conditioner once. `forward` computes one entry after the other. With a
    `networks.MADE`, this takes about as much arithmetic as one evaluation, in D small
    steps; any other conditioner runs D times.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, networks
      >>> made = networks.MADE(3, num_parameters=2, hidden_units=(8, 8))
      >>> maf = bijectors.MaskedAutoregressive(made)
      >>> maf.inverse_log_det_jacobian(tf.ones([5, 3])).shape
      TensorShape([5])

    Args:
      conditioner: `(y[, context]) -> parameters`, `[batch, D]` to `[batch,
        transformer.num_parameters * D]`: all of the first parameter, then all of the
        second. The parameters of an entry may depend only on the entries before it, in
        some order. `networks.MADE` is such a network; other callables are not checked.
      transformer: an elementwise transformer, see `tfp_flows.transformers`;
        `Affine()` by default.
      event_shape: `D` or `[D]`. Needed unless the conditioner is a `MADE`.
      context_shape: shape of one context, or `None` for no context.
      jacobi_tolerance: if given, the direction that computes one entry after the other
        repeats passes over all of them instead, until none changes by more than it
        (Jacobi's iteration, Song et al. 2021): at most D passes, often far fewer.
      dtype: dtype of values; `None` takes any floating dtype.
      name: name of the bijector.

    Raises:
      ValueError: if `event_shape` is missing or not that of a vector, the transformer
        or the conditioner is for another number of entries, or the conditioner returns
        another shape.
      TypeError: if the conditioner is not callable, or `event_shape` holds no integer.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        iterates = self._tolerance is not None
        return (*self._papers, "song2021parallel") if iterates else self._papers

    _papers: tuple[str, ...] = ("papamakarios2017maf",)

    _fast_paths = frozenset({"untaped"})
    _estimation_arguments = frozenset({"jacobi_tolerance"})

    has_direct_inverse = False

    def __init__(
        self,
        conditioner: Callable,
        transformer: Transformer | None = None,
        event_shape: int | Sequence[int] | None = None,
        context_shape: Sequence[int] | None = None,
        jacobi_tolerance: float | None = None,
        dtype: Any = None,
        name: str = "masked_autoregressive",
    ):
        parameters = dict(locals())
        own_shape = getattr(conditioner, "event_shape", None)
        if event_shape is None:
            event_shape = own_shape
        if event_shape is None:
            raise ValueError("event_shape is required, unless conditioner is a MADE.")
        size = check_vector_shape("event_shape", event_shape)
        if jacobi_tolerance is not None:
            check_number("jacobi_tolerance", jacobi_tolerance, at_least=0)
        self._tolerance = jacobi_tolerance
        own_size = size
        if own_shape is not None:
            own_size = check_vector_shape("conditioner.event_shape", own_shape)
        if own_size != size:
            raise ValueError(
                f"event_shape is {event_shape}, but the conditioner is for {own_size} "
                "entries."
            )
        self._transformer = Affine() if transformer is None else transformer
        check_entries(self._transformer, size)
        count = self._transformer.num_parameters
        self._conditioner = Conditioner(
            conditioner,
            (size,),
            (count * size,),
            context_shape,
            tf.as_dtype(dtype or tf.float32),
            f" ({count} parameter(s) of {self._transformer!r} for each of {size} "
            "entries)",
        )
        super().__init__(
            forward_min_event_ndims=1,
            input_event_shape=(size,),
            context_shape=context_shape,
            dtype=dtype,
            is_constant_jacobian=attribute(self._transformer, "is_constant_jacobian"),
            parameters=parameters,
            name=name,
        )

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
        order = getattr(self.conditioner, "fixed_order", None)
        text = f" {self._transformer!r}"
        if order is not None:
            text += f" order {order.tolist()}"
        adjacency = getattr(self.conditioner, "adjacency", None)
        if adjacency is not None:
            packed = np.packbits(adjacency)
            text += f" adjacency {hashlib.sha256(packed).hexdigest()[:16]}"
        return text

    def _is_increasing(self, **keywords):
        # Of several entries, the later ones may fall as the first one rises.
        rises = getattr(self._transformer, "is_increasing", True)
        if self._input_event_shape != (1,) or not rises:
            return super()._is_increasing(**keywords)
        return True

    def _forward_and_log_det(self, x, context=None):
        return self._sequential("forward_and_log_det", x, context)

    def _inverse_and_log_det(self, y, context=None):
        return self._parallel("inverse_and_log_det", y, y, context)

    def _parallel(self, method, value, seen, context):
        """Transforms all entries, with parameters computed from `seen`."""
        transform = getattr(self._transformer, method)
        parameters = self._conditioner(seen, context)
        count = self._transformer.num_parameters
        out, log_det = transform(value, split_parameters(parameters, count))
        return out, tf.reduce_sum(log_det, -1)

    def _sequential(self, method, value, context):
        """Transforms entries one by one, with parameters from the results before."""
        generate = getattr(self.conditioner, "generate", None)
        if generate is None or self._tolerance is not None:
            return self._repeat(method, value, context)

        step, options = getattr(self._transformer, method), {}
        if attribute(self._transformer, "entries") is not None:
            options["indexed"] = True

            def step(z, parameters, entry):
                transform = getattr(at_entry(self._transformer, entry), method)
                return transform(z, parameters)

        direct = attribute(self._transformer, "has_direct_inverse")
        if not (direct or tf.executing_eagerly()):
            # Traced once for all entries: a root takes hundreds of operations.
            step = tf.function(
                step, autograph=False, experimental_attributes=NOT_INLINED
            )
        flat = tf.reshape(value, [-1, value.shape[-1]])
        if context is not None:
            context = tf.reshape(context, [-1, *self.context_shape])
        out, log_det = generate(step, flat, context, **options)
        out = reshape_event(out, 1, [value.shape[-1]], like=value)
        return out, reshape_event(log_det, 1, [], like=value)

    def _repeat(self, method, value, context):
        """For any conditioner: each pass gets one more entry or token right."""
        most = getattr(self.conditioner, "tokens", value.shape[-1])

        def pass_over_all(out, i, _):
            new, _ = self._parallel(method, value, out, context)
            if self._tolerance is None:
                return new, i + 1, True
            # Also if there is a NaN.
            change = tf.abs(new - out) <= self._tolerance
            return new, i + 1, ~tf.reduce_all(change)

        out, *_ = tf.while_loop(
            lambda _, i, goes_on: (i < most) & goes_on,
            pass_over_all,
            (tf.zeros_like(value), 0, True),
            maximum_iterations=most,
        )
        # Computed again outside of the loop, so that gradients go through the result.
        _, log_det = self._parallel(method, value, out, context)
        return out, log_det
