"""The plan of a ready flow: what the shared options come to."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import bijectors, distributions
from tfp_flows.core.arguments import check_unused
from tfp_flows.core.seeds import generator
from tfp_flows.distributions.flow import with_config
from tfp_flows.distributions.tracked import without_given_name
from tfp_flows.ready.bases import make_base
from tfp_flows.ready.contexts import resolve_context
from tfp_flows.ready.dequantization import Dequantization
from tfp_flows.ready.preprocessing import preprocess

__all__ = ["Plan", "network_dtype"]


class Plan:
    """The plan of a ready flow: shapes, dtypes, seeds, and the shared options.

    `tfp_flows.flows.ready` makes one at each call and hands it to the generator.

    Example:
      >>> from tfp_flows import bijectors, flows
      >>> @flows.ready(flatten=True, name="my_package:scaled")
      ... def scaled(plan):
      ...     '''A factor for each entry.'''
      ...     print(plan.data_shape, plan.event_shape, plan.size, plan.dtype)
      ...     yield bijectors.Scaling(plan.event_shape, dtype=plan.dtype)
      >>> flow = scaled((2, 2, 1), seed=0)
      (2, 2, 1) (4,) 4 float32

    Attributes:
      event_shape: shape of an event where the flow's own bijectors meet it, a tuple;
        `(D,)` for images that are flattened.
      data_shape: shape of an event of data, a tuple; of a mixed table, of the real
        numbers that a row stands for.
      size: number of entries of an event.
      is_image: whether `event_shape` is an image's.
      context_shape: shape of a context as bijectors get it, or `None`.
      dtype: name of the flow's dtype.
      name: name of the flow.
      layer: arguments that a bijector with a network takes: `context_shape`, `dtype`.
      affine: the pair `scale`, `max_log_scale`, for flows that take these.
      levels: the option, for flows that take it.
      wavelets: the option, for flows that take it.
      noise: base distribution of a flow that has its own and takes no `base`, which its
        generator sets; else `None`.

    Args:
      kind: the flow's own side, which `tfp_flows.flows.ready` gives: its name, its
        preprocessing, and which of the options below it takes.
      event_shape: sequence of ints, the shape of the data: `(D,)` for vectors or
        `(H, W, C)` for images.
      levels: int, images only: number of levels, between which the sides of images,
        which must be even there, halve. By default as many as they allow, at most 3.
      wavelets: bool, images only: whether pixels become channels as averages and
        differences of 2x2, see `tfp_flows.bijectors.Haar`, instead of as they are. By
        default, not.
      scale: string, map from a network's output to a factor: `"exp"`, `"tanh"` or
        `"sigmoid"`, see `tfp_flows.bijectors.AffineCoupling`.
      max_log_scale: float, bound on the log-scale in nats, see there.
      dropout: float, fraction of the hidden activations of networks left out in
        training.
      base: string or mapping, distribution of the noise: `"normal"`, `"logistic"`,
        `"diagonal"` (learned mean and deviation), `"student_t"` (heavy tails),
        `"mixture"` (of Gaussians), `"fitted_mixture"` (the same with full covariances,
        which starts from data), `"resampled"` (a network rejects samples) or
        `"class_conditional"` (a Gaussian for each of `num_classes`); or a mapping with
        that `"name"` and arguments of the base, such as
        `{"name": "mixture", "components": 20}`, see `tfp_flows.distributions`.
      bounds: pair `(low, high)` of the data, which are scaled to an interval of length
        one; `(0, 256)` for 8-bit pixels with noise. Each is a number, or an array that
        broadcasts to `event_shape`: `([0, 1], [10, 20])` are the bounds of two
        features, from 0 to 10 and from 1 to 20.
      logit_margin: float in (0, 0.5). If given, the logit of the scaled data with this
        margin is modelled, so that samples stay within `bounds` but for the margin.
      normalize: bool, whether each feature (channel of images) is brought to mean 0 and
        deviation 1 by the data, in front of all else and untrained; `"robust"` takes
        median and quartiles, and with `"heavy_tails"` numbers more than three
        deviations away count by their logarithm (Andrade 2024; the three are trained).
        By default, yes, unless `bounds` are given.
      dequantize: string or mapping, for integers from 0 to K - 1 with `bounds=(0, K)`:
        `"uniform"` adds uniform noise, `"variational"` noise of a learned flow. The
        result is a `VariationalDequantization`, a distribution of integers. A mapping
        holds that `"name"` and arguments, such as `{"name": "variational", "samples":
        4}`, see `tfp_flows.flows.Dequantization`. For a table of categories, integers
        and real numbers, `{"name": "mixed", "columns": [["no", "yes"], "integer",
        "real"]}` says what each column holds. By default data are real numbers.
      context_shape: sequence of ints, shape of one context, or `None`. With a
        `context_encoder` that takes a dict of arrays, a dict of shapes.
      num_classes: int, instead of `context_shape`: the context is an integer label
        from 0 to `num_classes - 1`.
      context_encoder: a Keras layer or model that contexts of `context_shape` go
        through first, trained with the flow: a convolutional network for images, an
        `Embedding` for integer labels (`context_shape=()`).
      normalize_context: bool, whether contexts are brought to mean 0 and deviation 1 by
        the data; in a dict of arrays, all but labels. By default, yes, if they are
        numbers and there is no `context_encoder`.
      context_mode: string, how networks take the context: `"concat"` joins it to the
        input, `"film"` scales and shifts hidden layers. By default `"concat"`.
      class_drop: float, with `num_classes`: fraction of the labels that are left out in
        each step of training, where the mean of all classes stands for them. A flow
        that knows it can be guided, see `tfp_flows.latent.guided_sample`.
      conditioner_dtype: string, `"bfloat16"` or `"float16"` for networks that compute
        in half precision, with float32 variables, log-determinants and base; the two
        directions are then inverses of each other to two or three digits. `"float32"`
        for none. By default Keras's global policy if that is a mixed one.
      recompute_gradients: bool, whether gradients rebuild activations instead of
        keeping them: memory does not grow with depth, a step takes about a third
        longer. See `tfp_flows.bijectors.Chain`.
      seed: int of any size for the initial weights and all that is drawn at random. By
        default a new one, which `keras.utils.set_random_seed` makes reproducible.
      dtype: string, `"float32"` or `"float64"`.
      name: string, name of the flow; that of its chain is `"{name}_chain"`. By default
        the name of the function.
    """

    def __init__(
        self,
        kind: Any,
        event_shape: Sequence[int],
        *,
        levels: int | None = None,
        wavelets: bool | None = None,
        scale: str = "tanh",
        max_log_scale: float | None = None,
        dropout: float = 0.0,
        base: str | Mapping[str, Any] = "normal",
        bounds: Sequence[Any] | None = None,
        logit_margin: float | None = None,
        normalize: bool | str | None = None,
        dequantize: str | Mapping[str, Any] | None = None,
        context_shape: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
        num_classes: int | None = None,
        context_encoder: keras.layers.Layer | None = None,
        normalize_context: bool | None = None,
        context_mode: str | None = None,
        class_drop: float = 0.0,
        conditioner_dtype: str | None = None,
        recompute_gradients: bool = False,
        seed: int | None = None,
        dtype: Any = "float32",
        name: str | None = None,
    ):
        event_shape = tuple(event_shape)
        self._dequantize = None
        if dequantize is not None:
            self._dequantize = Dequantization(dequantize, bounds, event_shape)
            event_shape = self._dequantize.flow_shape
        self.data_shape = event_shape
        flat = (math.prod(event_shape),)
        self.event_shape = flat if kind.flatten else event_shape
        self.size, self.is_image = flat[0], len(self.event_shape) == 3
        self.noise: tfd.Distribution | None = None
        if not self.is_image:
            check_unused("for images", levels=levels, wavelets=wavelets or None)
        self.wavelets = bool(wavelets)
        self.levels, self.affine = levels, (scale, max_log_scale)
        self.dtype, self.name = dtype, kind.name if name is None else name
        self._is_named = self.name != kind.name
        self.conditioner_dtype = conditioner_dtype
        self.recompute_gradients = recompute_gradients
        self._draw = generator(seed)
        self.context_shape, self._encoder = resolve_context(
            context_shape,
            num_classes,
            dtype,
            context_encoder,
            normalize_context,
            class_drop,
        )
        if self.context_shape is None:
            check_unused("for a flow with a context", context_mode=context_mode)
        if dropout and recompute_gradients:
            raise ValueError(
                f"dropout={dropout} needs recompute_gradients=False: a network that is "
                "run again would leave out other activations."
            )
        self._network = {"dtype": dtype}
        if "dropout" in kind.takes:
            self._network["dropout"] = dropout
        if "conditioner_dtype" in kind.takes:
            self._network["dtype"] = network_dtype(dtype, conditioner_dtype)
        if "context_mode" in kind.takes:
            self._network["context_mode"] = context_mode or "concat"
        self.layer = {"context_shape": self.context_shape, "dtype": dtype}
        self._base = base
        self._first = preprocess(
            event_shape, bounds, logit_margin, normalize, kind.center, dtype
        )
        if kind.flatten and len(event_shape) == 3:
            self._first.append(tfb.Reshape(event_shape, flat))

    def seed(self) -> int:
        """Returns a new seed at every call."""
        return int(self._draw.integers(2**31))

    def network(self) -> dict[str, Any]:
        """Returns arguments of a network: a new `seed`, its `dtype`, and its options.

        Which options there are depends on what the flow takes: `dropout` and
        `context_mode`.
        """
        return {"seed": self.seed(), **self._network}

    def of_noise(
        self, event_shape: tuple[int, ...], context_shape: tuple[int, ...]
    ) -> Plan:
        """Returns the plan of a flow of noise.

        Args:
          event_shape: shape of the noise.
          context_shape: shape of what is known of the data.
        """
        noise = copy.copy(self)
        noise.event_shape, noise.context_shape = event_shape, context_shape
        noise.size, noise.is_image = math.prod(event_shape), len(event_shape) == 3
        noise.layer = {**self.layer, "context_shape": context_shape}
        noise._network = {"dtype": self._network["dtype"]}
        return noise

    def behind(self, event_shape: Sequence[int]) -> Plan:
        """Returns the plan of what stands behind bijectors to another event shape.

        Args:
          event_shape: shape of an event there.
        """
        plan = copy.copy(self)
        plan.event_shape = tuple(event_shape)
        plan.size, plan.is_image = math.prod(event_shape), len(event_shape) == 3
        return plan

    def chain(self, members: Iterable[tfb.Bijector], name: str) -> bijectors.Chain:
        """Makes a chain, which recomputes gradients if the flow does.

        Args:
          members: bijectors, in the order in which data meet them.
          name: name of the chain.

        Returns:
          A `Chain`.
        """
        return bijectors.Chain(
            list(members), name=name, recompute_gradients=self.recompute_gradients
        )

    def assemble(
        self, members: Iterable[tfb.Bijector], config: Mapping[str, Any]
    ) -> distributions.Flow | distributions.LowerBound:
        """Makes the flow: preprocessing, the members, and the base.

        Args:
          members: the flow's own bijectors, in the order in which data meet them.
          config: what the flow keeps as its `config`.

        Returns:
          A `Flow`, with the option `dequantize` a `VariationalDequantization` or
          `MixedDequantization` of one.

        Raises:
          ValueError: if members do not fit together, or on an option of `base` or
            `dequantize` that is not known.
        """
        chain = self.chain([*self._first, *members], f"{self.name}_chain")
        noise_shape = chain.inverse_event_shape(self.data_shape).as_list()
        base = self.noise
        if base is None:
            base = make_base(
                self._base, noise_shape, self._encoder, self.dtype, self.seed()
            )
        flow = distributions.Flow(
            base,
            chain,
            context_encoder=self._encoder,
            context_shape=getattr(self._encoder, "input_shape", None),
            name=self.name,
        )
        if self._dequantize is not None:
            flow = self._dequantize(flow, self)
        if not self._is_named:
            flow = without_given_name(flow)
        return with_config(flow, config)


def network_dtype(dtype: Any, conditioner_dtype: str | None) -> Any:
    """The `dtype` that networks get: the flow's, or a mixed policy of Keras."""
    if conditioner_dtype is None:
        policy = keras.config.dtype_policy()
        is_mixed = policy.compute_dtype != policy.variable_dtype
        return policy if is_mixed and policy.variable_dtype == dtype else dtype
    if conditioner_dtype == dtype:
        return dtype
    if conditioner_dtype not in ("bfloat16", "float16") or dtype != "float32":
        raise ValueError(
            f"conditioner_dtype must be None or {dtype!r}"
            + (', "bfloat16" or "float16"' if dtype == "float32" else "")
            + f" for a {dtype} flow, got {conditioner_dtype!r}."
        )
    return keras.DTypePolicy(f"mixed_{conditioner_dtype}")
