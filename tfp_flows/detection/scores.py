"""Scores from densities, gradients and codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_number, check_real
from tfp_flows.core.seeds import generator
from tfp_flows.distributions import Flow

__all__ = [
    "gradient_norm",
    "latent_norm",
    "likelihood_ratio",
    "mutate",
    "negative_log_likelihood",
    "typicality",
]


def negative_log_likelihood(
    flow: Flow, x: Any, *, context: Any = None, batch_size: int = 256
) -> np.ndarray:
    r"""$-\log p(x)$ in nats: the score that is known to fail.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> negative_log_likelihood(flow, flow.sample(5, seed=0)).shape
      (5,)

    Args:
      flow: a flow, or another distribution without a batch.
      x: data `[N, *event_shape]`.
      context: contexts `[N, *context_shape]`, for a flow that takes one.
      batch_size: number of events that are evaluated at a time.

    Returns:
      float64 `[N]`; infinity outside the range of the flow.

    Raises:
      TypeError: if `x` does not hold real numbers.
      ValueError: on a wrong shape, or a context that is missing or not expected.
    """

    def score(x, **keywords):
        return -flow.log_prob(x, **keywords)

    return _in_batches(score, flow, x, context, batch_size)


def typicality(
    flow: Flow,
    x: Any,
    entropy: float,
    *,
    group_size: int = 1,
    context: Any = None,
    batch_size: int = 256,
) -> np.ndarray:
    r"""How far the density is from what it usually is, to either side.

    $$ \left|\frac1M \sum_{m=1}^M -\log p(x_m) - \hat H\right| $$

    for groups of $M$ events that are together usual or unusual (Nalisnick et al. 2019b,
    "Detecting out-of-distribution inputs to deep generative models using typicality").
    The test gains power with $M$; it is blind to data whose density is as usual.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> usual = negative_log_likelihood(flow, flow.sample(100, seed=0)).mean()
      >>> typicality(flow, flow.sample(6, seed=1), usual, group_size=3).shape
      (2,)

    Args:
      flow: a flow, or another distribution without a batch.
      x: data `[N, *event_shape]`; each `group_size` in a row are a group.
      entropy: $\hat H$ in nats, the mean of `negative_log_likelihood` of usual data
        (held-out ones, if the flow overfits).
      group_size: $M$, which divides $N$.
      context: see `negative_log_likelihood`.
      batch_size: see `negative_log_likelihood`.

    Returns:
      float64 `[N / group_size]`.

    Raises:
      TypeError: if `entropy` is not a number or `group_size` not an integer.
      ValueError: if `group_size` does not divide the number of data; see also
        `negative_log_likelihood`.
    """
    entropy = check_number("entropy", float(entropy))
    group_size = check_integer("group_size", group_size)
    if len(x) % group_size:
        raise ValueError(f"group_size must divide {len(x)} events, got {group_size}.")
    nll = negative_log_likelihood(flow, x, context=context, batch_size=batch_size)
    return np.abs(nll.reshape(-1, group_size).mean(1) - entropy)


def likelihood_ratio(
    flow: Flow,
    background: Flow,
    x: Any,
    *,
    context: Any = None,
    batch_size: int = 256,
) -> np.ndarray:
    r"""$\log p_\text{background}(x) - \log p(x)$ in nats.

    The background flow is trained on `mutate`d data, so that it knows what data of all
    kinds have in common but not what makes these special (Ren et al. 2019, "Likelihood
    ratios for out-of-distribution detection", section 3). Any other flow of the same
    data may take its place.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> likelihood_ratio(flow, flow, flow.sample(2, seed=0))
      array([0., 0.])

    Args:
      flow: a flow, or another distribution without a batch.
      background: another one, of the same event shape and context.
      x: data `[N, *event_shape]`.
      context: see `negative_log_likelihood`.
      batch_size: see `negative_log_likelihood`.

    Returns:
      float64 `[N]`; infinity where `flow` has no density, also if `background` has
      none.

    Raises:
      ValueError: if the event shapes differ; see also `negative_log_likelihood`.
    """
    if background.event_shape != flow.event_shape:
        raise ValueError(
            f"background must have the event shape of flow, {flow.event_shape}, got "
            f"{background.event_shape}."
        )
    options = {"context": context, "batch_size": batch_size}
    nll = negative_log_likelihood(flow, x, **options)
    with np.errstate(invalid="ignore"):
        ratio = nll - negative_log_likelihood(background, x, **options)
    return np.where(np.isposinf(nll), nll, ratio)


def mutate(x: Any, rate: float, levels: int = 256, seed: int | None = None) -> Any:
    """Replaces some entries by noise: data for a background flow.

    Each entry is replaced with the probability `rate`, by a whole number from 0 to
    `levels - 1` (Ren et al. 2019, section 3.1, who use rates of 0.1 to 0.3).

    Example:
      >>> import numpy as np
      >>> mutate(np.full(8, 5, "uint8"), rate=0.5, seed=0)
      array([  5, 139, 143, 239,   5,   5,   5,   5], dtype=uint8)

    Args:
      x: whole numbers from 0 to `levels - 1`, of any shape.
      rate: from 0 to 1.
      levels: number of levels of an entry.
      seed: an integer of any size, or `None` for a new one.

    Returns:
      Array of the shape and dtype of `x`.

    Raises:
      TypeError: if `rate` is not a number, or `levels` not an integer.
      ValueError: if `rate` is out of range, or `x` holds other numbers.
    """
    rate = check_number("rate", rate, at_least=0, at_most=1)
    levels = check_integer("levels", levels, 2)
    check_real("x", x)
    x = np.asarray(x)
    if x.size and not ((x == np.floor(x)).all() and x.min() >= 0 and x.max() < levels):
        raise ValueError(
            f"x must hold whole numbers from 0 to {levels - 1}, without noise."
        )
    draw = generator(seed)
    where = draw.uniform(size=x.shape) < rate
    return np.where(where, draw.integers(levels, size=x.shape), x).astype(x.dtype)


def gradient_norm(
    flow: Flow, x: Any, *, context: Any = None, batch_size: int = 256
) -> np.ndarray:
    r"""$\|\partial \log p(x) / \partial x\|$, in nats per unit of the data.

    Where a density is high but little volume is around, it is steep (Grathwohl et al.
    2020, "Your classifier is secretly an energy based model", section 5.3, the
    "approximate mass").

    Example:
      >>> import tfp_flows
      >>> normal = tfp_flows.distributions.standard_normal((2,))
      >>> gradient_norm(normal, [[3.0, 4.0]])
      array([5.])

    Args:
      flow: a flow, or another distribution without a batch.
      x: data `[N, *event_shape]`.
      context: see `negative_log_likelihood`.
      batch_size: see `negative_log_likelihood`.

    Returns:
      float64 `[N]`.

    Raises:
      ValueError: see `negative_log_likelihood`.
    """

    def score(x, **keywords):
        with tf.GradientTape() as tape:
            tape.watch(x)
            # Events do not interact, so the gradient of the sum is that of each.
            total = tf.reduce_sum(flow.log_prob(x, **keywords))
        return _norm(tape.gradient(total, x))

    return _in_batches(score, flow, x, context, batch_size)


def latent_norm(
    flow: Flow, x: Any, *, context: Any = None, batch_size: int = 256
) -> np.ndarray:
    r"""$\|(z - \mu) / \sigma\|$, the norm of the code in units of the base.

    $\mu$ and $\sigma$ are the mean and standard deviation of the base distribution. The
    norm of usual codes is near $\sqrt D$ in $D$ dimensions; it lacks the
    log-determinant, which is the part of the density that simple images raise.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.nice((2,), width=4, base="logistic", seed=0)
      >>> mean, deviation = flow.noise_moments()
      >>> latent_norm(flow, flow.decode([mean + [3, 4] * deviation])).round(4)
      array([5.])

    Args:
      flow: a flow whose base has a mean and a standard deviation.
      x: data `[N, *event_shape]`.
      context: see `negative_log_likelihood`.
      batch_size: see `negative_log_likelihood`.

    Returns:
      float64 `[N]`.

    Raises:
      ValueError: if `flow` is not a `Flow`; see also `negative_log_likelihood`.
    """
    if not isinstance(flow, Flow):
        raise ValueError(f"flow must be a Flow, got {type(flow).__name__}.")

    def score(x, **keywords):
        mean, deviation = flow.noise_moments(**keywords)
        return _norm((flow.encode(x, **keywords) - mean) / deviation)

    return _in_batches(score, flow, x, context, batch_size)


def _norm(x: tf.Tensor) -> tf.Tensor:
    return tf.norm(tf.reshape(x, [tf.shape(x)[0], -1]), axis=-1)


def _in_batches(
    score: Callable[..., tf.Tensor],
    flow: Flow,
    x: Any,
    context: Any,
    batch_size: int,
) -> np.ndarray:
    """The scores of all data: by one trace for all batches; of one batch, by none."""
    batch_size = check_integer("batch_size", batch_size)
    check_real("x", x)
    x, event = np.asarray(x), flow.event_shape
    if x.ndim != event.rank + 1 or not event.is_compatible_with(x.shape[1:]):
        raise ValueError(f"x must be [N, *{event}], got shape {x.shape}.")
    context_shape = getattr(flow, "context_shape", None)
    arrays, specs = [x], [tf.TensorSpec([None, *event], flow.dtype)]
    if context is not None and context_shape is None:
        raise ValueError(f"context was given, but {flow.name} takes none.")
    if context_shape is not None:
        context = None if context is None else np.asarray(context)
        if context is None or context.shape != (len(x), *context_shape):
            raise ValueError(
                f"context must have shape {(len(x), *context_shape)}, for {flow.name} "
                f"takes one, got {'none' if context is None else context.shape}."
            )
        dtype = flow.context_dtype
        arrays.append(context)
        specs.append(tf.TensorSpec([None, *context_shape], dtype))

    def evaluate(x, *context):
        return score(x, **({"context": context[0]} if context else {}))

    if len(x) > batch_size:
        # Of a `tf.function` that each call makes, TensorFlow would warn.
        compiled = tf.function(evaluate, autograph=False)
        evaluate = compiled.get_concrete_function(*specs)
    parts = [
        evaluate(
            *(
                tf.cast(array[start : start + batch_size], spec.dtype)
                for array, spec in zip(arrays, specs, strict=True)
            )
        )
        for start in range(0, len(x), batch_size)
    ]
    return np.concatenate([np.zeros(0), *parts]).astype(np.float64)
