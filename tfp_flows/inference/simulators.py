"""Simulators of the literature, to try simulation-based inference on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.seeds import ALGORITHM, generator, stateless_seed

__all__ = [
    "sir",
    "sir_log_likelihood",
    "sir_prior",
    "slcp",
    "slcp_log_likelihood",
    "slcp_prior",
    "two_moons",
    "two_moons_log_likelihood",
    "two_moons_posterior",
    "two_moons_prior",
]

# Mean and deviation of a moon's radius, and where its centre is.
_RADIUS, _WIDTH, _CENTER = 0.1, 0.01, 0.25

# Of the SIR model: people, days between observations, observations, and people tested.
_PEOPLE, _DAYS, _TIMES, _TESTED = 1e6, 16, 10, 1000


def two_moons_prior() -> tfd.Distribution:
    """Returns the prior of `two_moons`: two numbers, uniform on [-1, 1]."""
    return tfd.Independent(tfd.Uniform([-1.0, -1.0], [1.0, 1.0]), 1)


def two_moons(parameters: Any, seed: Any = None) -> tf.Tensor:
    r"""A point on a noisy half circle, moved by the parameters.

    $$ x = \begin{pmatrix} r \cos a + 0.25 \\ r \sin a \end{pmatrix}
      + \frac{1}{\sqrt 2}
        \begin{pmatrix} -|\theta_1 + \theta_2| \\ -\theta_1 + \theta_2 \end{pmatrix},
      \quad a \sim U(-\pi/2, \pi/2), \; r \sim N(0.1, 0.01^2) $$

    Its posterior is two half moons (Greenberg et al. 2019, "Automatic Posterior
    Transformation", appendix).

    Example:
      >>> two_moons(two_moons_prior().sample(4, seed=0), seed=0).shape
      TensorShape([4, 2])

    Args:
      parameters: `[*batch, 2]`.
      seed: an integer, a stateless seed `[2]`, or `None` for a new one.

    Returns:
      float32 tensor `[*batch, 2]`.
    """
    parameters = tf.cast(parameters, tf.float32)
    first, second = tf.unstack(tf.random.split(stateless_seed(seed)))
    shape = tf.shape(parameters)[:-1]
    angle = tf.random.stateless_uniform(
        shape, first, -math.pi / 2, math.pi / 2, alg=ALGORITHM
    )
    radius = tf.random.stateless_normal(shape, second, _RADIUS, _WIDTH, alg=ALGORITHM)
    point = tf.stack([radius * tf.cos(angle) + _CENTER, radius * tf.sin(angle)], -1)
    return point + _shift(parameters)


def two_moons_log_likelihood(parameters: Any, data: Any) -> tf.Tensor:
    """The log-density of data of `two_moons`.

    Example:
      >>> parameters = two_moons_prior().sample(4, seed=0)
      >>> two_moons_log_likelihood(parameters, two_moons(parameters, seed=0)).shape
      TensorShape([4])

    Args:
      parameters: `[*batch, 2]`.
      data: `[*batch, 2]`; batches broadcast.

    Returns:
      float32 tensor `batch`, in nats; -inf where the parameters cannot give the
      data.
    """
    parameters, data = tf.cast(parameters, tf.float32), tf.cast(data, tf.float32)
    point = data - _shift(parameters) - [_CENTER, 0.0]
    radius = tf.norm(point, axis=-1)
    log_p = tfd.Normal(_RADIUS, _WIDTH).log_prob(radius) - tf.math.log(math.pi * radius)
    return tf.where(point[..., 0] > 0, log_p, -math.inf)


def two_moons_posterior(data: Any, count: int, seed: int | None = None) -> np.ndarray:
    """Exact samples of the posterior of `two_moons`, under `two_moons_prior`.

    Noise is drawn and the simulator is solved for the parameters, of which there are
    two; those outside of the prior are rejected.

    Example:
      >>> two_moons_posterior([0.0, 0.0], 5, seed=0).shape
      (5, 2)

    Args:
      data: `[2]`.
      count: number of samples.
      seed: an integer of any size, or `None` for a new one.

    Returns:
      float32 array `[count, 2]`.

    Raises:
      ValueError: if the data are of another shape, or impossible under the prior.
    """
    count = check_integer("count", count)
    data = np.asarray(data, np.float64)
    if data.shape != (2,):
        raise ValueError(f"data must be one point (2,), got shape {data.shape}.")
    draw, found, size = generator(seed), np.zeros([0, 2]), 0
    for _ in range(100):
        angle = draw.uniform(-math.pi / 2, math.pi / 2, 2 * count)
        radius = draw.normal(_RADIUS, _WIDTH, 2 * count)
        point = np.stack([radius * np.cos(angle) + _CENTER, radius * np.sin(angle)], -1)
        moved = math.sqrt(2) * (data - point)
        total = moved[:, 0] * draw.choice([-1.0, 1.0], 2 * count)
        both = np.stack([total - moved[:, 1], total + moved[:, 1]], -1) / 2
        inside = (moved[:, 0] <= 0) & (np.abs(both) <= 1).all(-1)
        found, size = np.concatenate([found, both[inside]]), size + int(inside.sum())
        if size >= count:
            return found[:count].astype(np.float32)
    raise ValueError(f"data {data} are hardly possible under the prior.")


def _shift(parameters):
    total = tf.reduce_sum(parameters, -1)
    difference = parameters[..., 1] - parameters[..., 0]
    return tf.stack([-tf.abs(total), difference], -1) / math.sqrt(2)


def slcp_prior() -> tfd.Distribution:
    """Returns the prior of `slcp`: five numbers, uniform on [-3, 3]."""
    return tfd.Independent(tfd.Uniform([-3.0] * 5, [3.0] * 5), 1)


def slcp(parameters: Any, seed: Any = None) -> tf.Tensor:
    r"""Four points of a normal distribution in the plane, whose parameters are unknown.

    A simple likelihood with a complex posterior (Papamakarios et al. 2019, "Sequential
    Neural Likelihood", appendix): mean $(\theta_1, \theta_2)$, standard deviations
    $\theta_3^2$ and $\theta_4^2$, correlation $\tanh \theta_5$.

    Example:
      >>> slcp(slcp_prior().sample(3, seed=0), seed=0).shape
      TensorShape([3, 8])

    Args:
      parameters: `[*batch, 5]`.
      seed: an integer, a stateless seed `[2]`, or `None` for a new one.

    Returns:
      float32 tensor `[*batch, 8]`.
    """
    normal = _slcp_normal(parameters)
    x = normal.sample(4, seed=stateless_seed(seed))
    rank = x.shape.rank
    x = tf.transpose(x, [*range(1, rank - 1), 0, rank - 1])
    return tf.reshape(x, tf.concat([tf.shape(x)[:-2], [8]], 0))


def slcp_log_likelihood(parameters: Any, data: Any) -> tf.Tensor:
    """The log-density of data of `slcp`.

    Example:
      >>> parameters = slcp_prior().sample(3, seed=0)
      >>> slcp_log_likelihood(parameters, slcp(parameters, seed=0)).shape
      TensorShape([3])

    Args:
      parameters: `[*batch, 5]`.
      data: `[*batch, 8]`; batches broadcast.

    Returns:
      float32 tensor `batch`, in nats.
    """
    data = tf.cast(data, tf.float32)
    points = tf.unstack(tf.reshape(data, [*data.shape[:-1], 4, 2]), axis=-2)
    normal = _slcp_normal(parameters)
    return tf.add_n([normal.log_prob(point) for point in points])


def _slcp_normal(parameters):
    parameters = tf.cast(parameters, tf.float32)
    m1, m2, root1, root2, r = tf.unstack(parameters, axis=-1)
    s1, s2, r = root1**2, root2**2, tf.tanh(r)
    rows = [[s1, tf.zeros_like(s1)], [r * s2, tf.sqrt(1 - r**2) * s2]]
    scale = tf.stack([tf.stack(row, -1) for row in rows], -2)
    return tfd.MultivariateNormalTriL(tf.stack([m1, m2], -1), scale)


def sir_prior() -> tfd.Distribution:
    """Returns the prior of `sir`, a joint distribution of two rates per day.

    That of `contact` is LogNormal(log 0.4, 0.5), that of `recovery` LogNormal(log 1/8,
    0.2).
    """
    return tfd.JointDistributionNamed(
        {
            "contact": tfd.LogNormal(math.log(0.4), 0.5),
            "recovery": tfd.LogNormal(math.log(0.125), 0.2),
        }
    )


def sir(parameters: Any, seed: Any = None) -> np.ndarray:
    r"""An epidemic: how many of 1000 people are infected, on ten days.

    Of $N$ = 1,000,000 people, one is infected at the start. Tests on days 1, 17, 33 ...
    145 find binomial numbers. The model, the prior and the noise are those of Lueckmann
    et al. 2021, "Benchmarking Simulation-Based Inference", appendix T.9. Runge-Kutta
    steps of half a day solve the equations

    $$ S' = -\beta S I / N, \quad I' = \beta S I / N - \gamma I $$

    Example:
      >>> sir(sir_prior().sample(3, seed=0), seed=0).shape
      (3, 10)

    Args:
      parameters: a dict of `contact`, $\beta$, and `recovery`, $\gamma$, each `[n]`.
      seed: seed of NumPy's, or `None` for a new one.

    Returns:
      float32 array `[n, 10]`: whole numbers from 0 to 1000.
    """
    counts = np.random.default_rng(seed).binomial(_TESTED, _infected(parameters))
    return counts.astype(np.float32)


def sir_log_likelihood(parameters: Any, data: Any) -> np.ndarray:
    """The log-probability of data of `sir`.

    With two parameters, a grid of it gives the exact posterior.

    Example:
      >>> parameters = sir_prior().sample(3, seed=0)
      >>> sir_log_likelihood(parameters, sir(parameters, seed=0)).shape
      (3,)

    Args:
      parameters: a dict of `contact` and `recovery`, each of shape `batch`.
      data: `[*batch, 10]`, whole numbers from 0 to 1000; batches broadcast.

    Returns:
      float64 array `batch`, in nats.
    """
    counts = tfd.Binomial(tf.constant(_TESTED, tf.float64), probs=_infected(parameters))
    return counts.log_prob(tf.cast(data, tf.float64)).numpy().sum(-1)


def _infected(parameters):
    """The shares of people that are infected on the days of tests, `[..., 10]`."""
    contact, recovery = (
        np.asarray(parameters[name], np.float64) for name in ("contact", "recovery")
    )

    def slope(state):
        infections = contact * state[0] * state[1] / _PEOPLE
        return np.stack([-infections, infections - recovery * state[1]])

    ones, step = np.ones_like(contact), 0.5
    state, shares = np.stack([(_PEOPLE - 1) * ones, ones]), []
    for half_day in range(2 * (_DAYS * (_TIMES - 1) + 1)):
        a = slope(state)
        b = slope(state + step / 2 * a)
        c = slope(state + step / 2 * b)
        d = slope(state + step * c)
        state = state + step / 6 * (a + 2 * b + 2 * c + d)
        if half_day % (2 * _DAYS) == 1:
            shares.append(np.clip(state[1] / _PEOPLE, 0, 1))
    return np.stack(shares, -1)
