"""A mixture of Gaussians with full covariances, which starts from data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb

from tfp_flows.core.arguments import check_integer, check_number, check_shape
from tfp_flows.core.mixtures import RIDGE, fitting
from tfp_flows.core.seeds import ALGORITHM, generator, stateless_seed
from tfp_flows.distributions.describe import describe_distribution
from tfp_flows.distributions.static_shape import StaticShape

tfd = tfp.distributions

__all__ = ["FittedMixture"]


class FittedMixture(StaticShape):
    r"""A mixture of Gaussians with full covariances, fitted to the first data.

    $$ p(z) = \sum_k w_k \, |\det A_k| \, \mathcal N(A_k (z - \mu_k); 0, I), $$

    with lower triangular $A_k$, so that component $k$ has the covariance
    $(A_k^\top A_k)^{-1}$. As the base of a flow, `initialize` fits it to the noise of
    the first data by expectation maximisation (scikit-learn's `GaussianMixture`). A
    flow that is the identity at first then starts as the mixture of Gaussians that fits
    its data best, and training goes on from there: with few data, where a flow by
    itself learns less than a mixture would, its result is seldom below.

    Weights, means and $A_k$ are trained with the flow. Before `initialize`, weights are
    equal, all $A_k$ are the identity, and means are drawn from $\mathcal N(0, 1)$.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import distributions
      >>> base = distributions.FittedMixture((2,), components=2, seed=0)
      >>> rng = np.random.default_rng(0)
      >>> z = rng.normal(size=(500, 2)) * [1, 0.1] + rng.choice([-5, 5], (500, 1))
      >>> base.initialize(z)
      >>> print(f"{np.mean(base.log_prob(z)):.1f}")
      -1.2

    Args:
      event_shape: sequence of ints, shape of the event, of $D$ numbers in all.
      components: number of Gaussians; each has $D (D + 3) / 2 + 1$ numbers.
      ridge: what the fit adds to the variance of each number. More of it lets few data
        have more components: they cannot become narrow.
      dtype: dtype of values.
      seed: integer seed of the initial means and of the fit; by default a new one,
        which `keras.utils.set_random_seed` makes reproducible.
      name: name of the distribution.

    Raises:
      ValueError: if `components` is below 1 or `ridge` negative.
      TypeError: if one is not a number, or `event_shape` not a shape.
    """

    papers = ("izmailov2020semi",)

    def __init__(
        self,
        event_shape: Sequence[int],
        components: int = 8,
        ridge: float = RIDGE,
        dtype: Any = tf.float32,
        seed: int | None = None,
        name: str = "fitted_mixture",
    ):
        parameters = dict(locals())
        components = check_integer("components", components)
        self._ridge = check_number("ridge", ridge, at_least=0.0)
        event = check_shape("event_shape", event_shape)
        dtype = tf.as_dtype(dtype)
        size = math.prod(event)
        draw = generator(seed)
        self._fit_seed = int(draw.integers(2**31))
        means = draw.standard_normal([components, size])
        self._logits = tf.Variable(tf.zeros([components], dtype), name="logits")
        self._means = tf.Variable(tf.constant(means, dtype), name="means")
        self._factors = tfp.util.TransformedVariable(
            tf.eye(size, batch_shape=[components], dtype=dtype),
            tfb.FillScaleTriL(diag_bijector=tfb.Exp(), diag_shift=None),
            name="factors",
        )
        self._initialized = tf.Variable(False, trainable=False, name="initialized")
        super().__init__(
            event_shape=event,
            dtype=dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            parameters=parameters,
            name=name,
        )

    @property
    def components(self) -> int:
        """Number of Gaussians."""
        return self._logits.shape[0]

    @property
    def needs_initialization(self) -> bool:
        """Whether `initialize` still has to fit the mixture."""
        return not bool(tf.convert_to_tensor(self._initialized))

    def initialize(self, z: Any, context: Any = None) -> None:
        """Fits the mixture to noise, if that has not been done yet.

        Args:
          z: noise `[*batch, *event_shape]`.
          context: has no influence.

        Raises:
          ImportError: if scikit-learn is not installed.
          ValueError: if there are fewer examples than components, or values are not
            finite.
        """
        if not self.needs_initialization:
            return
        rows = np.asarray(z, np.float64).reshape(-1, self._means.shape[1])
        if len(rows) < self.components:
            raise ValueError(
                f"{self.name}: cannot fit components={self.components} to "
                f"{len(rows)} examples."
            )
        if not np.isfinite(rows).all():
            raise ValueError(f"{self.name}: cannot be fitted to NaN or infinite noise.")
        with fitting() as mixture_of:
            mixture = mixture_of(
                self.components, reg_covar=self._ridge, random_state=self._fit_seed
            )
            mixture.fit(rows)
        # The upper triangular U of scikit-learn makes noise of data by (z - mean) U.
        upper = mixture.precisions_cholesky_
        self._logits.assign(np.log(np.maximum(mixture.weights_, 1e-30)))
        self._means.assign(mixture.means_)
        self._factors.assign(tf.constant(np.swapaxes(upper, 1, 2), self.dtype))
        self._initialized.assign(True)

    def _log_prob(self, z, **_):
        batch = tf.shape(z)[: tf.rank(z) - self.event_shape.rank]
        size = self._means.shape[1]
        factors = tf.convert_to_tensor(self._factors)
        # [component, example, entry]: one product for each component.
        apart = tf.reshape(z, [1, -1, size]) - self._means[:, tf.newaxis]
        noise = tf.matmul(apart, factors, transpose_b=True)
        log_det = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factors)), -1)
        log_weight = tf.nn.log_softmax(self._logits) + log_det
        log_weight -= 0.5 * size * math.log(2 * math.pi)
        square = tf.reduce_sum(tf.square(noise), -1)
        log_prob = tf.reduce_logsumexp(log_weight[:, tf.newaxis] - 0.5 * square, 0)
        return tf.reshape(log_prob, batch)

    def _call_sample_n(self, sample_shape, seed, **_):
        fold = tf.random.experimental.stateless_fold_in
        seeds = [fold(stateless_seed(seed), i, alg=ALGORITHM) for i in (0, 1)]
        shape = tf.reshape(tf.cast(sample_shape, tf.int32), [-1])
        count, size = tf.reduce_prod(shape), self._means.shape[1]
        # The first component up to which weights add up to a uniform number.
        ends = tf.cumsum(tf.nn.softmax(self._logits))[:-1]
        uniform = tf.random.stateless_uniform(
            [count, 1], seeds[0], dtype=self.dtype, alg=ALGORITHM
        )
        which = tf.reduce_sum(tf.cast(uniform >= ends, tf.int32), 1)
        noise = tf.random.stateless_normal(
            [count, size], seeds[1], dtype=self.dtype, alg=ALGORITHM
        )
        # What each component would make of it, [component, example, entry].
        z = tf.matmul(noise, self._inverses(), transpose_b=True)
        z += self._means[:, tf.newaxis]
        z = tf.gather_nd(z, tf.stack([which, tf.range(count)], 1))
        return tf.stop_gradient(tf.reshape(z, [*tf.unstack(shape), *self.event_shape]))

    def _inverses(self):
        factors = tf.convert_to_tensor(self._factors)
        return tf.linalg.triangular_solve(
            factors, tf.eye(self._means.shape[1], dtype=self.dtype)
        )

    def _mean(self, **_):
        return self._averaged(self._means)

    def _variance(self, **_):
        second = tf.square(self._means)
        second += tf.reduce_sum(tf.square(self._inverses()), -1)
        return self._averaged(second) - tf.square(self._mean())

    def _averaged(self, of_components):
        mean = tf.linalg.matvec(of_components, tf.nn.softmax(self._logits), True)
        return tf.reshape(mean, self.event_shape)

    def __repr__(self) -> str:
        return describe_distribution(self, components=self.components)
