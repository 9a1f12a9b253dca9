"""A flow as a Keras model."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.training import multi_device, weights_file
from tfp_flows.training.fused_adam import Adam
from tfp_flows.training.initialize import initialize, needs_initialization
from tfp_flows.training.keras_variables import rows

tfd = tfp.distributions

__all__ = ["FlowModel", "negative_log_likelihood"]


@keras.saving.register_keras_serializable(package="tfp_flows")
def negative_log_likelihood(y_true: Any, log_prob: Any) -> Any:
    """`-log_prob`, one for each example; `y_true` is not looked at."""
    return -log_prob


@keras.saving.register_keras_serializable(package="tfp_flows")
class FlowModel(keras.Model):
    r"""Trains a flow by maximum likelihood, with all that a Keras model can do.

    Calling the model gives the log-density of data in nats; the loss is its negative
    mean (plus regularisers of the networks). The metrics `nll` (nats per example) and
    `bits_per_dim` ($\mathrm{nll} / (D \log 2)$) are of the data as they are given:
    in the units in which pixels are stored if the flow scales them itself.

    Data are arrays or datasets of `x`, or of `(x, context)`, each optionally with
    sample weights: `fit(x)`, `fit(x, context)`, `fit(x, sample_weight=w)`,
    `fit(dataset)` with elements `x`, `(x, context)` or `(x, context, weight)`. Keras
    hands arrays on in `keras.config.floatx()`, float32 by default; for a float64 flow,
    a dataset keeps the precision.

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
      flow: a `Flow`, or any TFP distribution with a static event shape: TFP's own
        bijectors included, with networks that no `tf.Module` attribute shows.
      name: name of the model.

    Raises:
      TypeError: if `flow` is not a TFP distribution.
      ValueError: if its event shape is not static, it has nothing to train, or it was
        built outside the scope of the `tf.distribute` strategy that the model is in.
    """

    def __init__(self, flow: tfd.Distribution, name: str = "flow_model"):
        if not isinstance(flow, tfd.Distribution):
            raise TypeError(
                f"flow must be a TFP distribution, got {type(flow).__name__}."
            )
        if not flow.event_shape.is_fully_defined():
            raise ValueError(
                f"flow must have a static event shape, got {flow.event_shape}."
            )
        super().__init__(name=name, dtype=tf.as_dtype(flow.dtype).name)
        found = _find_variables(flow)
        if not found:
            raise ValueError(
                "flow has no trainable variable: there is nothing for a FlowModel to "
                "train."
            )
        multi_device.check_scope(found)
        self.flow = flow
        self.rows = rows(flow, found)
        self.nll = keras.metrics.Mean(name="nll")
        self.bits_per_dim = keras.metrics.Mean(name="bits_per_dim")
        self._nats_per_bit_dim = flow.event_shape.num_elements() * math.log(2.0)
        self._lines = weights_file.describe(flow)
        # Tracked by tf.train.Checkpoint.
        self.architecture = weights_file.ArchitectureState(flow)
        self.built = True

    @property
    def _takes_context(self) -> bool:
        return getattr(self.flow, "context_shape", None) is not None

    def build(self, input_shape=None):
        """Nothing to build: a flow has its variables from construction."""

    def call(self, inputs, training=None):
        """Log-density in nats, `[batch]`.

        Args:
          inputs: `x [batch, *event_shape]`, or `(x, context)`.
          training: whether parts with a training mode (BatchNorm) are in it.
        """
        x, context = inputs if isinstance(inputs, (tuple, list)) else (inputs, None)
        if x.dtype != self.flow.dtype:
            x = tf.cast(x, self.flow.dtype)
        keywords = {}
        if context is not None:
            keywords["context"] = context
        if training and "training" in getattr(self.flow, "keywords", ()):
            keywords["training"] = True
        return self.flow.log_prob(x, **keywords)

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = negative_log_likelihood,
        jit_compile: bool | str = False,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`, with the negative log-likelihood as the loss.

        `"adam"` is `tfp_flows.training.Adam`: Keras's updates, in less time.

        `jit_compile=True` compiles with XLA: a first step of seconds to minutes, then
        faster steps for flows of many small operations.

        Raises:
          ValueError: on `jit_compile=True` in a strategy of several devices. What Keras
            hands to XLA there has the variables of all of them.
        """
        replicas = self.distribute_strategy.num_replicas_in_sync
        if jit_compile is True and replicas > 1:
            raise ValueError(
                "jit_compile=True works on one device; the strategy of this model has "
                f'{replicas}. It must be False or "auto" here.'
            )
        if isinstance(optimizer, str) and optimizer.lower() == "adam":
            optimizer = Adam()
        super().compile(
            optimizer=optimizer, loss=loss, jit_compile=jit_compile, **kwargs
        )
        with self.distribute_strategy.scope():
            multi_device.clip_after_sum(self.optimizer)

    def compile_from_config(self, config):
        """Compiles a loaded model as the saved one was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        # The saved state of the optimizer needs variables to go to.
        self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`; `y` is the context of a flow that takes one.

        Data are checked first: arrays as a whole, datasets by their first batch. If
        the flow has parts that depend on data, the first batch initialises them.

        Raises:
          ValueError: on NaN or infinity (naming the features), wrong shapes, a context
            that is missing or not expected.
        """
        bound = inspect.signature(keras.Model.fit).bind(self, x, y, *args, **kwargs)
        _, _, _, *names = bound.arguments
        options = {name: bound.arguments[name] for name in names}
        x, y = _as_array(x), _as_array(y)
        x = self._look_at(x, y, options.get("batch_size") or 32)
        y = _beside_weights(x, y, options.get("sample_weight"))
        if isinstance(x, tf.data.Dataset):
            # Its order is its own; Keras warns if asked to change it, as by default.
            options.setdefault("shuffle", False)
        validation = options.get("validation_data")
        if isinstance(validation, (tuple, list)):
            x_val, y_val, weight = keras.utils.unpack_x_y_sample_weight(validation)
            self._check_arrays(x_val, y_val)
            y_val = _beside_weights(x_val, y_val, weight)
            options["validation_data"] = (x_val, y_val, weight)
        if multi_device.has_workers(self.distribute_strategy):
            callbacks = options.get("callbacks") or []
            if not isinstance(callbacks, keras.callbacks.CallbackList):
                callbacks = options["callbacks"] = [*callbacks]
            arrays = isinstance(x, (np.ndarray, tf.Tensor, tuple, list))
            shuffles = arrays and options.get("shuffle", True)
            callbacks.append(multi_device.WorkersAgree(shuffles))
        return super().fit(x, y, **options)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.evaluate`; `y` is the context of a flow that takes one."""
        x, y = _as_array(x), _as_array(y)
        self._check_arrays(x, y)
        y = _beside_weights(x, y, kwargs.get("sample_weight"))
        return super().evaluate(x, y, *args, **kwargs)

    def train_step(self, data):
        logs = super().train_step(_as_inputs(data))
        return multi_device.per_replica(logs, self.distribute_strategy)

    def test_step(self, data):
        logs = super().test_step(_as_inputs(data))
        return multi_device.per_replica(logs, self.distribute_strategy)

    def predict_step(self, data):
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(_as_inputs(data))
        return self(inputs, training=False)

    def make_train_function(self, force=False):
        # TensorFlow traces a function twice if the first trace creates variables.
        if self.optimizer is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Under tf.distribute, Keras tries the model on a mean over replicas of what the
        # dataset holds, which makes labels fractions and does not work for tuples on
        # several workers. One replica's part tells as much.
        if self._distribute_strategy is None:
            return
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = tf.nest.map_structure(
                lambda v: self.distribute_strategy.experimental_local_results(v)[0],
                next(batches),
            )
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=_as_inputs(data_batch))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **kwargs):
        loss = super().compute_loss(
            x=x,
            y=tf.zeros_like(y_pred),
            y_pred=y_pred,
            sample_weight=sample_weight,
            **kwargs,
        )
        return multi_device.weigh_gradient(loss, y_pred)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.nll.update_state(-y_pred, sample_weight)
        self.bits_per_dim.update_state(-y_pred / self._nats_per_bit_dim, sample_weight)
        return super().compute_metrics(
            x, tf.zeros_like(y_pred), y_pred, sample_weight=sample_weight
        )

    # Looking at data.

    def _look_at(self, x, y, batch_size):
        """Checks data and initialises the flow; returns `x`, whole."""
        if isinstance(x, Iterator):
            first = next(x, None)
            if first is None:
                raise ValueError("x must yield at least one batch; it is exhausted.")
            x, batch = _with_first(first, x), first
        elif isinstance(x, (tf.data.Dataset, tf.distribute.DistributedDataset)):
            batch = next(iter(x), None)
            if batch is None:
                raise ValueError("x must hold at least one batch; it is empty.")
        elif isinstance(x, keras.utils.PyDataset):
            batch = x[0]
        elif x is None:
            raise ValueError("x must be given: an array, a dataset or a generator.")
        else:
            if not isinstance(x, (tuple, list)):
                x = np.asarray(x)
            if len(x[0] if isinstance(x, (tuple, list)) else x) == 0:
                raise ValueError("x must hold at least one example; it is empty.")
            data, context = x if isinstance(x, (tuple, list)) else (x, y)
            self._check(data, context)
            batch = tuple(
                None if part is None else part[:batch_size] for part in (data, context)
            )
        batch = multi_device.first_batch(
            batch, self.distribute_strategy, own=_is_sharded(x)
        )
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(_as_inputs(batch))
        first, context = inputs if isinstance(inputs, (tuple, list)) else (inputs, None)
        self._check(first, context)
        if needs_initialization(self.flow):
            initialize(self.flow, first, context)
        return x

    def _check_arrays(self, x, context):
        """`_check`, if data are arrays and no dataset."""
        if context is None and isinstance(x, (tuple, list)) and len(x) == 2:
            x, context = x
        if isinstance(x, (np.ndarray, tf.Tensor)):
            self._check(x, None if _is_placeholder(context) else context)

    def _check(self, x, context):
        """Shapes, finite values, and whether there is a context just where due."""
        shape = tuple(x.shape)
        event = tuple(self.flow.event_shape)
        if len(shape) != len(event) + 1 or shape[1:] != event:
            raise ValueError(
                f"x must have shape [batch, {', '.join(map(str, event))}], got {shape}."
            )
        if self._takes_context and context is None:
            raise ValueError(
                "context is missing: this flow is conditional, so data must be (x, "
                f"context) with contexts of shape {self.flow.context_shape}."
            )
        if context is not None:
            if not self._takes_context:
                raise ValueError(
                    "context was given, but this flow takes none: build it with "
                    "context_shape or num_classes."
                )
            expected = tuple(self.flow.context_shape)
            if tuple(context.shape)[1:] != expected:
                raise ValueError(
                    f"context must have shape {('batch', *expected)}, got "
                    f"{tuple(context.shape)}."
                )
            if len(context) != len(x):
                raise ValueError(
                    f"x and context must be equally many, got {len(x)} and "
                    f"{len(context)}."
                )
            _check_finite("context", np.asarray(context))
            check = getattr(getattr(self.flow, "_context_encoder", None), "check", None)
            if check is not None:
                check(tf.convert_to_tensor(context))
        x = np.asarray(x)
        _check_finite("x", x)
        domain = getattr(self.flow, "domain", None)
        if domain is not None and x.size:
            low, high = domain
            if x.min() < low or x.max() > high:
                raise ValueError(
                    f"x must lie in [{low:.6g}, {high:.6g}], the domain of the flow's "
                    f"first bijector; got values from {x.min():.6g} to {x.max():.6g}."
                )

    # Saving.

    def get_config(self):
        from tfp_flows import flows

        config = getattr(self.flow, "config", None)
        if config is None:
            raise ValueError(
                "only a model of a ready flow (tfp_flows.flows) can be saved as "
                ".keras: this flow cannot be built again from a description. Use "
                "save_weights or tf.train.Checkpoint, and build the flow in code."
            )
        flows.check_config(config)
        return {"flow": config, "name": self.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects=None):
        from tfp_flows import flows

        return cls(flows.from_config(config["flow"]), name=config["name"])

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """As `keras.Model.save`, for a model of a ready flow.

        Raises:
          ValueError: before a file is written, if the flow is not a ready one.
        """
        self.get_config()
        with multi_device.whole_file(filepath, self.distribute_strategy) as path:
            return super().save(path, overwrite=overwrite, zipped=zipped, **kwargs)

    def save_weights(self, filepath, overwrite=True, **kwargs):
        """As `keras.Model.save_weights`; on several workers, by any or all of them."""
        with multi_device.whole_file(filepath, self.distribute_strategy) as path:
            return super().save_weights(path, overwrite=overwrite, **kwargs)

    def save_own_variables(self, store):
        text = "\n".join(self._lines).encode()
        store["architecture"] = np.frombuffer(text, np.uint8)

    def load_own_variables(self, store):
        if "architecture" not in store:
            raise weights_file.ArchitectureMismatch(
                "the file holds no weights of a FlowModel."
            )
        lines = np.asarray(store["architecture"]).tobytes().decode().split("\n")
        weights_file.check(lines, self._lines, "the file")

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """As `keras.Model.load_weights`, but all weights or none.

        Raises:
          ArchitectureMismatch: (a `ValueError`) before anything is loaded, if the file
            holds weights of another architecture, or none of a FlowModel.
          ValueError: if `skip_mismatch` is true, or the file has another ending than
            `.weights.h5`, `.weights.json` (Keras's shards) or `.keras`.
          OSError: if the file cannot be read.
        """
        if skip_mismatch:
            raise ValueError(
                "skip_mismatch=True would load some weights and drop others; a flow "
                "takes all of them or none."
            )
        path = Path(filepath)
        if not path.exists():
            raise FileNotFoundError(f"no such file: {path}")
        self.load_own_variables(_own_variables(path))
        before = [(v, v.numpy()) for v in self.variables]
        try:
            return super().load_weights(filepath, **kwargs)
        except Exception:
            # A damaged file may fail half way.
            for variable, value in before:
                variable.assign(value)
            raise

    def export(self, filepath, verbose: bool = False, **kwargs):
        """Writes a SavedModel that needs neither this package nor TFP.

        Its signatures, which are methods of the loaded object as well:

        * `log_prob(x)` -> `log_prob [batch]`, nats
        * `sample(n, seed, temperature)` -> `x [n, *event_shape]`
        * `encode(x)` -> `z`, `decode(z)` -> `x`

        each with `context` as a last argument for a conditional flow (`sample` then
        gives `[n, batch, *event_shape]`).

        Args:
          filepath: directory to write.
          verbose: whether to print where it went.
          **kwargs: none is known; Keras's other formats are not supported.
        """
        if kwargs:
            raise TypeError(f"export: unknown argument(s) {sorted(kwargs)}.")
        variables = [v.value for row in self.rows for v in row.variables]
        module = _Export(self.flow, variables)
        tf.saved_model.save(module, str(filepath), signatures=module.functions())
        if verbose:
            print(f"SavedModel written to {filepath}")


class _Export(tf.Module):
    """The functions of a SavedModel, and the variables that they read."""

    def __init__(self, flow, variables):
        super().__init__(name="flow")
        self.exported_variables = variables
        dtype = tf.as_dtype(flow.dtype)
        x = tf.TensorSpec([None, *flow.event_shape], dtype, "x")
        context_shape = getattr(flow, "context_shape", None)
        context = []
        if context_shape is not None:
            context = [
                tf.TensorSpec([None, *context_shape], _context_dtype(flow), "context")
            ]

        def keywords(context):
            return {} if context is None else {"context": context}

        def log_prob(x, context=None):
            return {"log_prob": flow.log_prob(x, **keywords(context))}

        self.log_prob = _traced(log_prob, x, *context)
        if not hasattr(flow, "encode"):
            return
        z = tf.TensorSpec([None, *flow.distribution.event_shape], dtype, "z")

        def sample(n, seed, temperature, context=None):
            seed = tf.stack([tf.zeros([], tf.int32), seed])
            return {
                "x": flow.sample(
                    n, seed=seed, temperature=temperature, **keywords(context)
                )
            }

        def encode(x, context=None):
            return {"z": flow.encode(x, **keywords(context))}

        def decode(z, context=None):
            return {"x": flow.decode(z, **keywords(context))}

        self.sample = _traced(
            sample,
            tf.TensorSpec([], tf.int32, "n"),
            tf.TensorSpec([], tf.int32, "seed"),
            tf.TensorSpec([], dtype, "temperature"),
            *context,
        )
        self.encode = _traced(encode, x, *context)
        self.decode = _traced(decode, z, *context)

    def functions(self):
        names = ("log_prob", "sample", "encode", "decode")
        return {n: getattr(self, n) for n in names if hasattr(self, n)}


def _traced(function, *specs):
    return tf.function(function, input_signature=specs, autograph=False)


def _own_variables(path: Path) -> dict[str, np.ndarray]:
    """What `FlowModel.save_own_variables` wrote into a file of weights."""
    try:
        if path.name.endswith(".weights.h5"):
            return _read_group(path)
        if path.name.endswith(".weights.json"):
            shards = json.loads(path.read_text())["weight_map"].get("/vars", [])
            shards = [shards] if isinstance(shards, str) else shards
            found = [_read_group(path.parent / shard) for shard in shards]
            return {k: v for group in found for k, v in group.items()}
        if path.suffix == ".keras":
            with (
                zipfile.ZipFile(path) as archive,
                archive.open("model.weights.h5") as file,
            ):
                return _read_group(file)
    except (OSError, KeyError, json.JSONDecodeError, zipfile.BadZipFile) as error:
        raise OSError(f"{path} is not a readable file of weights: {error}") from error
    raise ValueError(
        f"{path.name} must end in .weights.h5, .weights.json or .keras to be read."
    )


def _read_group(file) -> dict[str, np.ndarray]:
    with h5py.File(file, "r") as file:
        return {name: np.asarray(value) for name, value in file.get("vars", {}).items()}


def _with_first(first, rest):
    """What Keras takes: a generator (no other iterator), and of tuples."""
    for batch in itertools.chain([first], rest):
        yield batch if isinstance(batch, tuple) else (batch,)


def _as_array(data):
    """Plain nested lists as an array; anything else as it is."""
    if isinstance(data, list) and not any(hasattr(part, "shape") for part in data):
        return np.asarray(data)
    return data


def _beside_weights(x, y, sample_weight):
    """`y`, or an array without columns where `None` makes Keras drop the weights."""
    arrays = isinstance(x, (np.ndarray, tf.Tensor, tuple, list))
    if y is not None or sample_weight is None or not arrays:
        return y
    return np.empty((len(sample_weight), 0), np.float32)


def _is_sharded(x) -> bool:
    """Whether a dataset says that each worker has data of its own."""
    if not isinstance(x, tf.data.Dataset):
        return False
    policy = x.options().experimental_distribute.auto_shard_policy
    return policy == tf.data.experimental.AutoShardPolicy.OFF


def _is_placeholder(y) -> bool:
    return y is not None and len(y.shape) > 1 and y.shape[-1] == 0


def _as_inputs(data):
    """`x`, `(x, context)` or `(x, context, weight)` as `(inputs, None, weight)`."""
    x, context, weight = keras.utils.unpack_x_y_sample_weight(data)
    if _is_placeholder(context):
        context = None
    if context is None and isinstance(x, (tuple, list)):
        x, context = x
    inputs = x if context is None else (x, context)
    return inputs, None, weight


def _context_dtype(flow) -> tf.DType:
    """What contexts are: integers if they are labels, else what the data are."""
    return tf.as_dtype(getattr(flow, "context_dtype", None) or flow.dtype)


def _find_variables(flow) -> list[tf.Variable]:
    """Trainable variables, those that show only when `log_prob` reads them included."""
    keywords = {}
    context_shape = getattr(flow, "context_shape", None)
    if context_shape is not None:
        keywords["context"] = tf.zeros((1, *context_shape), _context_dtype(flow))
    # Data in the middle of (0, 1) are in the domain of a logit as well.
    x = tf.fill((1, *flow.event_shape), tf.cast(0.5, flow.dtype))
    with tf.GradientTape() as tape:
        flow.log_prob(x, **keywords)
    # Under tf.distribute, a tape watches the copies of a variable on each device.
    copies = tf.distribute.get_strategy().experimental_local_results
    known = {c.ref() for v in flow.trainable_variables for c in (v, *copies(v))}
    return list(flow.trainable_variables) + [
        v for v in tape.watched_variables() if v.ref() not in known
    ]


def _check_finite(name: str, values: np.ndarray) -> None:
    if not np.issubdtype(values.dtype, np.floating):
        return
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    counts = bad.reshape(len(values), -1).sum(0)
    where = np.flatnonzero(counts)
    features = ", ".join(
        f"{tuple(map(int, np.unravel_index(i, values.shape[1:])))}: {counts[i]}"
        for i in where[:5]
    )
    raise ValueError(
        f"{name} holds {int(bad.sum())} value(s) that are NaN or infinite, in "
        f"{len(where)} of {counts.size} feature(s) (feature: how many): {features}"
        + (", ..." if len(where) > 5 else "")
        + "."
    )
