"""A variational autoencoder whose posterior and prior may be flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_integer
from tfp_flows.core.keras_internals import set_direction
from tfp_flows.core.seeds import ALGORITHM, stateless_seed
from tfp_flows.distributions import standard_normal
from tfp_flows.models.without_labels import WithoutLabels, check_layers
from tfp_flows.training import data_checks
from tfp_flows.training.flow_model import FlowModel
from tfp_flows.training.initialize import needs_initialization

__all__ = ["FlowVAE"]

# Scales of the posterior are above this.
_LEAST_SCALE = 1e-5


@keras.saving.register_keras_serializable(package="tfp_flows")
class FlowVAE(WithoutLabels):
    r"""A variational autoencoder (Kingma & Welling 2014) with flows.

    $$ \log p(x) \ge \mathbb{E}_q \log \frac1K \sum_{k=1}^K
       \frac{p(x \mid z_k)\, p(z_k)}{q(z_k \mid x)}, \qquad
       z_k = \mu(x) + \sigma(x) f(\epsilon_k; h(x)) $$

    The encoder gives features, of which a linear layer makes $\mu$, $\sigma$ and the
    context $h$ of the posterior's flow $f$. Without a flow the posterior is Gaussian.
    The shift and the scale stand behind the flow, as in
    `tfp_flows.inference.surrogate_posterior`. For $K$ = 1 the bound is the evidence
    lower bound (ELBO), otherwise the importance-weighted one (Burda et al. 2016,
    equation 8). The loss is its negative mean over examples, in nats.

    **Data** are `fit(x)`, or a dataset or generator of `x`. With the Bernoulli
    likelihood, numbers between 0 and 1 are probabilities, by which black and white
    pixels are drawn anew in each step of `fit`, `evaluate` and `predict`.

    **Warm-up.** The loss weighs `kl` by the variable `kl_weight`, which is 1. A
    callback that lets it rise to 1 in the first epochs (`vae.kl_weight.assign`) keeps
    latent variables from being given up early (Sønderby et al. 2016). `bound` stays the
    bound.

    **Metrics** are `bound`; `reconstruction`, the mean of $\log p(x \mid z)$; and `kl`,
    that of $\log q(z \mid x) - \log p(z)$: in nats per example. `predict(x)` gives
    the same as a dict of arrays `[N]`.

    Example:
      >>> import keras, numpy as np
      >>> from tfp_flows import flows, models
      >>> vae = models.FlowVAE(
      ...     encoder=keras.layers.Dense(8, activation="relu"),
      ...     decoder=keras.layers.Dense(6),
      ...     latent_size=2,
      ...     posterior=flows.planar(
      ...         (2,), layers=2, explicit="sampling", context_shape=(4,),
      ...         normalize=False, normalize_context=False, seed=0,
      ...     ),
      ... )
      >>> vae.compile("adam")
      >>> x = np.random.default_rng(0).integers(0, 2, size=(64, 6))
      >>> history = vae.fit(x, epochs=1, verbose=0)
      >>> sorted(history.history)
      ['bound', 'kl', 'loss', 'reconstruction']
      >>> vae.log_likelihood(x, importance_size=16, seed=0).shape
      (64,)
      >>> vae.sample(3, seed=0).shape
      TensorShape([3, 6])

    Args:
      encoder: Keras layer or model from `x [batch, ...]` to features `[batch, F]`.
      decoder: Keras layer or model from `z [batch, latent_size]` to the parameters of
        the likelihood, such as logits of the shape of `x`.
      latent_size: number of entries of $z$.
      posterior: a flow over `(latent_size,)`, amortised if it has a `context_shape`
        `(C,)`; `None` for a Gaussian posterior. It should be fast to sample: `iaf`, or
        `planar` and `sylvester` with `explicit="sampling"`. Ready flows need
        `normalize=False` and, with a context, `normalize_context=False`.
      prior: a flow over `(latent_size,)` without context, with a fast density
        (`real_nvp`, `maf`); `None` for the standard normal.
      likelihood: `"bernoulli"`, for a decoder that gives logits; or a function from
        what the decoder gives, with any batch shape, to a distribution with the event
        shape of `x`. `keras.saving.register_keras_serializable` lets it be saved.
      importance_size: $K$, number of samples for each example of a step.
      name: name of the model.

    Raises:
      TypeError: if an argument is of a wrong kind.
      ValueError: if a flow does not fit, or still needs data to start from.
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        latent_size: int,
        posterior: tfd.Distribution | None = None,
        prior: tfd.Distribution | None = None,
        likelihood: str | Callable[[Any], tfd.Distribution] = "bernoulli",
        importance_size: int = 1,
        name: str = "flow_vae",
    ):
        check_layers(encoder=encoder, decoder=decoder)
        if likelihood != "bernoulli" and not callable(likelihood):
            raise TypeError(
                "likelihood must be 'bernoulli' or a function of what the decoder "
                f"gives, got {likelihood!r}."
            )
        latent_size = check_integer("latent_size", latent_size)
        importance_size = check_integer("importance_size", importance_size)
        for argument, flow in (("posterior", posterior), ("prior", prior)):
            _check_flow(argument, flow, latent_size)
        super().__init__(name=name)
        self.encoder, self.decoder = encoder, decoder
        self.latent_size, self.importance_size = latent_size, importance_size
        self.likelihood = likelihood
        # Keras tracks layers, not flows.
        self.posterior_model, self.prior_model = (
            None if flow is None else FlowModel(flow, name=argument)
            for argument, flow in (("posterior", posterior), ("prior", prior))
        )
        shape = getattr(posterior, "context_shape", None)
        self._context_size = 0 if shape is None else shape[0]
        self.head = keras.layers.Dense(
            2 * latent_size + self._context_size, dtype="float32", name="head"
        )
        self.kl_weight = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="kl_weight"
        )
        names = ("bound", "reconstruction", "kl")
        self.means = [keras.metrics.Mean(name=name) for name in names]
        for mean, direction in zip(self.means, ("up", "up", "down"), strict=True):
            set_direction(mean, direction)

    exactness = "bound"

    @property
    def prior(self) -> tfd.Distribution:
        """The distribution of $z$."""
        if self.prior_model is None:
            return standard_normal((self.latent_size,))
        return self.prior_model.flow

    def build(self, input_shape: Any) -> None:
        """Builds the networks, and checks that their shapes fit the data.

        Raises:
          ValueError: if the encoder does not give vectors, or the likelihood has
            another event shape than the data.
        """
        input_shape = (None, *input_shape[1:])
        latent = (None, self.latent_size)
        for layer, shape in ((self.encoder, input_shape), (self.decoder, latent)):
            if not layer.built:
                layer.build(shape)
        features = tuple(self.encoder.compute_output_shape(input_shape))
        if len(features) != 2 or features[1] is None:
            raise ValueError(
                f"encoder must give features [batch, F], got shape {features}: end it "
                "with keras.layers.Flatten()."
            )
        self.head.build(features)
        one = tf.nest.map_structure(
            lambda spec: tf.zeros((1, *spec.shape[1:])),
            self.decoder.compute_output_spec(keras.KerasTensor(latent)),
        )
        found = tuple(self._likelihood(one, 1).event_shape)
        if found != input_shape[1:]:
            raise ValueError(
                "decoder must give the parameters of a likelihood of events of the "
                f"shape of x, {input_shape[1:]}; that of its output has event shape "
                f"{found}."
            )
        self._data_shape = input_shape[1:]
        # One trace, whatever the number of examples and of samples.
        self._estimate = tf.function(
            self._estimate_batch,
            input_signature=[
                tf.TensorSpec(input_shape, tf.float32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([2], tf.int32),
            ],
            autograph=False,
        )
        self.built = True

    def _likelihood(self, parameters, batch_rank):
        if callable(self.likelihood):
            return self.likelihood(parameters)
        return tfd.Independent(
            tfd.Bernoulli(logits=parameters, dtype=tf.float32),
            parameters.shape.rank - batch_rank,
        )

    # The model.

    def encode(
        self, x: Any, samples: int = 1, seed: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        r"""Draws from the posterior.

        Args:
          x: `[batch, ...]`.
          samples: number of samples for each example.
          seed: as for `Flow.sample`.

        Returns:
          `z [samples, batch, latent_size]` and $\log q(z \mid x)$ `[samples, batch]`,
          in nats.
        """
        return self._draw(self._features(x), samples, seed)

    def _features(self, x):
        return self.head(tf.cast(self.encoder(x), tf.float32))

    def _draw(self, features, samples, seed):
        sizes = [self.latent_size, self.latent_size, self._context_size]
        loc, raw_scale, context = tf.split(features, sizes, axis=-1)
        # 1 where the linear layer gives 0.
        scale = _LEAST_SCALE + tf.nn.softplus(raw_scale + math.log(math.e - 1.0))
        if self.posterior_model is None:
            flow = standard_normal((self.latent_size,))
        else:
            flow = self.posterior_model.flow
        shape, given = [samples, tf.shape(features)[0]], {}
        if self._context_size:
            shape, given = [samples], {"context": context}
        noise, log_q = flow.experimental_sample_and_log_prob(
            shape, stateless_seed(seed), **given
        )
        return loc + scale * noise, log_q - tf.reduce_sum(tf.math.log(scale), -1)

    def decode(self, z: Any) -> tfd.Distribution:
        """The distribution of data given latent variables.

        Args:
          z: `[*batch, latent_size]`.

        Returns:
          A distribution of batch shape `batch`; its `mean()` is the picture that is
          usually shown.
        """
        z = tf.cast(z, tf.float32)
        batch = tf.shape(z)[:-1]
        parameters = tf.nest.map_structure(
            lambda part: tf.ensure_shape(
                tf.reshape(part, tf.concat([batch, tf.shape(part)[1:]], 0)),
                [*z.shape[:-1], *part.shape[1:]],
            ),
            self.decoder(tf.reshape(z, [-1, self.latent_size])),
        )
        return self._likelihood(parameters, z.shape.rank - 1)

    def sample(self, n: int, seed: Any = None) -> tf.Tensor:
        """Draws data: latent variables from the prior, then from the likelihood.

        Args:
          n: number of samples.
          seed: as for `Flow.sample`.

        Returns:
          `[n, ...]`.
        """
        first, second = tfp.random.split_seed(stateless_seed(seed))
        return self.decode(self.prior.sample(n, first)).sample(seed=second)

    def _terms(self, x, features, samples, seed):
        z, log_q = self._draw(features, samples, seed)
        return self.decode(z).log_prob(x), log_q - self.prior.log_prob(z)

    def _pixels(self, x, seed):
        x = tf.cast(x, tf.float32)
        if callable(self.likelihood):
            return x
        u = tf.random.stateless_uniform(
            tf.shape(x), stateless_seed(seed), alg=ALGORITHM
        )
        return tf.cast(u < x, tf.float32)

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, tf.Tensor]:
        """The bound and its parts, from `importance_size` samples for each example.

        Args:
          inputs: `x [batch, ...]`.
          training: whether networks with a training mode (dropout) use it.

        Returns:
          A dict of `bound`, `reconstruction` and `kl`, each `[batch]`, in nats.
        """
        x = self._pixels(inputs, None)
        k = self.importance_size
        reconstruction, kl = self._terms(x, self._features(x), k, None)
        bound = tf.reduce_logsumexp(reconstruction - kl, 0) - math.log(k)
        return {
            "bound": bound,
            "reconstruction": tf.reduce_mean(reconstruction, 0),
            "kl": tf.reduce_mean(kl, 0),
        }

    def log_likelihood(
        self,
        x: Any,
        importance_size: int = 128,
        batch_size: int = 128,
        seed: int | None = None,
    ) -> np.ndarray:
        r"""The importance-weighted estimate of the log-likelihood.

        It is a lower bound in expectation, which rises with the number of samples to
        $\log p(x)$ (Burda et al. 2016, theorem 1).

        Args:
          x: data `[N, ...]`.
          importance_size: $K$, number of samples for each example.
          batch_size: examples in one pass, of one sample each.
          seed: an integer of any size, or `None` for a new one.

        Returns:
          Array `[N]`, in nats.

        Raises:
          TypeError: on data that are not real numbers.
          ValueError: on data of a wrong shape or range.
        """
        k = check_integer("importance_size", importance_size)
        if data_checks.is_stream(x):
            raise TypeError(f"x must be an array, got {type(x).__name__}.")
        x = self._checked(x).astype(np.float32)
        batches = tf.data.Dataset.from_tensor_slices(x).batch(batch_size)
        seed = stateless_seed(seed)
        parts = [
            self._estimate(part, k, tf.random.experimental.stateless_fold_in(seed, i))
            for i, part in enumerate(batches)
        ]
        return np.concatenate(parts)

    def _estimate_batch(self, x, k, seed):
        fold_in = tf.random.experimental.stateless_fold_in
        x = self._pixels(x, fold_in(seed, k))
        features = self._features(x)

        def add(i, total):
            reconstruction, kl = self._terms(x, features, 1, fold_in(seed, i))
            return i + 1, tf.reduce_logsumexp([total, (reconstruction - kl)[0]], 0)

        start = tf.fill(tf.shape(x)[:1], -math.inf)
        _, total = tf.while_loop(lambda i, _: i < k, add, (0, start))
        return total - tf.math.log(tf.cast(k, total.dtype))

    # Keras.

    def predict(self, x: Any, **kwargs: Any) -> dict[str, np.ndarray]:
        """Like `keras.Model.predict`: what `call` gives, as arrays `[N]`."""
        return super().predict(x, **kwargs)

    def _checked(self, x, options=None):
        x = super()._checked(x, options)
        if callable(self.likelihood) or not isinstance(x, np.ndarray):
            return x
        low, high = x.min(initial=0.0), x.max(initial=0.0)
        if low < 0 or high > 1:
            raise ValueError(
                "x must lie in [0, 1] for the Bernoulli likelihood, got values from "
                f"{low:g} to {high:g}: divide 8-bit pixels by 255, or give another "
                "likelihood."
            )
        return x

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        objective = y_pred["bound"] + (1.0 - self.kl_weight) * y_pred["kl"]
        return super().compute_loss(x, y, objective, sample_weight, **kwargs)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        for mean in self.means:
            mean.update_state(y_pred[mean.name], sample_weight)
        bound = y_pred["bound"]
        return super().compute_metrics(x, tf.zeros_like(bound), bound, sample_weight)

    def get_config(self) -> dict[str, Any]:
        if getattr(self.likelihood, "__name__", "") == "<lambda>":
            raise ValueError(
                "likelihood is a lambda, which no file can hold: give a function with "
                "a name, decorated by keras.saving.register_keras_serializable."
            )
        parts = {
            "encoder": self.encoder,
            "decoder": self.decoder,
            "posterior": self.posterior_model,
            "prior": self.prior_model,
            "likelihood": self.likelihood,
        }
        serialize = keras.saving.serialize_keras_object
        return {
            **{name: serialize(part) for name, part in parts.items()},
            "latent_size": self.latent_size,
            "importance_size": self.importance_size,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Any = None
    ) -> FlowVAE:
        config = dict(config)
        for name in ("encoder", "decoder", "posterior", "prior", "likelihood"):
            part = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
            config[name] = part.flow if isinstance(part, FlowModel) else part
        return cls(**config)


def _check_flow(name: str, flow: Any, size: int) -> None:
    """Raises an error unless a flow fits as the posterior or the prior."""
    if flow is None:
        return
    if not isinstance(flow, tfd.Distribution):
        raise TypeError(
            f"{name} must be a flow (a TFP distribution), got {type(flow).__name__}."
        )
    if flow.event_shape != [size]:
        raise ValueError(
            f"{name} must be a flow over ({size},), latent_size; got event shape "
            f"{flow.event_shape}."
        )
    if flow.dtype != tf.float32:
        raise ValueError(f"{name} must be of dtype float32, got {flow.dtype.name}.")
    shape = getattr(flow, "context_shape", None)
    if name == "prior" and shape is not None:
        raise ValueError(f"prior must take no context, got context_shape {shape}.")
    if shape is not None and (isinstance(shape, Mapping) or len(shape) != 1):
        raise ValueError(
            f"posterior must take a vector as its context, context_shape=(C,); got "
            f"{shape}."
        )
    if needs_initialization(flow):
        raise ValueError(
            f"{name} has parts that start from data (ActNorm, normalize=True), and "
            "there are none of latent variables: build it with normalize=False, and "
            "with normalize_context=False if it takes a context."
        )
