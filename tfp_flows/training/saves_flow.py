"""How a Keras model of a flow is saved, loaded, copied, pickled and exported."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tfp_flows.core.keras_internals import storage
from tfp_flows.training import export, multi_device, weights_file

__all__ = ["SavesFlow"]


class SavesFlow(keras.Model):
    """The part of `FlowModel` that has to do with files and copies.

    Attributes:
      flow: the flow.
      dequantize: see `FlowModel`.
      noise: see `FlowModel`.
      rows: what stands for the variables of each part, in Keras.
    """

    flow: Any
    dequantize: Any
    noise: float
    rows: Any
    _described: Any
    _ready: bool

    def get_config(self) -> dict[str, Any]:
        from tfp_flows import flows

        config = getattr(self.flow, "config", None)
        if config is None:
            raise ValueError(
                "only a model of a ready flow (tfp_flows.flows) can be saved as "
                ".keras: this flow cannot be built again from a description. Use "
                "save_weights or tf.train.Checkpoint, and build the flow in code."
            )
        flows.check_config(config)
        return {"flow": config, **self._arguments()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        from tfp_flows import flows

        arguments = dict(config)
        described = arguments.pop("flow")
        weights_file.check_config(described)
        return cls(flows.from_config(described), **arguments)

    def __deepcopy__(self, memo):
        """A model with variables of its own, compiled as this one is.

        Raises:
          TypeError: if the flow cannot be copied.
        """
        try:
            flow = copy.deepcopy(self.flow, memo)
        except Exception as error:
            raise TypeError(
                f"{type(self.flow).__name__} cannot be copied ({error}): build it "
                "anew, and copy the weights: new.set_weights(model.get_weights())."
            ) from error
        new = memo[id(self)] = _rebuild(type(self), flow, *self._beside_flow())
        return new

    def __reduce__(self):
        """Keras pickles a model as the `.keras` file that it would save."""
        if getattr(self.flow, "config", None) is not None:
            return super().__reduce__()
        return _rebuild, (type(self), self.flow, *self._beside_flow())

    def _beside_flow(self):
        """Its other arguments, and what it was compiled with and has become."""
        states = None
        if self.compiled and self.optimizer.built:
            states = [v.numpy() for v in self.optimizer.variables]
        config = self.get_compile_config() if self.compiled else None
        return self._arguments(), config, states

    def _arguments(self):
        """What the model is built from beside its flow."""
        noise = {"noise": self.noise} if self.noise else {}
        return {"name": self.name, "dequantize": self.dequantize, **noise}

    def save(
        self,
        filepath: str | os.PathLike,
        overwrite: bool = True,
        zipped: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Like `keras.Model.save`, for a model of a ready flow.

        Raises:
          ValueError: before a file is written, if the flow is not a ready one or the
            name of the file does not end in `.keras`.
        """
        self.get_config()
        if zipped is not False and Path(str(filepath)).suffix != ".keras":
            raise ValueError(
                f"{Path(str(filepath)).name} must end in .keras: nothing could load "
                "it. Weights alone go to save_weights (.weights.h5), a SavedModel to "
                "export."
            )
        with multi_device.whole_file(filepath, self.distribute_strategy) as path:
            return super().save(path, overwrite=overwrite, zipped=zipped, **kwargs)

    def save_weights(
        self, filepath: str | os.PathLike, overwrite: bool = True, **kwargs: Any
    ) -> None:
        """Like `keras.Model.save_weights`; with several workers, any may call it."""
        with multi_device.whole_file(filepath, self.distribute_strategy) as path:
            return super().save_weights(path, overwrite=overwrite, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        for name, value in weights_file.own_variables(self._described).items():
            store[name] = value

    def load_own_variables(self, store: Any) -> None:
        weights_file.check_own(self._described, store)
        self._ready = False

    def load_weights(
        self, filepath: str | os.PathLike, skip_mismatch: bool = False, **kwargs: Any
    ) -> None:
        """Like `keras.Model.load_weights`, but loads all weights or none.

        Args:
          filepath: a file that ends in `.weights.h5`, `.weights.json` (Keras's shards)
            or `.keras`.
          skip_mismatch: must be false.
          **kwargs: as for `keras.Model.load_weights`.

        Raises:
          ArchitectureMismatch: (a `ValueError`) before anything is loaded, if the file
            holds weights of another architecture, or no weights of a FlowModel.
          ValueError: if `skip_mismatch` is true, the file has another ending, or it
            declares far more data than its size allows.
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
        self.load_own_variables(weights_file.check_file(path))
        before = [(v, v.numpy()) for v in self.variables]
        try:
            return super().load_weights(filepath, **kwargs)
        except Exception:
            # A damaged file may fail after some weights are loaded.
            for variable, value in before:
                variable.assign(value)
            raise

    def export(
        self, filepath: str | os.PathLike, verbose: bool = False, **kwargs: Any
    ) -> None:
        """Writes a SavedModel that needs neither this package nor TFP.

        Its signatures, which are methods of the loaded object as well:

        * `log_prob(x)` -> `log_prob [batch]`, nats
        * `sample(n, seed, temperature)` -> `x [n, *event_shape]`
        * `encode(x)` -> `z`, `decode(z)` -> `x`

        each with `context` as a last argument for a conditional flow (`sample` then
        gives `[n, batch, *event_shape]`). Of a context of several parts, the methods
        take the dict, the signatures `context_a` for the part `a`, and so on.

        `tf.lite.TFLiteConverter` takes it. It refuses Sylvester and residual flows,
        some of whose operations TensorFlow Lite lacks (`SELECT_TF_OPS` adds them).

        Args:
          filepath: directory to write.
          verbose: whether to print the path.
          **kwargs: must be empty; Keras's other formats are not supported.

        Raises:
          TypeError: on any other argument.
        """
        if kwargs:
            raise TypeError(f"export: unknown argument(s) {sorted(kwargs)}.")
        variables = [storage(v) for row in self.rows for v in row.variables]
        export.export(self.flow, variables, filepath)
        if verbose:
            print(f"SavedModel written to {filepath}")


def _rebuild(cls, flow, arguments, compile_config, states):
    model = cls(flow, **arguments)
    if compile_config is not None:
        model.compile_from_config(compile_config)
    if states is not None:
        for variable, value in zip(model.optimizer.variables, states, strict=True):
            variable.assign(value)
    return model
