"""A flow that also classifies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.distributions import Flow
from tfp_flows.training import data_checks
from tfp_flows.training.data_checks import Data
from tfp_flows.training.flow_model import FlowModel

__all__ = ["HybridModel"]


class _Calibration(keras.layers.Layer):
    """A temperature of class probabilities and a threshold of log-densities."""

    def __init__(self, dtype):
        super().__init__(name="calibration", dtype=dtype)
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="temperature"
        )
        # Finite, as weights have to be.
        lowest = float(np.finfo("float32").min)
        self.threshold = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(lowest),
            trainable=False,
            name="threshold",
        )
        self.built = True

    def call(self, found):
        logits = found["logits"] / self.temperature
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "log_prob": found["log_prob"],
            "accepted": found["log_prob"] >= self.threshold,
        }


@keras.saving.register_keras_serializable(package="tfp_flows")
class HybridModel(FlowModel):
    r"""A `FlowModel` that also classifies, by the noise of its flow.

    $$ \log p(y, x) = \log p(y \mid z) + \log p(x), \qquad z = f^{-1}(x) $$

    (Nalisnick et al. 2019, "Hybrid Models with Deep and Invertible Features"). The
    head, a linear classifier, sees the noise $z$, so that one pass gives the class and
    the density. Training maximises the mean over examples of

    $$ \lambda \log p(x) + \log p(y \mid z), $$

    in nats. $\lambda$ = 1 is the likelihood of both; as $\log p(x)$ grows with the
    number $D$ of entries and $\log p(y \mid z)$ does not, $1/D$ is the default.
    $\lambda$ = 0 trains the same network as a plain classifier.

    **Data** are `fit(x, y)`, or streams of `(x, y)` or `(x, y, sample_weight)`, with
    integer labels `y [N]`. **A label of -1 is missing**: such an example counts by its
    density alone, in the loss and in the metrics (semi-supervised learning).

    **Metrics** are `accuracy` and `cross_entropy` (nats), of labelled examples, and
    `nll` and `bits_per_dim`, as those of `FlowModel`. Those that `compile` takes are of
    the log-density.

    **Predictions.** `predict(x)` gives a dict: class `probabilities` `[N, num_classes]`
    and their `logits`, the `log_prob` `[N]` in nats, and which examples are `accepted`
    `[N]`, not so improbable that the class should not be believed. `calibrate` sets the
    temperature and the threshold behind them by held-out data; both are saved. A high
    density does not prove that an input is of the kind of the training data (Nalisnick
    et al. 2019, "Do Deep Generative Models Know What They Don't Know?").

    `flow` has all that a flow has: `model.flow.sample(...)`. `export` exports it, not
    the head.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import flows, models
      >>> flow = flows.real_nvp((2,), layers=2, width=8, seed=0)
      >>> model = models.HybridModel(flow, num_classes=2)
      >>> model.compile("adam")
      >>> x = np.random.default_rng(0).normal(size=(64, 2))
      >>> y = np.where(x[:, 1] > 0, -1, x[:, 0] > 0)  # -1: not known
      >>> history = model.fit(x, y, epochs=1, verbose=0)
      >>> sorted(history.history)
      ['accuracy', 'bits_per_dim', 'cross_entropy', 'loss', 'nll']
      >>> model.calibrate(x, y, reject=0.1)
      >>> found = model.predict(x, verbose=0)
      >>> found["probabilities"].shape, int(found["accepted"].sum())
      ((64, 2), 58)

    Args:
      flow: a `Flow` without context.
      num_classes: number of classes.
      weight: $\lambda$, 0 or above; `None` for $1/D$.
      head: Keras layer from the noise `[batch, *flow.distribution.event_shape]` to
        logits `[batch, num_classes]`; by default a linear one.
      name: name of the model.
      dequantize: as for `FlowModel`.

    Raises:
      TypeError: if `flow` is no `Flow`, or an argument is no number.
      ValueError: if the flow takes a context, `head` does not give `num_classes`
        logits, or a number is out of range.
    """

    def __init__(
        self,
        flow: Flow,
        num_classes: int,
        weight: float | None = None,
        head: keras.layers.Layer | None = None,
        name: str = "hybrid_model",
        dequantize: bool | float = False,
    ):
        if not isinstance(flow, Flow):
            raise TypeError(
                "flow must be a tfp_flows.Flow, whose noise the head classifies, got "
                f"{type(flow).__name__}. For whole numbers, HybridModel itself takes "
                "dequantize=True."
            )
        if flow.context_shape is not None:
            raise ValueError(
                "flow must take no context: labels go to the head; got one with "
                f"context_shape {flow.context_shape}."
            )
        num_classes = check_integer("num_classes", num_classes, 2)
        if weight is not None:
            weight = check_number("weight", weight, at_least=0.0)
        super().__init__(flow, name, dequantize)
        self.num_classes = num_classes
        size = flow.event_shape.num_elements()
        self.weight = 1.0 / size if weight is None else weight
        dtype = tf.as_dtype(flow.dtype).name
        if head is None:
            linear = keras.layers.Dense(num_classes, dtype=dtype)
            head = keras.Sequential(
                [keras.layers.Flatten(dtype=dtype), linear], name="head"
            )
        shape = (None, *flow.distribution.event_shape)
        if not isinstance(head, keras.layers.Layer):
            raise TypeError(f"head must be a Keras layer, got {type(head).__name__}.")
        if not head.built:
            head.build(shape)
        found = tuple(head.compute_output_shape(shape))
        if found != (None, num_classes):
            raise ValueError(
                f"head must make logits {(None, num_classes)} of noise {shape}; it "
                f"makes {found}."
            )
        self.head = head
        self.calibration = _Calibration(dtype)
        self.of_labels = [
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseCategoricalCrossentropy(
                from_logits=True, name="cross_entropy"
            ),
        ]

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, tf.Tensor]:
        """Logits and log-density, in one pass.

        Args:
          inputs: `x [batch, *event_shape]`.
          training: as for `FlowModel`.

        Returns:
          A dict of `logits [batch, num_classes]` and `log_prob [batch]`, nats.

        Raises:
          ValueError: if the flow is not initialised, as for `FlowModel`.
        """
        flow = self.flow
        x = tf.cast(inputs, flow.dtype)
        if not self._ready:
            self._start(x, None, training)
        trains = training and "training" in flow.keywords
        given = flow._given({"training": True} if trains else {})
        z, log_det = flow.bijector.inverse_and_log_det(x, **given.bijector)
        log_prob = flow._log_prob_of_noise(z, given) + flow._over_event(log_det)
        return {"logits": self.head(z), "log_prob": log_prob}

    def calibrate(
        self, x: Any, y: Any, reject: float = 0.01, batch_size: int = 128
    ) -> None:
        """Sets how `predict` judges its own classes, by held-out data.

        Inputs are accepted if their log-density is not below the threshold, the
        quantile of order `reject`. Logits are divided by one temperature, which
        minimises the cross-entropy (Guo et al. 2017, "On Calibration of Modern Neural
        Networks") of the accepted ones: a few improbable inputs have logits so large
        that they alone would set it.

        Args:
          x: arrays as for `fit`, neither trained on nor reported on.
          y: labels `[N]`, -1 for missing ones; at least one of an accepted input is
            known.
          reject: share of these examples to reject, from 0 to below 1. At 0, the
            threshold is the lowest log-density among them.
          batch_size: examples in one pass.

        Raises:
          TypeError: on data that are not real numbers.
          ValueError: on wrong data or labels, or `reject` out of range.
        """
        from scipy.optimize import minimize_scalar

        reject = check_number("reject", reject, at_least=0.0, below=1.0)
        data, _ = self._take(x, y)
        labels = data.context
        if labels is None or not (labels >= 0).any():
            raise ValueError("y must hold at least one label that is not -1.")
        found = self.predict(data.x, batch_size=batch_size, verbose=0)
        threshold = np.quantile(found["log_prob"], reject, method="lower")
        used = (labels >= 0) & (found["log_prob"] >= threshold)
        if not used.any():
            raise ValueError(
                f"reject={reject:g} leaves no input with a label to find the "
                "temperature by: lower it, or give more labels."
            )
        logits = found["logits"][used] * self.calibration.temperature.numpy()
        labels = labels[used]

        def cross_entropy(log_temperature):
            scaled = logits.astype("float64") / np.exp(log_temperature)
            total = np.logaddexp.reduce(scaled, axis=1)
            return np.mean(total - scaled[np.arange(len(labels)), labels])

        best = minimize_scalar(cross_entropy, bounds=(-5.0, 5.0), method="bounded")
        self.calibration.temperature.assign(np.exp(best.x))
        self.calibration.threshold.assign(threshold)

    # What `FlowModel` and Keras call.

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        if y is None:
            raise ValueError(
                "y must hold the labels: fit(x, y), or batches (x, y). -1 stands for a "
                "missing one."
            )
        known, labels = _known(y)
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels, y_pred["logits"]
        )
        objective = tf.where(known, -cross_entropy, tf.zeros_like(cross_entropy))
        if self.weight:
            objective += self.weight * y_pred["log_prob"]
        return super().compute_loss(
            x=x, y=y, y_pred=objective, sample_weight=sample_weight, **kwargs
        )

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        known, labels = _known(y)
        weight = tf.cast(known, tf.float32)
        if sample_weight is not None:
            weight *= tf.cast(sample_weight, tf.float32)
        logits = y_pred["logits"] / self.calibration.temperature
        for metric in self.of_labels:
            metric.update_state(labels, logits, weight)
        return super().compute_metrics(x, y, y_pred["log_prob"], sample_weight)

    def predict_step(self, data: Any) -> Any:
        return self.calibration(super().predict_step(data))

    def _as_step(self, data):
        inputs, weight = data_checks.as_inputs(data)
        x, labels = inputs if isinstance(inputs, tuple) else (inputs, None)
        return self._with_noise(x), labels, weight

    def _take_stream(self, x, y=None, weight=None, class_weight=None, training=False):
        if y is not None or weight is not None:
            raise ValueError(
                "x yields batches, so labels and weights belong into them, as (x, y, "
                "sample_weight); they were given beside it."
            )
        if class_weight is not None:
            raise ValueError(
                "class_weight is for arrays; weigh the examples of a stream by batches "
                "(x, y, sample_weight)."
            )
        return super()._take_stream(x, training=training)

    def _of_flow(self, data: Data) -> Data:
        return data._replace(context=None)

    def _with_targets(self, data: Data) -> Data:
        """Checks the labels, which are the `context`, and makes them `[N]`, int32."""
        labels = data.context
        if labels is None:
            return data
        if labels.shape == (len(data.x), 1):
            labels = labels[:, 0]
        if labels.shape != (len(data.x),):
            raise ValueError(
                f"y must have shape ({len(data.x)},), a label for each example, got "
                f"{labels.shape}."
            )
        if not (labels == np.round(labels)).all():
            raise ValueError("y must hold integers, the labels; it holds fractions.")
        low, high = labels.min(), labels.max()
        if low < -1 or high >= self.num_classes:
            raise ValueError(
                f"y must hold the labels 0 to {self.num_classes - 1}, and -1 for "
                f"missing ones; got labels from {low:g} to {high:g}."
            )
        return data._replace(context=labels.astype(np.int32))

    # Saving.

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "weight": self.weight,
            "head": keras.saving.serialize_keras_object(self.head),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Any = None
    ) -> FlowModel:
        head = keras.saving.deserialize_keras_object(
            config["head"], custom_objects=custom_objects
        )
        return super().from_config({**config, "head": head}, custom_objects)

    def __deepcopy__(self, memo):
        raise TypeError(
            f"{type(self).__name__} cannot be copied: save it and load the copy, or "
            "build it anew and copy the weights: new.set_weights(model.get_weights())."
        )


def _known(y: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Which labels are known; and labels `[batch]`, with 0 for those that are not."""
    y = tf.reshape(tf.cast(y, tf.int32), [-1])
    return y >= 0, tf.maximum(y, 0)
