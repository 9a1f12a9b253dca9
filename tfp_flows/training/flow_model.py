"""A flow as a Keras model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_choice, check_number
from tfp_flows.core.keras_internals import (
    build_symbolically,
    in_symbolic_scope,
    is_validation,
    layers_in,
)
from tfp_flows.core.tracking import note_tracked
from tfp_flows.core.xla_where_faster import XLAWhereFaster
from tfp_flows.training import data_checks, multi_device
from tfp_flows.training.architecture import Architecture, ArchitectureState
from tfp_flows.training.averages import ShowAverages, keeps_averages
from tfp_flows.training.data_checks import Data
from tfp_flows.training.divergence import WatchDivergence
from tfp_flows.training.fused_adam import FusedAdam, suited_warmup
from tfp_flows.training.initialize import initialize, needs_initialization, start_of
from tfp_flows.training.keras_variables import find_variables, rows
from tfp_flows.training.metrics import BitsPerDim, NegativeLogLikelihood
from tfp_flows.training.saves_flow import SavesFlow

__all__ = ["FlowModel", "negative_log_likelihood"]


@keras.saving.register_keras_serializable(package="tfp_flows")
def negative_log_likelihood(y_true: Any, log_prob: Any) -> Any:
    """The loss of `FlowModel`: `-log_prob`, in nats, one number for each example.

    Args:
      y_true: not used; Keras passes it to every loss.
      log_prob: log-densities `[batch]` in nats.

    Returns:
      Tensor `[batch]`.

    Example:
      >>> negative_log_likelihood(None, tf.constant([-1.0, 2.0])).numpy()
      array([ 1., -2.], dtype=float32)
    """
    return -log_prob


@keras.saving.register_keras_serializable(package="tfp_flows")
class FlowModel(SavesFlow):
    r"""A Keras model that trains a flow by maximum likelihood.

    Calling the model gives the log-density of data in nats; the loss is its negative
    mean (plus regularisers of the networks). The metrics `nll` (nats per example) and
    `bits_per_dim` ($\mathrm{nll} / (D \log 2)$) are of the data as they are given:
    in the units in which pixels are stored if the flow scales them itself.

    **Data** are arrays (NumPy, TensorFlow, JAX, data frames, lists) or streams
    (datasets, generators, `keras.utils.PyDataset`) of `x`, of `(x, context)` or of
    `(x, context, sample_weight)`: `fit(x)`, `fit(x, context)`,
    `fit(x, sample_weight=w)`, `fit(dataset)`. The same holds for `evaluate`,
    `predict`, `validation_data` and the methods `..._on_batch`. Shapes, NaN, infinity,
    and values outside of the flow's domain are checked: in arrays as a whole, in
    streams in the first batch. A context of several parts is a dict of arrays, for a
    flow whose `context_encoder` takes such a dict.

    **Whole numbers.** On counts, or pixels stored as integers, the density of a
    continuous flow rises without bound. `dequantize=True` adds noise from U[0, 1) to
    the data in each step of `fit`, `evaluate` and `predict`. The mean negative
    log-likelihood is then an upper bound on that of the integers as stored (Theis et
    al. 2016, section 3.1). `model(x)` and `model.flow` take data as they are.

    **Within other models.** It is a Keras layer: another Keras model with
    `self.density = FlowModel(flow)` trains and saves it. Keras does not track a flow or
    bijector that is a plain attribute: using one in `call`, or in a step of `fit`,
    `evaluate` or `predict` (a `train_step` of your own, say), raises an error. What
    nothing can see is a loop of your own that saves the outer model: save the flow too.
    A network in float16 needs loss scaling, which the outer model must switch on: give
    it the policy `mixed_float16`, or wrap its optimizer in
    `keras.optimizers.LossScaleOptimizer`. Parts that start from data (ActNorm) are
    initialised by `fit`, by `train_on_batch`, by an eager call with `training=True`, or
    by `tfp_flows.training.initialize`.

    Example:
      >>> import numpy as np, tfp_flows
      >>> model = tfp_flows.FlowModel(tfp_flows.flows.real_nvp((2,), width=8, seed=0))
      >>> model.compile("adam")
      >>> x = np.random.default_rng(0).normal(size=(64, 2))
      >>> history = model.fit(x, epochs=1, verbose=0)
      >>> sorted(history.history)
      ['bits_per_dim', 'loss', 'nll']
      >>> model.flow.sample(5, seed=0).shape
      TensorShape([5, 2])

    Args:
      flow: a `Flow`, or any TFP distribution with a static event shape. Variables that
        TFP's bijectors hide from `tf.Module` are found too.
      name: name of the model.
      dequantize: whether to add uniform noise to data in the steps of `fit`, `evaluate`
        and `predict`. `True` stands for integers; a number is the distance between
        neighbouring levels, `1 / 255` for bytes scaled to [0, 1].
      noise: standard deviation of Gaussian noise, in the units of the data, that is
        added in the same steps. A flow of noisy data is a smoother one, whose samples
        `tfp_flows.latent.denoise` cleans (Zhai et al. 2024).

    Raises:
      TypeError: if `flow` is not a TFP distribution.
      ValueError: if its event shape is not static, it has nothing to train, or it was
        built outside the scope of the `tf.distribute` strategy that the model is in.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        noisy = ("zhai2024tarflow",) if self.noise else ()
        return (*(("theis2016note",) if self.dequantize else ()), *noisy)

    def __init__(
        self,
        flow: tfd.Distribution,
        name: str = "flow_model",
        dequantize: bool | float = False,
        noise: float = 0.0,
    ):
        if not isinstance(flow, tfd.Distribution):
            raise TypeError(
                f"flow must be a TFP distribution, got {type(flow).__name__}."
            )
        if not flow.event_shape.is_fully_defined():
            raise ValueError(
                f"flow must have a static event shape, got {flow.event_shape}."
            )
        super().__init__(name=name, dtype=tf.as_dtype(flow.dtype).name)
        found = find_variables(flow)
        if not found:
            raise ValueError(
                "flow has no trainable variable: there is nothing for a FlowModel to "
                "train."
            )
        multi_device.check_scope(found)
        self.flow = flow
        self.rows = rows(flow, found)
        for module in (flow, getattr(flow, "bijector", flow)):
            note_tracked(self, module)
        self.dequantize = check_number("dequantize", float(dequantize), at_least=0.0)
        self.noise = check_number("noise", noise, at_least=0.0)
        if noise and getattr(flow, "domain", None) is not None:
            raise ValueError(
                f"noise={noise} needs a flow on all numbers, one without logit_margin: "
                f"it carries data out of {flow.domain}."
            )
        if (noise or dequantize) and data_checks.surface_of(flow) is not None:
            raise ValueError(
                f"noise={noise} and dequantize={dequantize} carry data off the surface "
                "that this flow is on: they must be 0 and False."
            )
        self._ready = False
        self._looked = False
        self._described = Architecture(flow)
        # Tracked by tf.train.Checkpoint.
        self.architecture = ArchitectureState(self._described)
        self.built = True

    @property
    def exactness(self) -> str:
        """What the likelihoods of data are, see `Flow.exactness`.

        `"bound"` with `dequantize`, for the log-probability of the integers.
        """
        if self.dequantize:
            return "bound"
        return getattr(self.flow, "exactness", "exact")

    def build(self, input_shape: Any = None) -> None:
        """Nothing to build: a flow has its variables from construction."""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Keras makes tensors of arrays, and drops masks.
        parts = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        for name, part in zip(("x", "context"), parts, strict=False):
            for array in part.values() if isinstance(part, dict) else [part]:
                if isinstance(array, np.ma.MaskedArray):
                    data_checks.as_array(name, array)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Log-density in nats, `[batch]`.

        Args:
          inputs: `x [batch, *event_shape]`, or `(x, context)`.
          training: whether parts with a training mode (BatchNorm) use it.

        Returns:
          Tensor `[batch]`.

        Raises:
          ValueError: if the flow is not initialised. An eager call with `training=True`
            initialises it instead.
        """
        parts = inputs if isinstance(inputs, (tuple, list)) else (inputs,)
        if not 1 <= len(parts) <= 2:
            raise ValueError(
                f"inputs must be x, (x,) or (x, context), got {len(parts)} parts."
            )
        x, context = (*parts, None)[:2]
        if tf.as_dtype(x.dtype).is_complex:
            raise TypeError(
                "x holds complex numbers; a density is over real ones. Give real and "
                "imaginary parts as two features."
            )
        if x.dtype != self.flow.dtype:
            x = tf.cast(x, self.flow.dtype)
        if not self._ready:
            self._start(x, context, training)
        keywords = {}
        if context is not None:
            keywords["context"] = context
        if training and "training" in getattr(self.flow, "keywords", ()):
            keywords["training"] = True
        return self.flow.log_prob(x, **keywords)

    def _start(self, x=None, context=None, training=False):
        """Checks that the flow is initialised, or initialises it with `x`."""
        with tf.init_scope():
            self._ready = not needs_initialization(self.flow)
        if self._ready or in_symbolic_scope():
            return
        if x is None or not training or not tf.executing_eagerly():
            raise ValueError(
                f"{self.name}: the flow has parts that start from data and have seen "
                "none (ActNorm, say). Call fit or train_on_batch first, or "
                "tfp_flows.training.initialize(model.flow, x), or the outermost model "
                "once with data and training=True, outside of tf.function, and compile "
                "it again if it was already fitted; or load weights."
            )
        initialize(self.flow, x, context)
        self._ready = True

    # Compiling.

    # A model that is not compiled predicts, too.
    _tries_xla = False

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = negative_log_likelihood,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Like `keras.Model.compile`, with the negative log-likelihood as the loss.

        Args:
          optimizer: an optimizer or its name; `"adam"` is
            `tfp_flows.training.FusedAdam`, which computes Keras's updates faster; for
            images its rate rises to 0.001 over the first 100 steps.
          loss: a function of `(y_true, log_prob)`; `y_true` holds zeros.
          loss_weights: see Keras.
          metrics: metrics of `(y_true, log_prob)` beside `nll` and `bits_per_dim`.
          weighted_metrics: the same, with sample weights.
          run_eagerly: see Keras.
          steps_per_execution: see Keras.
          jit_compile: whether XLA compiles the steps. The first step then takes seconds
            to minutes; later steps are faster for flows of many small operations.
            `"auto"` tries it after some time in `fit`, `evaluate` and `predict`, and
            keeps what is faster: see `training.XLAWhereFaster`. Numbers differ by
            rounding, so training with it gives the same numbers only up to rounding.
          auto_scale_loss: whether to scale the loss, and skip steps that overflow, if
            a network computes in float16.

        Raises:
          ValueError: on `jit_compile=True` under a strategy of several devices, whose
            step XLA cannot compile.
        """
        replicas = self.distribute_strategy.num_replicas_in_sync
        if jit_compile is True and replicas > 1:
            raise ValueError(
                "jit_compile=True works on one device; the strategy of this model has "
                f'{replicas}. It must be False or "auto" here.'
            )
        check_choice("jit_compile", jit_compile, (False, True, "auto"))
        if isinstance(optimizer, str) and optimizer.lower() == "adam":
            warmup = suited_warmup(self.flow.event_shape)
            optimizer = FusedAdam(warmup_steps=warmup)
        optimizer = keras.optimizers.get(optimizer)
        half = any(v.compute_dtype == "float16" for v in layers_in(self))
        is_scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if auto_scale_loss and half and not is_scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(
                optimizer, name="loss_scale_optimizer"
            )
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=self._with_own_metrics(weighted_metrics),
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile is True,
            auto_scale_loss=auto_scale_loss,
        )
        self._tries_xla = jit_compile == "auto" and replicas == 1 and not run_eagerly
        with self.distribute_strategy.scope():
            multi_device.clip_after_sum(self.optimizer)

    def _with_own_metrics(self, given):
        size = self.flow.event_shape.num_elements()
        given = [given] if given and not isinstance(given, (list, tuple)) else given
        given = list(given or ())
        if any(isinstance(m, NegativeLogLikelihood) for m in given):
            # A saved model has them already.
            return given
        dtype = tf.as_dtype(self.flow.dtype).name
        return [
            NegativeLogLikelihood(dtype=dtype),
            BitsPerDim(size, dtype=dtype),
            *given,
        ]

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model like the saved one."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        # The saved state of the optimizer needs variables to go to.
        self.optimizer.build(self.trainable_variables)

    def get_metrics_result(self) -> dict[str, Any]:
        """The results of all metrics, or none if some have never been updated.

        A `train_step` of the user's own may update none. Keras then takes what the step
        returned.
        """
        if not all(getattr(metric, "built", True) for metric in self.metrics):
            return {}
        return super().get_metrics_result()

    # Training and evaluating.

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """Like `keras.Model.fit`; `y` is the context of a flow that takes one.

        Data are checked first, arrays as a whole, streams in their first batch. Parts
        of the flow that start from data are initialised by up to 10,000 examples (fewer
        if examples are large): a random choice of an array, or the first ones of a
        stream.

        With an optimizer of `use_ema=True`, validation and callbacks at the end of an
        epoch (`ModelCheckpoint`, `EarlyStopping`) see the averaged weights, and they
        are the model's when `fit` returns.

        Args:
          x: data, or a stream of batches; see the class.
          y: contexts, for a flow that takes a context.
          *args: as for `keras.Model.fit`.
          **kwargs: as for `keras.Model.fit`.

        Returns:
          Keras's `History`.

        Raises:
          TypeError: on data that are not real numbers.
          ValueError: on NaN or infinity (naming the features), wrong shapes, a context
            that is missing or not expected.
          TrainingDiverged: if the loss or the weights become NaN or infinite, with the
            weights restored to the last finite ones.
        """
        options = _bind(keras.Model.fit, self, x, y, *args, **kwargs)
        x, y = options.pop("x"), options.pop("y", None)
        batch_size = options.get("batch_size")
        if options.get("class_weight") is not None:
            # Keras needs a weight for every label.
            options["class_weight"] = data_checks.whole_class_weight(
                options["class_weight"], self.flow
            )
        weights = (options.pop("sample_weight", None), options.get("class_weight"))
        if options.get("validation_data") is not None:
            options["validation_data"] = self._as_validation(
                options["validation_data"],
                options.get("validation_batch_size") or batch_size,
            )
            options.pop("validation_split", None)
        if data_checks.is_stream(x):
            x = self._take_stream(x, y, *weights, training=True)
            if not isinstance(x, keras.utils.PyDataset):
                # Keras would warn that it cannot shuffle it.
                options.setdefault("shuffle", False)
            shuffles = False
        else:
            data, labels = self._take(x, y, *weights)
            options.pop("class_weight", None)
            split = options.pop("validation_split", 0.0)
            if split:
                data, held_out = _split(data, split)
                options["validation_data"] = self._as_keras(held_out, batch_size)
            self._initialize(data)
            self._describe(data, labels)
            shuffles = options.setdefault("shuffle", True)
            x, y, options["sample_weight"] = self._as_keras(
                data, batch_size or 32, shuffles
            )
            if isinstance(x, tf.data.Dataset):
                options["shuffle"] = False
                options.pop("batch_size", None)
        callbacks = [WatchDivergence()]
        if multi_device.has_workers(self.distribute_strategy):
            callbacks.append(multi_device.WorkersAgree(bool(shuffles)))
        given = options.get("callbacks")
        if self._averages() and not _shows_averages(given):
            callbacks.append(ShowAverages())
        options["callbacks"] = self._with_callbacks(callbacks, given)
        return super().fit(x, y, **options)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.evaluate`; `y` is the context of a flow that takes one.

        Args:
          x: data, or a stream of batches; see the class.
          y: contexts, for a flow that takes a context.
          *args: as for `keras.Model.evaluate`.
          **kwargs: as for `keras.Model.evaluate`.

        Returns:
          The loss and metrics, as Keras gives them.

        Raises:
          TypeError: on data that are not real numbers.
          ValueError: as for `fit`, and if the flow is not initialised.
        """
        if is_validation(kwargs):
            # Called by `fit`, which has checked the data.
            return super().evaluate(x, y, *args, **kwargs)
        options = _bind(keras.Model.evaluate, self, x, y, *args, **kwargs)
        x, y = options.pop("x"), options.pop("y", None)
        weight = options.pop("sample_weight", None)
        if data_checks.is_stream(x):
            x = self._take_stream(x, y, weight)
            self._start()
            return super().evaluate(x, **options)
        data, _ = self._take(x, y, weight)
        self._start()
        x, y, weight = self._as_keras(data, options.get("batch_size"))
        return super().evaluate(x, y, sample_weight=weight, **options)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Like `keras.Model.predict`: the log-density of each example, in nats.

        Args:
          x: `x`, or `(x, context)` for a flow that takes a context; or a stream.
          *args: as for `keras.Model.predict`.
          **kwargs: as for `keras.Model.predict`.

        Returns:
          Array `[N]`.

        Raises:
          TypeError: on data that are not real numbers.
          ValueError: as for `fit`, and if the flow is not initialised.
        """
        options = _bind(keras.Model.predict, self, x, *args, **kwargs)
        x = options.pop("x")
        if data_checks.is_stream(x):
            x = self._take_stream(x)
            self._start()
            return super().predict(x, **options)
        data, _ = self._take(x)
        self._start()
        x, y, _ = self._as_keras(data, options.get("batch_size"))
        return super().predict(x if y is None else (x, y), **options)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Like `keras.Model.train_on_batch`; the first batch initialises the flow.

        Raises:
          TypeError: on data that are not real numbers.
          ValueError: as for `fit`.
        """
        if class_weight is not None:
            class_weight = data_checks.whole_class_weight(class_weight, self.flow)
        data, labels = self._take(x, y, sample_weight, class_weight)
        self._initialize(data)
        if not self._looked:
            self._describe(data, labels)
        return super().train_on_batch(*data, return_dict=return_dict)

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Like `keras.Model.test_on_batch`.

        Raises:
          TypeError: on data that are not real numbers.
          ValueError: as for `evaluate`.
        """
        data, _ = self._take(x, y, sample_weight)
        self._start()
        return super().test_on_batch(*data, return_dict=return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """Like `keras.Model.predict_on_batch`; `x` is as for `predict`.

        Raises:
          TypeError: on data that are not real numbers.
          ValueError: as for `predict`.
        """
        x, context, _ = self._take(x)[0]
        self._start()
        return super().predict_on_batch(x if context is None else (x, context))

    def train_step(self, data: Any) -> Any:
        logs = super().train_step(self._as_step(data))
        return multi_device.per_replica(logs, self.distribute_strategy)

    def test_step(self, data: Any) -> Any:
        logs = super().test_step(self._as_step(data))
        return multi_device.per_replica(logs, self.distribute_strategy)

    def predict_step(self, data: Any) -> Any:
        return self(self._as_step(data)[0], training=False)

    def _as_step(self, data):
        """A batch in the form that Keras's steps take: `(inputs, None, weight)`."""
        inputs, weight = data_checks.as_inputs(data)
        x, context = inputs if isinstance(inputs, tuple) else (inputs, None)
        x = self._with_noise(x)
        return x if context is None else (x, context), None, weight

    def _with_noise(self, x):
        if not self._added:
            return x
        x = tf.cast(x, self.flow.dtype)
        if self.dequantize:
            x += self.dequantize * tf.random.uniform(tf.shape(x), dtype=x.dtype)
        if self.noise:
            x += self.noise * tf.random.normal(tf.shape(x), dtype=x.dtype)
        return x

    @property
    def _added(self):
        """The width of the noise, of either kind, that is added to data."""
        return self.dequantize or self.noise

    # Looking at data.

    def _of_flow(self, data: Data) -> Data:
        """The part of the data that the flow gets."""
        return data

    def _with_targets(self, data: Data) -> Data:
        """The data, with checked targets of what is more than a flow."""
        return data

    def _take(self, x, y=None, weight=None, class_weight=None):
        """Makes arrays of data and checks them; also returns names of columns."""
        data, labels = data_checks.take(x, y, weight, flow=self.flow)
        data = self._with_targets(data)
        if class_weight is not None:
            weight = data_checks.class_weights(class_weight, data.context, data.weight)
            data = data._replace(weight=weight)
        data_checks.check(self._of_flow(data), self.flow, labels, self._added)
        return data, labels

    def _take_stream(self, x, y=None, weight=None, class_weight=None, training=False):
        """Checks the first batches of a stream; in training, initialises by them."""
        if y is not None or weight is not None:
            raise ValueError(
                "x yields batches, so contexts and weights belong into them, as (x, "
                "context, sample_weight); they were given beside it."
            )
        starts = training and needs_initialization(self.flow)
        x, data = data_checks.take_stream(
            x,
            self.flow,
            data_checks.START_ROWS if starts else 1,
            self.distribute_strategy,
        )
        data = self._with_targets(data)
        if class_weight is not None:
            data_checks.class_weights(class_weight, data.context, data.weight)
        data_checks.check(self._of_flow(data), self.flow, quantum=self._added)
        if training:
            self._initialize(data, own=_is_sharded(x))
            self._describe(data)
        return x

    def _describe(self, data, labels=None):
        """Warns of data that a flow cannot model well."""
        self._looked = True
        data = self._of_flow(data)
        data_checks.describe_oddities(
            data.x, self.flow, labels, self._added, data.context
        )

    def _as_validation(self, data, batch_size):
        """`validation_data` as Keras takes it."""
        if isinstance(data, (tuple, list)) and data and data_checks.is_stream(data[0]):
            if any(part is not None for part in data[1:]):
                raise ValueError(
                    "validation_data yields batches, so contexts and weights belong "
                    "into them."
                )
            data = data[0]
        if data_checks.is_stream(data):
            return self._take_stream(data)
        return self._as_keras(self._take(data)[0], batch_size)

    def _as_keras(
        self, data: Data, batch_size: int | None = None, shuffle: bool = False
    ) -> tuple[Any, Any, Any]:
        """Arrays as Keras takes them: `(x, y, sample_weight)`.

        Keras would round float64 to `keras.config.floatx()`. For a float64 flow, the
        result is a dataset instead, which keeps the precision.
        """
        x, context, weight = data
        if weight is not None and context is None:
            context = data_checks.placeholder(len(x))
        if self.flow.dtype == tf.float64 and keras.config.floatx() != "float64":
            parts = tuple(part for part in (x, context, weight) if part is not None)
            return _as_dataset(parts, batch_size or 32, shuffle), None, None
        if weight is not None and isinstance(context, dict):
            # Keras would repeat the weights for each part of a dict that is `y`.
            x, context = (x, context), data_checks.placeholder(len(x))
        return x, context, weight

    def _initialize(self, data: Data, own: bool = False) -> None:
        """Initialises the flow, unless it is initialised already."""
        if needs_initialization(self.flow):
            start = start_of(self._of_flow(data))._replace(weight=None)
            parts = multi_device.common_start(
                tf.nest.flatten(start), self.distribute_strategy, own
            )
            x, context, _ = tf.nest.pack_sequence_as(start, parts)
            initialize(self.flow, self._with_noise(x), context)
        self._ready = True

    def _averages(self) -> bool:
        """Whether the optimizer averages the weights."""
        # Before `compile` there is none.
        return keeps_averages(getattr(self, "optimizer", None))

    def _with_callbacks(self, own, given):
        """Puts own callbacks first, so that others do not save what these refuse."""
        if not isinstance(given, keras.callbacks.CallbackList):
            given = list(given) if isinstance(given, (list, tuple)) else [given]
            return [*own, *(c for c in given if c is not None)]
        for callback in own:
            callback.set_model(self)
        given.callbacks[:0] = own
        return given

    # What Keras calls.

    def make_train_function(self, force: bool = False) -> Any:
        # TensorFlow traces a function twice if the first trace creates variables.
        if self.optimizer is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        self._make("train", super().make_train_function, force)

    def make_test_function(self, force: bool = False) -> Any:
        self._make("test", super().make_test_function, force)

    def make_predict_function(self, force: bool = False) -> Any:
        self._make("predict", super().make_predict_function, force)

    def _make(self, name, make, force):
        """Keras's step `name`, or one that tries XLA."""
        attribute = f"{name}_function"
        before = getattr(self, attribute)
        make(force)
        step = getattr(self, attribute)
        if step is before or not self._tries_xla:
            return

        def compiled():
            kept, self.jit_compile = getattr(self, attribute), True
            make(True)
            made = getattr(self, attribute)
            self.jit_compile = False
            setattr(self, attribute, kept)
            return made

        chooses = XLAWhereFaster(step, compiled, self.steps_per_execution)
        setattr(self, attribute, chooses)

    def get_compile_config(self) -> dict[str, Any] | None:
        config = super().get_compile_config()
        if config and self._tries_xla:
            config["jit_compile"] = "auto"
        return config

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under `tf.distribute`, Keras builds the model with a mean of the batch over
        # replicas. This makes fractions of labels, and fails for tuples on several
        # workers. The part of one replica is enough.
        with self.distribute_strategy.scope():
            if not tf.distribute.has_strategy():
                return
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = tf.nest.map_structure(
                lambda v: self.distribute_strategy.experimental_local_results(v)[0],
                next(batches),
            )
        with self.distribute_strategy.scope():
            build_symbolically(self, self._as_step(data_batch))

    @property
    def losses(self) -> list[tf.Tensor]:
        """Losses that layers add, in the floating dtype in which Keras adds them up."""
        return [tf.cast(loss, keras.config.floatx()) for loss in super().losses]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        loss = super().compute_loss(
            x=x,
            y=tf.zeros_like(y_pred),
            y_pred=y_pred,
            sample_weight=sample_weight,
            **kwargs,
        )
        return multi_device.weigh_gradient(loss, y_pred)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any:
        return super().compute_metrics(
            x, tf.zeros_like(y_pred), y_pred, sample_weight=sample_weight
        )


def _bind(method: Callable, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Binds arguments to the names that a method of Keras gives them."""
    bound = inspect.signature(method).bind(*args, **kwargs)
    _, *names = bound.arguments
    arguments = {name: bound.arguments[name] for name in names}
    return {**arguments.pop("kwargs", {}), **arguments}


def _split(data: Data, fraction: float) -> tuple[Data, Data]:
    """Divides data into training and the last part for validation, as Keras does."""
    n = int(len(data.x) * (1.0 - fraction))
    if not 0 < n < len(data.x):
        raise ValueError(
            f"validation_split={fraction} leaves no example on one side of "
            f"{len(data.x)}."
        )
    return data.map(lambda v: v[:n]), data.map(lambda v: v[n:])


def _as_dataset(
    parts: Sequence[Any], batch_size: int, shuffle: bool
) -> tf.data.Dataset:
    """Batches of arrays, in their own precision."""
    n = len(parts[0])
    order = tf.data.Dataset.range(n)
    if shuffle:
        order = order.shuffle(n)
    tensors = tf.nest.map_structure(tf.constant, parts)
    batches = order.batch(batch_size).map(
        lambda i: tf.nest.map_structure(lambda tensor: tf.gather(tensor, i), tensors)
    )
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)


def _shows_averages(callbacks: Any) -> bool:
    """Whether one of the user's callbacks does what `ShowAverages` does."""
    kinds = (ShowAverages, keras.callbacks.SwapEMAWeights)
    callbacks = getattr(callbacks, "callbacks", callbacks) or ()
    callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
    return any(isinstance(callback, kinds) for callback in callbacks)


def _is_sharded(x: Any) -> bool:
    """Whether a dataset says that each worker has data of its own."""
    if not isinstance(x, tf.data.Dataset):
        return False
    policy = x.options().experimental_distribute.auto_shard_policy
    return policy == tf.data.experimental.AutoShardPolicy.OFF
