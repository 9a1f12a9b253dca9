"""A pair of networks that are nearly inverses, trained as a normalizing flow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_number, check_shape
from tfp_flows.core.keras_internals import set_direction
from tfp_flows.core.log_det_estimates import jacobian_by_copies, linearize_by_tape
from tfp_flows.core.seeds import stateless_seed
from tfp_flows.core.shapes import broadcast_context, check_event_shape, reshape_event
from tfp_flows.distributions import standard_normal
from tfp_flows.distributions.inputs import as_data
from tfp_flows.models.without_labels import WithoutLabels, check_finite, check_layers
from tfp_flows.networks.never_empty import never_empty
from tfp_flows.training import data_checks

__all__ = ["FreeFormFlow"]

# Entries of an event up to which the density is computed.
_LARGEST = 256


@keras.saving.register_keras_serializable(package="tfp_flows")
class FreeFormFlow(WithoutLabels):
    r"""A free-form flow: any encoder $f$, and a decoder $g$ that learns its inverse.

    $$ \mathcal L = -\log p_Z(f(x)) - v^\top f'(x)\, \mathrm{stop}\big(g'(f(x))\, v\big)
       + \beta\, \| x - g(f(x)) \|^2 $$

    with a standard normal $p_Z$ and a random direction $v$ of length $\sqrt D$ (Draxler
    et al. 2024, "Free-form flows: Make Any Architecture a Normalizing Flow"). The
    gradient of $\log|\det f'|$ is the trace of $\partial f'\, (f')^{-1}$. The second
    term has this gradient on average if the decoder is the inverse of the encoder,
    which the last term sees to. A step costs a few passes of the two networks, in any
    dimension; a sample costs one of the decoder. **The value of the loss is no
    likelihood**: that of the second term is about $D$ whatever the networks do.

    **The density** is that of the encoder,

    $$ \log p(x) = \log p_Z(f(x)) + \log|\det f'(x)|, $$

    by its whole Jacobian: exact at any $x$, and what training maximises. It adds up to
    one where the encoder is a bijection. Samples come from the decoder, so they have
    this density up to the error of the reconstruction. Far from the data nothing keeps
    the encoder from taking a value twice. `log_prob` takes as many passes as an event
    has entries, so it is for 256 at most.

    **Metrics** are `reconstruction`, the mean of $\| x - g(f(x)) \|^2$, and in
    `evaluate` and validation `nll`, in nats, for events of at most 256 entries.
    `predict(x)` gives log-densities `[N]`.

    **Contexts.** With a `context_shape` the model is one of $p(x | c)$: networks are
    Keras models of two inputs, called as `encoder([x, context])` and
    `decoder([z, context])`. Data are `fit(x, context)`, `evaluate(x, context)`,
    `predict((x, context))`, or streams of `(x, context)`.

    **Networks** treat examples one by one: no batch normalisation. They are smooth, as
    gradients of gradients are taken: SiLU, not ReLU. The input added to a network that
    starts near zero is a good start of both. Data should have deviations of about 1, as
    $\beta$ is in their units.

    Example:
      >>> import keras, numpy as np
      >>> from tfp_flows import models, networks
      >>> def network(seed):
      ...     x = keras.Input((2,))
      ...     return keras.Model(
      ...         x, x + networks.ResidualMLP(2, 32, activation="silu", seed=seed)(x)
      ...     )
      >>> model = models.FreeFormFlow(network(0), network(1), (2,))
      >>> model.compile("adam")
      >>> x = np.random.default_rng(0).normal(size=(64, 2))
      >>> history = model.fit(x, epochs=1, verbose=0)
      >>> sorted(history.history)
      ['loss', 'reconstruction']
      >>> model.log_prob(x).shape, model.sample(3, seed=0).shape
      (TensorShape([64]), TensorShape([3, 2]))

    Args:
      encoder: Keras layer or model from `x [batch, *event_shape]` to codes of any shape
        with as many entries.
      decoder: Keras layer or model from codes to `x`.
      event_shape: shape of an example, such as `(2,)` or `(8, 8, 1)`.
      reconstruction_weight: $\beta$, above 0. Too small a weight lets the two networks
        drift apart, and the gradients with them; too large a one only slows training.
      context_shape: shape of one context, such as `(3,)`; `()` for labels, which a
        `keras.layers.Embedding` takes. `None` for none.
      name: name of the model.

    Raises:
      TypeError: if an argument is of a wrong kind.
      ValueError: if codes have not as many entries as an example, the decoder does not
        give examples, or a number is out of range.
    """

    papers = ("draxler2024free",)

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        event_shape: Sequence[int],
        reconstruction_weight: float = 50.0,
        context_shape: Sequence[int] | None = None,
        name: str = "free_form_flow",
    ):
        check_layers(encoder=encoder, decoder=decoder)
        event_shape = check_shape("event_shape", event_shape)
        weight = check_number("reconstruction_weight", reconstruction_weight, above=0.0)
        context = None
        if context_shape is not None:
            context_shape = check_shape("context_shape", context_shape)
            context = tf.zeros([1, *context_shape])
        # Creates the variables, and shows the shapes.
        z = _call(encoder, tf.zeros([1, *event_shape]), context)
        x = _call(decoder, z, context)
        size, codes = math.prod(event_shape), tuple(z.shape[1:])
        if math.prod(codes) != size:
            raise ValueError(
                f"encoder must give as many numbers as an example {event_shape} has, "
                f"{size}; it gives codes {codes}."
            )
        if tuple(x.shape[1:]) != event_shape:
            raise ValueError(
                f"decoder must give examples {event_shape} of codes {codes}; it gives "
                f"{tuple(x.shape[1:])}."
            )
        dtype = "float64" if z.dtype == tf.float64 else "float32"
        super().__init__(name=name, dtype=dtype)
        self.encoder, self.decoder = encoder, decoder
        self.reconstruction_weight = weight
        self.event_shape, self.code_shape = event_shape, codes
        self.context_shape = context_shape
        self._data_shape, self._size = event_shape, size
        self._base = standard_normal((size,), dtype)
        self.means = [keras.metrics.Mean(name=n) for n in ("reconstruction", "nll")]
        for mean in self.means:
            set_direction(mean, "down")
        self.built = True

    def build(self, input_shape: Any = None) -> None:
        """Nothing to build: the networks have their variables from construction."""

    # The model.

    def encode(self, x: Any, context: Any = None) -> tf.Tensor:
        """The codes of data.

        Args:
          x: `[*batch, *event_shape]`.
          context: `[*batch, *context_shape]`, for a model with a context; its batch and
            that of `x` broadcast.

        Returns:
          `[*batch, *code_shape]`.
        """
        return self._map(
            self._code_of, x, "x", self.event_shape, self.code_shape, context
        )

    def decode(self, z: Any, context: Any = None) -> tf.Tensor:
        """The data of codes, which the decoder gives.

        Args:
          z: `[*batch, *code_shape]`.
          context: as for `encode`.

        Returns:
          `[*batch, *event_shape]`.
        """
        return self._map(
            self._data_of, z, "z", self.code_shape, self.event_shape, context
        )

    def sample(self, n: int, seed: Any = None, context: Any = None) -> tf.Tensor:
        """Draws data: codes from a standard normal, then the decoder.

        Args:
          n: number of samples, for each context.
          seed: as for `Flow.sample`.
          context: `[*batch, *context_shape]`, for a model with a context.

        Returns:
          `[n, *batch, *event_shape]`.
        """
        n = check_integer("n", n, at_least=0)
        batch: Any = []
        if self._takes(context):
            context = as_data(context, tf.as_dtype(self.dtype), "context")
            event: Any = self.context_shape
            batch = tf.shape(context)[: context.shape.rank - len(event)]
        z = self._base.sample(tf.concat([[n], batch], 0), stateless_seed(seed))
        return self.decode(reshape_event(z, 1, self.code_shape), context)

    def log_prob(self, x: Any, context: Any = None) -> tf.Tensor:
        """The log-density of the encoder, in nats; see the class.

        Args:
          x: `[*batch, *event_shape]`.
          context: as for `encode`.

        Returns:
          Tensor of shape `batch`.

        Raises:
          ValueError: if an event has more than 256 entries, on a wrong shape, or on a
            context that is missing or not expected.
        """
        size = self._size
        if size > _LARGEST:
            raise ValueError(
                f"log_prob takes a pass of the encoder for each of the {size} entries "
                f"of an event; at most {_LARGEST} are allowed."
            )

        def log_prob(x, context):
            given = () if context is None else (context,)
            encode = linearize_by_tape(self._code_of)
            z, jacobian = jacobian_by_copies(encode, len(given))(x, *given)
            # LU decompositions do not compile under XLA on a CPU.
            _, r = tf.linalg.qr(jacobian)
            scales = tf.math.log(tf.abs(tf.linalg.diag_part(r)))
            z = tf.reshape(z, [-1, size])
            return self._base.log_prob(z) + tf.reduce_sum(scales, -1)

        return self._map(log_prob, x, "x", self.event_shape, (), context)

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, tf.Tensor]:
        """What training maximises, and its parts.

        Args:
          inputs: `x [batch, *event_shape]`, or `(x, context)`.
          training: whether to leave out the log-densities.

        Returns:
          A dict of `objective`, the negative loss; `reconstruction`; and, unless in
          training or of too many entries, `log_prob`: each `[batch]`.
        """
        parts = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        x, context = (*parts, None)[:2]
        x = tf.cast(x, self.dtype)
        given = (context,) if self._takes(context) else ()
        z, pull_back = linearize_by_tape(self._code_of)(x, *given)
        z = tf.reshape(z, [-1, self._size])
        v = tf.math.l2_normalize(tf.random.normal(tf.shape(z), dtype=z.dtype), -1)
        v *= math.sqrt(self._size)
        # The derivative of the decoder along v, as that of its backward pass, which is
        # linear: TensorFlow's forward accumulators lose gradients in eager mode.
        y, pull_back_codes = linearize_by_tape(self._data_of)(z, *given)
        with tf.GradientTape() as tape:
            u = tf.zeros_like(y)
            tape.watch(u)
            back = pull_back_codes(u)
        along = tf.stop_gradient(tape.gradient(back, u, v))
        axes = list(range(1, x.shape.rank))
        back = pull_back(tf.reshape(v, [-1, *self.code_shape]))
        surrogate = tf.reduce_sum(back * along, axes)
        error = tf.reduce_sum(tf.square(x - y), axes)
        objective = self._base.log_prob(z) + surrogate
        found = {
            "objective": objective - self.reconstruction_weight * error,
            "reconstruction": error,
        }
        if not training and self._size <= _LARGEST:
            found["log_prob"] = self.log_prob(x, context)
        return found

    def _code_of(self, x, context=None):
        return tf.cast(_call(self.encoder, x, context), self.dtype)

    def _data_of(self, z, context=None):
        """The decoder's output; codes may be vectors."""
        z = tf.reshape(z, [-1, *self.code_shape])
        return tf.cast(_call(self.decoder, z, context), self.dtype)

    def _map(
        self,
        function: Callable[..., tf.Tensor],
        value: Any,
        what: str,
        shape: tuple[int, ...],
        result: tuple[int, ...],
        context: Any,
    ) -> tf.Tensor:
        """A function of batches `[N, *shape]`, for a batch of any shape."""
        value = tf.cast(as_data(value, tf.as_dtype(self.dtype), what), self.dtype)
        value = check_event_shape(value, shape, len(shape), f"{self.name}: {what}")
        if self._takes(context):
            event: Any = self.context_shape
            value, context = broadcast_context(
                value, len(shape), context, event, self.name
            )
            context = tf.reshape(context, [-1, *event])
        # Keras adds two tensors of an empty batch as a tensor and a bias, and fails.
        flat = never_empty(function, tf.reshape(value, [-1, *shape]), context)
        return reshape_event(flat, len(shape), result, like=value)

    def _takes(self, context, name="context"):
        """Whether the model takes contexts.

        Raises:
          ValueError: on a context that is missing or not expected.
        """
        takes = self.context_shape is not None
        if takes and context is None:
            raise ValueError(
                f"{self.name}: {name} is required, contexts [*batch, "
                f"{', '.join(map(str, self.context_shape))}]."
            )
        if context is not None and not takes:
            raise ValueError(
                f"{self.name}: {name} must be left out: the model was built without a "
                "context_shape."
            )
        return takes

    # Keras.

    def fit(
        self, x: Any = None, y: Any = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Like `keras.Model.fit`, without labels.

        Args:
          x: data `[N, *event_shape]`, or a stream of batches, of `(x, context)` for a
            model with a context.
          y: contexts `[N, *context_shape]`, for a model with a context and arrays.
          **kwargs: as for `keras.Model.fit`; `validation_data` are `x` or
            `(x, context)`.

        Returns:
          Keras's `History`.

        Raises:
          TypeError: on data that are not real numbers.
          ValueError: on NaN, data of a wrong shape, or a `sample_weight`; on contexts
            that are missing or not expected.
          TrainingDiverged: if the loss or the weights become NaN or infinite.
        """
        held_out = kwargs.get("validation_data")
        if isinstance(held_out, tuple):
            x_held_out, *rest = held_out
            given = self._checked_context(x_held_out, *rest[:1])
            kwargs["validation_data"] = self._checked(x_held_out), given, *rest[1:]
        elif held_out is not None:
            self._checked_context(held_out)
        return super().fit(x, y=self._checked_context(x, y), **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Like `keras.Model.evaluate`; `x` and `y` are as for `fit`."""
        return super().evaluate(x, y=self._checked_context(x, y), **kwargs)

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.predict`: log-densities `[N]`, in nats.

        Args:
          x: `x`, or `(x, context)`; or a stream of batches.
          **kwargs: as for `keras.Model.predict`.
        """
        if self.context_shape is None or data_checks.is_stream(x):
            return super().predict(x, **kwargs)
        x, context = x if isinstance(x, tuple) else (x, None)
        pair = self._checked(x), self._checked_context(x, context, "context")
        return keras.Model.predict(self, pair, **kwargs)

    def _checked_context(self, x, context=None, name="y"):
        """Contexts of arrays, looked at as a whole; those of streams are in them."""
        if data_checks.is_stream(x):
            return context
        if self._takes(context, name):
            context = data_checks.as_array(name, context)
            expected = (len(x), *self.context_shape)
            if context.shape != expected:
                raise ValueError(
                    f"{name} must have shape {expected}, got {context.shape}."
                )
            check_finite(name, context)
        return context

    def train_step(self, data: Any) -> Any:
        return super().train_step(self._as_step(data))

    def test_step(self, data: Any) -> Any:
        return super().test_step(self._as_step(data))

    def predict_step(self, data: Any) -> tf.Tensor:
        x, _, _ = self._as_step(data)
        return self.log_prob(*x) if isinstance(x, tuple) else self.log_prob(x)

    def _as_step(self, data):
        """A batch in the form that Keras's steps take: `(inputs, labels, weight)`."""
        x, context, weight = keras.utils.unpack_x_y_sample_weight(data)
        if self.context_shape is None:
            return x, context, weight
        if isinstance(x, (tuple, list)):
            x, context = x
        return (x, context), None, weight

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        return super().compute_loss(x, y, y_pred["objective"], sample_weight, **kwargs)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        objective, error = y_pred["objective"], y_pred["reconstruction"]
        reconstruction, nll = self.means
        reconstruction.update_state(error, sample_weight)
        if "log_prob" in y_pred:
            nll.update_state(-y_pred["log_prob"], sample_weight)
        zeros = tf.zeros_like(objective)
        found = super().compute_metrics(x, zeros, objective, sample_weight)
        # Without a density it knows nothing.
        left_out = () if "log_prob" in y_pred else (nll.name,)
        return {name: v for name, v in found.items() if name not in left_out}

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "event_shape": self.event_shape,
            "reconstruction_weight": self.reconstruction_weight,
            "context_shape": self.context_shape,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Any = None
    ) -> FreeFormFlow:
        config = dict(config)
        for name in ("encoder", "decoder"):
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        return cls(**config)


def _call(network, x, context):
    """The output of a network that takes `x`, or `[x, context]`."""
    return network(x if context is None else [x, context])
