"""Ready flows over integers, and over rows of mixed tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_probability as tfp

from tfp_flows.bijectors import InverseAutoregressive
from tfp_flows.core.arguments import check_choice, check_integer
from tfp_flows.distributions import (
    Flow,
    LowerBound,
    MixedDequantization,
    VariationalDequantization,
    standard_logistic,
)
from tfp_flows.distributions.mixed_columns import MixedColumns
from tfp_flows.networks import MADE
from tfp_flows.ready.mixture_coupling import mixture_coupling
from tfp_flows.ready.stacks import coupling_layers, in_turn
from tfp_flows.transformers import Affine, LogisticMixture

tfb = tfp.bijectors

__all__ = ["Dequantization"]


class Dequantization:
    """How a ready flow of real numbers becomes a distribution of integers or rows.

    Ready flows make one of their options `dequantize` and `bounds`.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.nice(
      ...     (2,), layers=2, width=8, bounds=(0, 16), seed=0,
      ...     dequantize={"name": "uniform", "samples": 4})
      >>> flow.log_prob([[3, 15]]).shape
      TensorShape([1])
      >>> rows = flows.maf((2,), layers=2, width=8, seed=0, normalize=False,
      ...     dequantize={"name": "mixed", "columns": ["real", ["no", "yes"]]})
      >>> rows.event_shape, rows.flow.event_shape
      (TensorShape([2]), TensorShape([2]))

    Args:
      dequantize: `"uniform"`, `"variational"`, or a mapping with a `"name"` and
        arguments: `samples`, how many times noise is drawn for each density (1); for
        `"variational"` also `layers` (4), `width` (32 channels, or 256 units), `depth`
        (2 residual blocks), `heads` (4, of the self-attention on images) and
        `components` (32) of the noise flow, which is made as Flow++'s is. For
        `"mixed"`, rows of a table: `columns`, what each column holds, see
        `tfp_flows.distributions.MixedDequantization`; `binary` (true); and `layers`
        (1), `width` (64) and `depth` (1) of a noise flow that is made as `iaf` is; for
        0 layers noise is not learned.
      bounds: `(0, K)` for integers from 0 to K - 1; `None` for `"mixed"`.
      event_shape: shape of the data.

    Attributes:
      flow_shape: shape of the events of the flow of real numbers.

    Raises:
      ValueError: if `dequantize` or `bounds` are not understood.
    """

    def __init__(
        self,
        dequantize: str | Mapping[str, Any],
        bounds: Sequence[float] | None,
        event_shape: Sequence[int],
    ):
        options = {"name": dequantize} if isinstance(dequantize, str) else dequantize
        self._name, self._samples, self._noise = _split(**options)
        check_choice("dequantize", self._name, ("uniform", "variational", "mixed"))
        self.flow_shape = tuple(event_shape)
        if self._name == "mixed":
            self._set_columns(bounds, **self._noise)
            return
        if self._name == "uniform" and self._noise:
            raise ValueError(
                f'dequantize="uniform" takes samples alone; got {sorted(self._noise)}.'
            )
        self._levels = _count_integers(bounds)
        check_integer("samples", self._samples)

    def _set_columns(self, bounds, columns=None, binary=True, **noise):
        """Looks at the options of mixed tables."""
        if bounds is not None:
            raise ValueError(
                f'bounds={bounds} are not for dequantize="mixed": codes of categories '
                "have their range, and other columns none."
            )
        if columns is None:
            raise ValueError(
                'dequantize="mixed" needs columns, what each column holds: '
                '{"name": "mixed", "columns": ["real", "integer", 3]}.'
            )
        self._columns = MixedColumns(columns, binary)
        if self.flow_shape != (self._columns.size,):
            raise ValueError(
                f"dequantize has {self._columns.size} columns, but the event_shape is "
                f"{self.flow_shape}."
            )
        self.flow_shape = (self._columns.flow_size,)
        self._noise = noise

    def __call__(self, flow: Flow, plan: Any) -> LowerBound:
        """The distribution of integers that a flow of real numbers stands for.

        Args:
          flow: flow of real numbers, over `flow_shape`.
          plan: the `Plan` of the flow.

        Returns:
          A `VariationalDequantization` or `MixedDequantization`.

        Raises:
          ValueError: on arguments that the noise flow does not take.
        """
        noise_flow = None
        try:
            if self._name == "variational":
                noise = plan.of_noise(plan.data_shape, plan.data_shape)
                noise_flow = _noise_flow(noise, **self._noise)
            elif self._name == "mixed":
                shapes = (self._columns.noise_size,), (self._columns.context_size,)
                noise_flow = _autoregressive_noise(
                    plan.of_noise(*shapes), **self._noise
                )
        except TypeError as error:
            raise ValueError(f"dequantize is not understood: {error}") from error
        if self._name == "mixed":
            return MixedDequantization(
                flow,
                self._columns.kinds,
                noise_flow,
                self._columns.binary,
                self._samples,
                name=flow.name,
            )
        return VariationalDequantization(
            flow, noise_flow, self._levels, self._samples, name=flow.name
        )


def _split(name=None, samples=1, **noise):
    return name, samples, noise


def _noise_flow(plan, *, layers=4, width=None, depth=2, heads=None, components=32):
    """Noise in (0, 1), given integers; nearly uniform at first.

    Logistic noise through a sigmoid is uniform.
    """
    # Noise is only drawn, by the closed form.
    transformer = LogisticMixture(components)
    if width is None and plan.is_image:
        width = 32

    count = check_integer("layers", layers)
    network = {"width": width, "depth": depth, "heads": heads, "layers": count}

    def layer(mask, shape, name):
        yield mixture_coupling(plan, mask, shape, transformer, name, **network)

    members = coupling_layers(plan, layer, count)
    return Flow(
        standard_logistic(plan.event_shape, plan.dtype),
        plan.chain([tfb.Sigmoid(), *members], f"{plan.name}_noise_chain"),
        name=f"{plan.name}_noise",
    )


def _autoregressive_noise(plan, *, layers=1, width=64, depth=1):
    """Noise of all real numbers, given rows; standard logistic at first."""
    count = check_integer("layers", layers, at_least=0)
    if not count:
        return None
    hidden = [check_integer("width", width)] * check_integer("depth", depth)

    def layer(i):
        order = ("natural", "reverse")[i]
        made = MADE(plan.size, 2, hidden, order=order, **plan.network())
        name = f"autoregressive_{i}"
        return [InverseAutoregressive(made, Affine(), name=name, **plan.layer)]

    return Flow(
        standard_logistic(plan.event_shape, plan.dtype),
        plan.chain(in_turn(layer, count), f"{plan.name}_noise_chain"),
        name=f"{plan.name}_noise",
    )


def _count_integers(bounds):
    if bounds is not None:
        low, high = bounds
        if low == 0 and isinstance(high, (int, float)) and int(high) == high >= 2:
            return int(high)
    raise ValueError(
        "dequantize is for integers from 0 to K - 1: give bounds=(0, K); got "
        f"bounds={bounds}."
    )
