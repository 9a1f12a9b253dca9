"""A continuous flow as a Keras model that is trained without solving its equation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import Chain, ContinuousFlow
from tfp_flows.bijectors.chain import members
from tfp_flows.core.arguments import check_choice
from tfp_flows.distributions import Flow
from tfp_flows.training.flow_model import FlowModel

__all__ = ["FlowMatching"]


@keras.saving.register_keras_serializable(package="tfp_flows")
class FlowMatching(FlowModel):
    r"""A `FlowModel` that trains the velocity of a continuous flow by regression.

    With noise $z$ from the base, data $x$ and a time $t$ from U[0, 1), the loss is

    $$ \frac{1}{D} \left\| v\big((1 - t)\, z + t\, x,\; t\big) - (x - z) \right\|^2 $$

    (Lipman et al. 2023, conditional flow matching on straight paths; Tong et al. 2024).
    Its minimum is the velocity that moves the base to the data. No equation is solved
    in training, so that a step costs one pass of the network instead of `4 * steps`
    with traces. **The loss is no likelihood**: neither in nats, nor a bound. The
    density is afterwards that of the flow, by its equation.

    **Metrics.** `loss` (with regularisers of the network) and `velocity_error`, the
    loss above, in training; `evaluate` and validation add `nll` and `bits_per_dim` of
    the data, by the equation. Calling the model gives a dict of `velocity_error`
    `[batch]` and, unless `training=True`, `log_prob` `[batch]` in nats; `predict` gives
    the latter.

    **Pairing.** `"optimal_transport"` pairs the noise of a batch with its data so that
    the sum of squared distances is smallest (Tong et al. 2024): paths cross less, and
    few steps of a solver are enough afterwards. It finds the pairs on the CPU, in cubic
    time, which is little for hundreds of examples. It is not for a flow with a context,
    whose noise would come to depend on the context.

    **The flow** ends at the noise with one `ContinuousFlow`. What stands between it and
    the data (scaling, logit, normalisation), and the base, have nothing to train.
    Weights of `kinetic_energy` and `jacobian_norm` have no effect here.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import flows, training
      >>> flow = flows.ffjord((2,), width=8, depth=1, steps=2, seed=0)
      >>> model = training.FlowMatching(flow)
      >>> model.compile("adam")
      >>> x = np.random.default_rng(0).normal(size=(64, 2))
      >>> history = model.fit(x, epochs=1, verbose=0)
      >>> sorted(history.history)
      ['loss', 'velocity_error']
      >>> model.flow.log_prob(x).shape
      TensorShape([64])

    Args:
      flow: a `Flow` as described, such as `tfp_flows.flows.ffjord`.
      pairing: `"independent"` or `"optimal_transport"`.
      name: name of the model.
      dequantize: as for `FlowModel`.

    Raises:
      TypeError: if `flow` is no `Flow`.
      ValueError: if it is not as described, on an unknown pairing, or on one that does
        not go with a context.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        found = (*super().papers, "lipman2023flow")
        is_paired = self.pairing == "optimal_transport"
        return (*found, "tong2024improving") if is_paired else found

    def __init__(
        self,
        flow: Flow,
        pairing: str = "independent",
        name: str = "flow_matching",
        dequantize: bool | float = False,
    ):
        check_choice("pairing", pairing, ("independent", "optimal_transport"))
        if not isinstance(flow, Flow):
            raise TypeError(
                f"flow must be a tfp_flows.Flow, got {type(flow).__name__}. For whole "
                "numbers, FlowMatching itself takes dequantize=True."
            )
        *outer, inner = members(flow.bijector)
        trained = [p.name for p in (*outer, flow.distribution) if p.trainable_variables]
        if not isinstance(inner, ContinuousFlow) or trained:
            found = f"{inner.name} ({type(inner).__name__})"
            raise ValueError(
                "flow must end at the noise with one ContinuousFlow, and nothing else "
                "in it may be trained, as in flows.ffjord((2,), layers=1, "
                f'base="normal"); it ends with {found}'
                + (f", and {', '.join(trained)} would be trained." if trained else ".")
            )
        if pairing == "optimal_transport" and flow.context_shape is not None:
            raise ValueError(
                'pairing must be "independent" for a flow with a context: optimal '
                "transport would make its noise depend on the context."
            )
        super().__init__(flow, name, dequantize)
        self.pairing = pairing
        self._inner, self._outer = inner, Chain(outer) if outer else None
        self.velocity_error = keras.metrics.Mean(name="velocity_error")

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Like `FlowModel.compile`; `loss` stays what it is by default.

        Raises:
          ValueError: on `jit_compile=True` with `pairing="optimal_transport"`, which
            XLA cannot compile.
        """
        super().compile(*args, **kwargs)
        if self.pairing == "optimal_transport":
            if self.jit_compile:
                raise ValueError(
                    'jit_compile must be False with pairing="optimal_transport", whose '
                    "pairs are found outside of TensorFlow."
                )
            self._tries_xla = False

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Errors of the velocity and, unless in training, log-densities.

        Args:
          inputs: `x [batch, *event_shape]`, or `(x, context)`.
          training: whether to leave out the log-densities.

        Returns:
          A dict of `velocity_error [batch]` and `log_prob [batch]`, nats.

        Raises:
          ValueError: if the flow is not initialised, as for `FlowModel`.
        """
        parts = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        x, context = (*parts, None)[:2]
        x = tf.cast(x, self.flow.dtype)
        if not self._ready:
            self._start(x, context, training)
        found = {"velocity_error": self._errors(x, context)}
        if not training:
            found["log_prob"] = super().call(inputs)
        return found

    def _errors(self, x, context):
        """The loss of each example, with noise and times drawn anew."""
        keywords = {} if context is None else {"context": context}
        count = tf.shape(x)[0]
        noise, given = self.flow._sample_noise(
            [] if keywords else [count], None, **keywords
        )
        if self._outer is not None:
            x = self._outer.inverse(x)
        if self.pairing == "optimal_transport":
            noise = _paired(noise, x)
        # Evenly spaced, from a random start: of less variance than independent times.
        spaced = tf.range(tf.cast(count, x.dtype)) / tf.cast(count, x.dtype)
        t = tf.math.floormod(tf.random.uniform([], dtype=x.dtype) + spaced, 1.0)
        at = tf.reshape(
            t, tf.concat([[count], tf.ones([x.shape.rank - 1], tf.int32)], 0)
        )
        v = self._inner.velocity((1.0 - at) * noise + at * x, t, **given.bijector)
        error = tf.square(v - (x - noise))
        return tf.reduce_mean(error, list(range(1, x.shape.rank)))

    # What Keras calls.

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        # The loss of a `FlowModel` is the negative of what it gets.
        objective = -y_pred["velocity_error"]
        return super().compute_loss(
            x=x, y=y, y_pred=objective, sample_weight=sample_weight, **kwargs
        )

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        error = y_pred["velocity_error"]
        self.velocity_error.update_state(error, sample_weight)
        if "log_prob" in y_pred:
            return super().compute_metrics(x, y, y_pred["log_prob"], sample_weight)
        # The others know nothing yet.
        known = ("loss", "velocity_error")
        return {m.name: m.result() for m in self.metrics if m.name in known}

    def predict_step(self, data: Any) -> Any:
        return super().predict_step(data)["log_prob"]

    # Saving.

    def _arguments(self):
        return {**super()._arguments(), "pairing": self.pairing}


def _paired(noise: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The noise in the order in which it is nearest to the data, in sum of squares."""
    from scipy.optimize import linear_sum_assignment

    a, b = (tf.reshape(part, [tf.shape(part)[0], -1]) for part in (x, noise))
    # Squares of the two alone are the same for all pairings.
    cost = -tf.matmul(a, b, transpose_b=True)

    def assign(cost):
        return linear_sum_assignment(cost)[1].astype(np.int32)

    order = tf.numpy_function(assign, [cost], tf.int32, stateful=False)
    return tf.ensure_shape(tf.gather(noise, order), noise.shape)
