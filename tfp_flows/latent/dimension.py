"""The dimension of data near a surface, as a flow sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import Scaling
from tfp_flows.core.arguments import check_integer
from tfp_flows.distributions import Flow
from tfp_flows.latent._codes import as_data

__all__ = [
    "dimension_from_noise",
    "dimension_from_spectrum",
    "jacobian_singular_values",
    "scale_spectrum",
]


def scale_spectrum(flow: Flow) -> np.ndarray:
    r"""The scales of NICE, largest first: how much data vary along each code.

    The rest of NICE keeps volumes, so that its diagonal $e^s$ reads like the spectrum
    of a principal component analysis, but along curved coordinates (Dinh et al. 2014,
    section 3.3; $1 / S_{ii}$ there). It says so only once training has straightened the
    data; `jacobian_singular_values` says it before.

    Example:
      >>> import tfp_flows
      >>> scale_spectrum(tfp_flows.flows.nice((3,), width=4, seed=0))
      array([1., 1., 1.])

    Args:
      flow: a flow with one `tfp_flows.bijectors.Scaling`, as `flows.nice` has.

    Returns:
      float64 `[D]`, in descending order.

    Raises:
      ValueError: if the flow does not have one.
    """
    found = [m for m in flow.submodules if isinstance(m, Scaling)]
    if len(found) != 1:
        raise ValueError(
            f"flow must have one Scaling, as flows.nice does; {flow.name} has "
            f"{len(found)}."
        )
    scales = found[0].forward(tf.ones(flow.distribution.event_shape, flow.dtype))
    return np.sort(np.ravel(scales).astype(np.float64))[::-1]


def jacobian_singular_values(
    flow: Flow, x: Any, *, batch_size: int = 64, **keywords: Any
) -> np.ndarray:
    r"""Singular values of $\partial x / \partial z$ at data, largest first.

    Under a standard normal base they are deviations of the data near $x$, along
    orthogonal directions: those across a surface are as small as the noise about it
    (Horvat & Pfister 2022, "Intrinsic dimensionality estimation using normalizing
    flows"). It takes the Jacobian of `encode`, with one backward pass for each of the
    $D$ entries.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.Flow(
      ...     tfp_flows.distributions.standard_normal((2,)),
      ...     tfp_flows.bijectors.Scaling(log_scale=[-1.0, 1.0]),
      ... )
      >>> jacobian_singular_values(flow, [[0.0, 0.0]]).round(3)
      array([[2.718, 0.368]])

    Args:
      flow: the flow.
      x: data `[N, *event_shape]`.
      batch_size: number of events at a time.
      **keywords: `context`, one for all data, for a flow with one.

    Returns:
      float64 `[N, D]`, each row in descending order.

    Raises:
      ValueError: on a wrong shape.
    """
    batch_size = check_integer("batch_size", batch_size)
    x = as_data(flow, x, "x")
    if x.shape.rank != flow.event_shape.rank + 1:
        raise ValueError(f"x must be [N, *{flow.event_shape}], got shape {x.shape}.")
    size = flow.event_shape.num_elements()

    @tf.function(
        input_signature=[tf.TensorSpec([None, size], flow.dtype)], autograph=False
    )
    def jacobian(flat):
        with tf.GradientTape() as tape:
            tape.watch(flat)
            events = tf.reshape(flat, [-1, *flow.event_shape])
            z = tf.reshape(flow.encode(events, **keywords), [-1, size])
        # Not every operation of a flow can be vectorised over the entries of a code.
        return tape.batch_jacobian(z, flat, experimental_use_pfor=False)

    flat = tf.reshape(x, [-1, size])
    parts = [
        np.linalg.svd(
            jacobian(flat[start : start + batch_size]).numpy().astype(np.float64),
            compute_uv=False,
        )
        for start in range(0, len(flat), batch_size)
    ]
    return 1 / np.concatenate([np.ones([0, size]), *parts])[:, ::-1]


def dimension_from_spectrum(spectrum: Any) -> int:
    """How many values come before the largest gap, on a logarithmic scale.

    A convention, not a test: look at the spectrum, too. There always is a largest gap.

    Example:
      >>> dimension_from_spectrum([2.0, 1.0, 0.01, 0.008])
      2

    Args:
      spectrum: `[D]` in descending order, or `[N, D]`, of which the mean logarithm is
        taken; see `scale_spectrum` and `jacobian_singular_values`.

    Returns:
      A number from 1 to `D - 1`.

    Raises:
      ValueError: on another shape, or values that are not positive and descending.
    """
    spectrum = np.asarray(spectrum, np.float64)
    if spectrum.ndim not in (1, 2) or spectrum.shape[-1] < 2 or not spectrum.size:
        raise ValueError(f"spectrum must be [D] or [N, D], got {spectrum.shape}.")
    if not (spectrum > 0).all() or (np.diff(spectrum) > 0).any():
        raise ValueError("spectrum must hold positive numbers in descending order.")
    logs = np.log(spectrum).reshape(-1, spectrum.shape[-1]).mean(0)
    return int(np.argmax(logs[:-1] - logs[1:])) + 1


def dimension_from_noise(log_prob: Any, noise: Any, size: int) -> np.ndarray:
    r"""The dimension from how densities fall as noise is added to the data.

    With Gaussian noise of deviation $\delta$, the log-density at a point of a
    $d$-dimensional surface in $D$ dimensions is $(d - D) \log \delta + O(1)$ (Tempczyk
    et al. 2022, "LIDL: Local intrinsic dimension estimation using approximate
    likelihood"). A line is fitted over several $\delta$: by flows trained on data with
    each, or by one flow whose context is $\log \delta$.

    Example:
      >>> import numpy as np
      >>> noise = np.array([0.01, 0.02, 0.04])
      >>> dimension_from_noise((2 - 5) * np.log(noise)[:, None], noise, size=5).round(6)
      array([2.])

    Args:
      log_prob: `[S, N]`, log-densities of the same data in nats at each noise.
      noise: `[S]`, deviations of the noise, two or more.
      size: $D$, the number of entries of an event.

    Returns:
      float64 `[N]`, an estimate at each of the data. It is good if the noise is small
      beside curvature and extent of the surface, and large beside its roughness.

    Raises:
      ValueError: on another shape, values that are not finite, or noise that is not
        positive and of at least two kinds.
    """
    size = check_integer("size", size)
    log_prob, noise = (np.asarray(v, np.float64) for v in (log_prob, noise))
    if noise.ndim != 1 or not (np.isfinite(noise) & (noise > 0)).all():
        raise ValueError(f"noise must be [S] and positive, got {noise}.")
    if len(np.unique(noise)) < 2:
        raise ValueError(f"noise must hold two or more deviations, got {noise}.")
    if log_prob.ndim != 2 or len(log_prob) != len(noise):
        raise ValueError(
            f"log_prob must be [{len(noise)}, N], got shape {log_prob.shape}."
        )
    if not np.isfinite(log_prob).all():
        raise ValueError("log_prob must be finite.")
    centered = np.log(noise) - np.log(noise).mean()
    return size + centered @ log_prob / (centered @ centered)
