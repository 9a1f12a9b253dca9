"""What variational inference minimises, estimated by samples of the surrogate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_integer
from tfp_flows.inference.target import as_target, draw

__all__ = ["forward_kl", "importance_weighted", "reverse_kl"]


def reverse_kl(
    target: Any,
    surrogate: tfd.Distribution,
    *,
    sample_size: int = 32,
    path_gradient: bool = False,
    seed: Any = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""The negative evidence lower bound.

    $$ \mathcal{L} = -\frac1S \sum_s \log w(x_s), \qquad
       w(x) = \frac{p(x)}{q(x)}, \qquad x_s \sim q $$

    With `path_gradient`, "sticking the landing" (Roeder et al. 2017, "Sticking the
    Landing", section 3): the parameters of $q$ inside $\log q(x)$ are held fixed, so
    that the gradient flows through samples only. It has the same mean, and no variance
    once $q$ is the posterior. It takes the inverse of the flow, which iterates in
    `iaf`.

    Example:
      >>> from tensorflow_probability import distributions as tfd
      >>> q = tfd.Normal(0.0, 1.0)
      >>> loss, log_weights = reverse_kl(q, q, sample_size=4, seed=0)
      >>> abs(float(loss)), log_weights.shape
      (0.0, TensorShape([4]))

    Args:
      target: the unnormalised log-density $\log p$: a pinned joint distribution,
        another distribution, or a function as for `tfp.vi`.
      surrogate: $q$, a distribution with reparametrised samples.
      sample_size: $S$, number of samples.
      path_gradient: whether the gradient flows through samples only.
      seed: as for `surrogate.sample`.

    Returns:
      `(loss, log_weights)`: a scalar, and $\log w$ of shape `[sample_size]`, in nats.

    Raises:
      ValueError: if samples of the surrogate are not reparametrised.
    """
    log_weights = _log_weights(target, surrogate, (sample_size,), path_gradient, seed)
    return -tf.reduce_mean(log_weights), tf.stop_gradient(log_weights)


def importance_weighted(
    target: Any,
    surrogate: tfd.Distribution,
    *,
    sample_size: int = 4,
    importance_size: int = 8,
    path_gradient: bool = False,
    seed: Any = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""The negative importance-weighted bound (Burda et al. 2016, equation 8).

    $$ \mathcal{L} = -\frac1S \sum_s \log \frac1K \sum_{k=1}^K w(x_{sk}) $$

    The bound rises with $K$ towards $\log Z$. With `path_gradient`, its gradient is
    the doubly reparametrised one of Tucker et al. 2019, the path gradient with squares
    of normalised weights, whose signal does not vanish as $K$ grows.

    Example:
      >>> from tensorflow_probability import distributions as tfd
      >>> q = tfd.Normal(0.0, 1.0)
      >>> importance_weighted(q, q, importance_size=5, seed=0)[1].shape
      TensorShape([4, 5])

    Args:
      target: the unnormalised log-density, as for `reverse_kl`.
      surrogate: $q$, a distribution with reparametrised samples.
      sample_size: $S$, number of bounds to average.
      importance_size: $K$, number of samples of each bound.
      path_gradient: whether the gradient flows through samples only.
      seed: as for `surrogate.sample`.

    Returns:
      `(loss, log_weights)`: a scalar, and $\log w$ `[sample_size, importance_size]`, in
      nats.

    Raises:
      ValueError: if samples of the surrogate are not reparametrised, or
        `importance_size` is below 1.
    """
    shape = (sample_size, check_integer("importance_size", importance_size))
    log_weights = _log_weights(target, surrogate, shape, path_gradient, seed)
    bound = tf.reduce_logsumexp(log_weights, -1) - math.log(importance_size)
    loss = -tf.reduce_mean(bound)
    if path_gradient:
        squares = tf.stop_gradient(tf.square(tf.nn.softmax(log_weights)))
        paths = -tf.reduce_mean(tf.reduce_sum(squares * log_weights, -1))
        loss = tf.stop_gradient(loss - paths) + paths
    return loss, tf.stop_gradient(log_weights)


def forward_kl(
    target: Any,
    surrogate: tfd.Distribution,
    *,
    sample_size: int = 32,
    samples: Any = None,
    seed: Any = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""The cross-entropy of the posterior, $-E_p[\log q(x)]$.

    It differs from the forward divergence $KL(p | q)$ by a constant, and makes $q$
    cover all of the posterior. The expectation is a mean over `samples`, of an MCMC
    run, say; or, without them, over self-normalised importance samples of the surrogate
    itself, whose weights have no gradient (the wake-phase update of Bornschein & Bengio
    2015):

    $$ \mathcal{L} = -\sum_s \frac{w(x_s)}{\sum_r w(x_r)} \log q(x_s),
       \qquad x_s \sim q $$

    Example:
      >>> from tensorflow_probability import distributions as tfd
      >>> q = tfd.Normal(0.0, 1.0)
      >>> round(float(forward_kl(q, q, samples=[0.0])[0]), 4)
      0.9189

    Args:
      target: the unnormalised log-density, as for `reverse_kl`.
      surrogate: $q$, any distribution.
      sample_size: $S$, number of samples to draw.
      samples: samples `[S, ...]` of the posterior, in its structure.
      seed: as for `surrogate.sample`.

    Returns:
      `(loss, log_weights)`: a scalar, and $\log w$ `[S]`, in nats.
    """
    if samples is None:
        x, log_q = draw(surrogate, check_integer("sample_size", sample_size), seed)
        x = tf.nest.map_structure(tf.stop_gradient, x)
        log_weights = tf.stop_gradient(as_target(target)(x) - log_q)
        weights = tf.nn.softmax(log_weights)
        return -tf.reduce_sum(weights * surrogate.log_prob(x)), log_weights
    log_q = surrogate.log_prob(samples)
    log_weights = as_target(target)(samples) - log_q
    return -tf.reduce_mean(log_q), tf.stop_gradient(log_weights)


def _log_weights(
    target: Any,
    surrogate: tfd.Distribution,
    shape: tuple[int, ...],
    path_gradient: bool,
    seed: Any,
) -> tf.Tensor:
    check_integer("sample_size", shape[0])
    kinds = tf.nest.flatten(surrogate.reparameterization_type)
    if any(kind != tfd.FULLY_REPARAMETERIZED for kind in kinds):
        raise ValueError(
            "surrogate must have reparametrised samples, through which gradients flow; "
            f"got {surrogate.name} with {surrogate.reparameterization_type}. "
            "forward_kl needs none."
        )
    x, log_q = draw(surrogate, shape, seed)
    if path_gradient:
        log_q = _along_paths(surrogate.log_prob, x, log_q)
    return as_target(target)(x) - log_q


def _along_paths(
    log_prob: Callable[[Any], tf.Tensor], x: Any, log_q: tf.Tensor
) -> tf.Tensor:
    """`log_q` with the gradient through `x` only, at fixed parameters of `log_prob`."""
    at = tf.nest.map_structure(tf.stop_gradient, x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(at)
        value = log_prob(at)
    result, rank = tf.stop_gradient(log_q), log_q.shape.rank
    for slope, moving, fixed in zip(
        *map(tf.nest.flatten, (tape.gradient(value, at), x, at)), strict=True
    ):
        change = tf.stop_gradient(slope) * (moving - fixed)
        result += tf.reduce_sum(change, list(range(rank, change.shape.rank)))
    return result
