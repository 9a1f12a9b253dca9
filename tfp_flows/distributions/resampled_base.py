"""A base distribution whose samples a network accepts or rejects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.arguments import check_integer, check_shape
from tfp_flows.core.conditioner import Conditioner
from tfp_flows.core.seeds import ALGORITHM, new_seed, stateless_seed
from tfp_flows.distributions.base import standard_normal
from tfp_flows.distributions.describe import describe_distribution
from tfp_flows.distributions.static_shape import StaticShape

tfd = tfp.distributions

__all__ = ["ResampledBase"]


class ResampledBase(StaticShape):
    r"""Learned accept/reject sampling from a standard Gaussian.

    Proposals $z \sim \pi = \mathcal N(0, 1)$ are accepted with a probability $a(z)$
    that a network computes. After $T - 1$ rejections, the next proposal is always
    accepted. The density is

    $$ p(z) = \pi(z) \left( (1 - \alpha) \frac{a(z)}{Z} + \alpha \right), \quad
       Z = \int \pi(z)\, a(z)\, dz, \quad \alpha = (1 - Z)^{T - 1} $$

    (Bauer & Mnih 2019, equation 2; as the base of a flow, Stimper et al. 2022, equation
    8). So the base can have holes and several modes, which a continuous flow cannot
    make of one mode. If the network starts at zero, the base starts as $\pi$.

    **The normaliser** $Z$ is estimated as a mean over `draws` proposals. They are the
    same at every call, so that the density depends on $z$ and the variables only. With
    `training=True`, as in `FlowModel.fit`, each call draws new ones, so that the
    network cannot adapt to a fixed set; a saved variable counts the calls. All
    log-densities share the same estimate of $\log Z$. Its standard error is at most
    $\epsilon = \sqrt{(1 - Z) / (Z\, \text{draws})}$ nats, and its bias makes
    log-densities too high by at most $\epsilon^2 / 2$ nats on average (delta method,
    for a large $T$). `normalizer` gives the estimate of $Z$ and its standard error.

    Sampling draws all $T$ proposals at once: memory grows with `truncation`, and the
    time is always the same. Samples give no gradient to the network.

    Example:
      >>> import tfp_flows
      >>> network = tfp_flows.networks.MLP(1, [8], seed=0)
      >>> base = ResampledBase(network, (2,), truncation=20, draws=256)
      >>> base.sample(5, seed=0).shape
      TensorShape([5, 2])

    Args:
      acceptance: a callable `[batch, *event_shape] -> [batch, 1]`, the logit of
        $a(z)$: a Keras layer, a tf_keras layer, a `tf.Module` or a function.
      event_shape: shape of the event.
      dtype: dtype of values.
      truncation: $T$, the largest number of proposals for one sample.
      draws: number of proposals that $Z$ is estimated with.
      seed: integer seed of the draws.
      name: name of the distribution.

    Raises:
      ValueError: if `truncation` is below 2 or `draws` below 1, or if `acceptance`
        returns another shape.
      TypeError: if `acceptance` is not callable, or another argument is not a number.
    """

    papers = ("bauer2019resampled", "stimper2022resampling")

    _estimation_arguments = frozenset({"draws"})

    def __init__(
        self,
        acceptance: Callable,
        event_shape: Sequence[int],
        dtype: Any = tf.float32,
        truncation: int = 100,
        draws: int = 2048,
        seed: int = 0,
        name: str = "resampled_base",
    ):
        parameters = dict(locals())
        truncation = check_integer("truncation", truncation, at_least=2)
        draws = check_integer("draws", draws)
        event = check_shape("event_shape", event_shape)
        dtype = tf.as_dtype(dtype)
        if not isinstance(acceptance, Conditioner):
            acceptance = Conditioner(
                acceptance, event, (1,), dtype=dtype, describe=", the logit of a(z)"
            )
        parameters.update(acceptance=acceptance)
        self._acceptance = acceptance
        self._proposal = standard_normal(event, dtype)
        self._truncation, self._draws = truncation, draws
        self._seed = new_seed(seed)
        # Each replica of a `tf.distribute` strategy has its own count.
        self._calls = tf.Variable(
            0,
            trainable=False,
            dtype=tf.int32,
            name="calls",
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        super().__init__(
            event_shape=event,
            dtype=dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            parameters=parameters,
            name=name,
        )

    @property
    def keywords(self) -> frozenset[str]:
        """Names of the keywords that `log_prob` takes beside the value."""
        return frozenset({"training"})

    def acceptance(self, z: Any) -> tf.Tensor:
        """The probability with which proposals are accepted.

        Args:
          z: proposals `[*batch, *event_shape]`.

        Returns:
          Tensor of shape `batch`.
        """
        return tf.sigmoid(self._logit(tf.convert_to_tensor(z, self.dtype)))

    def normalizer(
        self, draws: int | None = None, seed: int | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Estimates $Z$.

        Args:
          draws: number of proposals; by default as many as `log_prob` uses.
          seed: integer seed of the proposals; by default that of `log_prob`.

        Returns:
          `(estimate, standard_error)`, two scalars.
        """
        seed = self._seed if seed is None else seed
        draws = self._draws if draws is None else check_integer("draws", draws)
        z = self._propose([draws], stateless_seed(seed))
        a = self.acceptance(z)
        count = tf.cast(tf.size(a), a.dtype)
        return tf.reduce_mean(a), tf.math.reduce_std(a) / tf.sqrt(count)

    def _logit(self, z):
        return tf.squeeze(self._acceptance(z), -1)

    def _propose(self, shape, seed):
        # The same numbers on every device, and under XLA.
        shape = tf.concat([shape, self._proposal.event_shape], 0)
        return tf.random.stateless_normal(shape, seed, dtype=self.dtype, alg=ALGORITHM)

    def _draws_for(self, training):
        number = self._calls.assign_add(1) if training else 0
        seed = stateless_seed(self._seed) + tf.stack([number, 0])
        return self._propose([self._draws], seed)

    def _log_weights(self, logit, of_draws):
        r"""$\log(p / \pi)$ for a logit of $a$, with the logits `of_draws` for $Z$."""
        log_count = tf.math.log(tf.cast(tf.size(of_draws), self.dtype))
        log_z = tf.reduce_logsumexp(tf.math.log_sigmoid(of_draws)) - log_count
        log_rest = tf.reduce_logsumexp(tf.math.log_sigmoid(-of_draws)) - log_count
        # Rounding must not lift the logarithm of a probability above zero.
        eps = np.finfo(self.dtype.as_numpy_dtype).eps
        log_alpha = tf.minimum((self._truncation - 1) * log_rest, -eps)
        accepted = tfp.math.log1mexp(log_alpha) + tf.math.log_sigmoid(logit) - log_z
        return tfp.math.log_add_exp(accepted, log_alpha)

    def _log_prob(self, z, training=False):
        of_draws = self._logit(self._draws_for(training))
        log_prob = self._proposal.log_prob(z)
        # At infinity, where the proposal density is 0, the network may return NaN.
        inside = tf.not_equal(log_prob, -math.inf)
        of_event = tf.reshape(
            inside, tf.concat([tf.shape(inside), [1] * self.event_shape.rank], 0)
        )
        z = tf.where(of_event, z, tf.zeros([], z.dtype))
        ratio = self._log_weights(self._logit(z), of_draws)
        return log_prob + tf.where(inside, ratio, tf.zeros([], z.dtype))

    def _call_sample_n(self, sample_shape, seed, **_):
        seed = stateless_seed(seed)
        fold = tf.random.experimental.stateless_fold_in
        proposal_seed, accept_seed = (fold(seed, i, alg=ALGORITHM) for i in (0, 1))
        shape = tf.concat(
            [[self._truncation], tf.reshape(tf.cast(sample_shape, tf.int32), [-1])], 0
        )
        z = self._propose(shape, proposal_seed)
        logit = self._logit(z)
        u = tf.random.stateless_uniform(
            tf.shape(logit), accept_seed, dtype=self.dtype, alg=ALGORITHM
        )
        accepted = tf.reshape(u < tf.sigmoid(logit), [self._truncation, -1])
        # The first proposal that is accepted, or the last one if none is.
        number = tf.range(self._truncation)[:, None]
        last = tf.equal(number, self._truncation - 1)
        first = tf.argmax(tf.cast(accepted | last, tf.int32), 0, tf.int32)
        which = tf.stack([first, tf.range(tf.size(first))], 1)
        event = self._proposal.event_shape
        flat = tf.reshape(z, [self._truncation, tf.size(first), *event])
        return tf.reshape(tf.gather_nd(flat, which), tf.shape(z)[1:])

    def _mean(self, **_):
        return self._mean_of(lambda z: z)

    def _variance(self, **_):
        return self._mean_of(tf.square) - tf.square(self._mean())

    def _mean_of(self, function):
        z = self._draws_for(training=False)
        logit = self._logit(z)
        weights = tf.exp(self._log_weights(logit, logit))
        return tf.tensordot(weights, function(z), 1) / tf.cast(self._draws, self.dtype)

    def __repr__(self) -> str:
        return describe_distribution(
            self,
            acceptance=getattr(self._acceptance, "keras_layer", None),
            truncation=self._truncation,
            draws=self._draws,
        )
