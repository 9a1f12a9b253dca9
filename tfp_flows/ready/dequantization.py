"""Ready flows over integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_probability as tfp

from tfp_flows.core.arguments import check_choice, check_integer
from tfp_flows.distributions import Flow, VariationalDequantization, standard_logistic
from tfp_flows.ready.mixture_coupling import mixture_coupling
from tfp_flows.ready.stacks import coupling_layers
from tfp_flows.transformers import LogisticMixture

tfb = tfp.bijectors

__all__ = ["Dequantization"]


class Dequantization:
    """How a ready flow of real numbers becomes a distribution of integers.

    Ready flows make one of their options `dequantize` and `bounds`.

    Example:
      >>> from tfp_flows import flows
      >>> flow = flows.nice(
      ...     (2,), layers=2, width=8, bounds=(0, 16), seed=0,
      ...     dequantize={"name": "uniform", "samples": 4})
      >>> flow.log_prob([[3, 15]]).shape
      TensorShape([1])

    Args:
      dequantize: `"uniform"`, `"variational"`, or a mapping with that `"name"` and
        arguments: `samples`, how many times noise is drawn for each density (1); for
        `"variational"` also `layers` (4), `width` (32 channels, or 256 units), `depth`
        (2 residual blocks), `heads` (4, of the self-attention on images) and
        `components` (32) of the noise flow, which is made as Flow++'s is.
      bounds: `(0, K)`.

    Raises:
      ValueError: on other bounds, or an unknown name or argument.
    """

    def __init__(
        self,
        dequantize: str | Mapping[str, Any],
        bounds: Sequence[float] | None,
    ):
        options = {"name": dequantize} if isinstance(dequantize, str) else dequantize
        name, samples, noise = _split(**options)
        check_choice("dequantize", name, ("uniform", "variational"))
        if name == "uniform" and noise:
            raise ValueError(
                f'dequantize="uniform" takes samples alone; got {sorted(noise)}.'
            )
        self._levels = _count_integers(bounds)
        self._samples = check_integer("samples", samples)
        self._noise = noise if name == "variational" else None

    def __call__(self, flow: Flow, plan: Any) -> VariationalDequantization:
        """The distribution of integers that a flow of real numbers stands for.

        Args:
          flow: flow of real numbers in `[0, K]`.
          plan: the `Plan` of the flow.

        Returns:
          A `VariationalDequantization`.

        Raises:
          ValueError: on arguments that the noise flow does not take.
        """
        noise_flow = None
        if self._noise is not None:
            try:
                noise_flow = _noise_flow(plan.of_noise(), **self._noise)
            except TypeError as error:
                raise ValueError(f"dequantize is not understood: {error}") from error
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


def _count_integers(bounds):
    if bounds is not None:
        low, high = bounds
        if low == 0 and isinstance(high, (int, float)) and int(high) == high >= 2:
            return int(high)
    raise ValueError(
        "dequantize is for integers from 0 to K - 1: give bounds=(0, K); got "
        f"bounds={bounds}."
    )
