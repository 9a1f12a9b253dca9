"""A flow as the surrogate posterior of a joint distribution."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from tfp_flows import flows
from tfp_flows.bijectors import PLU, Chain
from tfp_flows.core.tfp_internals import TRANSFORMED_DISTRIBUTION
from tfp_flows.distributions import Flow
from tfp_flows.inference.over_parameters import OverParameters
from tfp_flows.inference.parameters import dtype_of_parts, from_vectors
from tfp_flows.inference.target import PINNED, as_target, check_target
from tfp_flows.training.initialize import needs_initialization

__all__ = ["surrogate_posterior"]


def surrogate_posterior(
    model: Any,
    flow: Callable[..., tfd.Distribution] | tfd.Distribution | None = None,
    *,
    observed: Mapping[str, Any] | None = None,
    bijector: Any = None,
    affine: bool = True,
    name: str = "surrogate_posterior",
    **options: Any,
) -> tfd.Distribution:
    r"""A distribution over a model's parameters whose density is a flow's.

    $$ \theta = g(A f(z) + b), \qquad z \sim N(0, I_D) $$

    The flow $f$ acts on $\mathbb{R}^D$, where $D$ counts the unconstrained numbers of
    all parts. A learned matrix $A$ and shift $b$, which start as the identity, let it
    begin as a multivariate normal does. $g$ splits and reshapes the vector into the
    parts, and maps each into its support (a scale above 0, a simplex, a correlation
    matrix).

    The result has samples of the model's structure. `tfp.vi.fit_surrogate_posterior`
    and `VariationalModel` train it against `model.unnormalized_log_prob`; its
    `distribution` is the flow over $\mathbb{R}^D$, its `bijector` is $g$.

    Example:
      >>> import tensorflow as tf
      >>> from tensorflow_probability import distributions as tfd
      >>> model = tfd.JointDistributionNamed({
      ...     "scale": tfd.Gamma(2.0, 1.0),
      ...     "x": lambda scale: tfd.Sample(tfd.Normal(0.0, scale), 5),
      ... })
      >>> posterior = surrogate_posterior(model, observed={"x": tf.ones(5)}, seed=0)
      >>> sample = posterior.sample(3, seed=0)
      >>> sample["scale"].shape, bool(tf.reduce_all(sample["scale"] > 0))
      (TensorShape([3]), True)

    Args:
      model: a pinned joint distribution (`joint.experimental_pin(x=data)`), or any TFP
        distribution; its unpinned parts are the parameters.
      flow: a ready flow (`tfp_flows.flows.iaf`) or any function that makes a
        distribution over vectors of an event shape `(D,)`, or such a distribution. By
        default `real_nvp` with 6 couplings of width 32 and random permutations; for a
        single number, an autoregressive `neural_spline_flow`. A flow whose samples need
        no iteration suits best.
      observed: names and values of parts of `model` to pin.
      bijector: from unconstrained numbers to the parameters; by default that of the
        model, `experimental_default_event_space_bijector()`. A structure of bijectors
        has one for each part, `None` for the identity.
      affine: whether the learned matrix and shift follow the flow. They have $D^2 + D$
        parameters.
      name: name of the surrogate.
      **options: arguments of `flow`, such as `layers` and `seed`. Ready flows get
        `normalize=False` and the model's dtype.

    Returns:
      A `tfd.TransformedDistribution`, of density 0 outside of the support.

    Raises:
      TypeError: if `model` is no TFP distribution.
      ValueError: if a part is discrete, parts differ in dtype, the shapes are not
        static or the model has a batch shape; if the bijector or the flow does not fit;
        or if the model has no density, or it is not finite at samples of the
        surrogate, so that supports do not match.
    """
    model = _pin(model, observed)
    dtype = dtype_of_parts(model)
    size, to_parts = from_vectors(model, bijector)
    flow = _make_flow(flow, size, dtype, options)
    if affine:
        flow = _with_affine(flow, size, dtype)
    surrogate = OverParameters(flow, to_parts, name=name)
    check_target(as_target(model, "model"), surrogate, name="model")
    return surrogate


def _pin(model, observed):
    if not isinstance(model, (PINNED, tfd.Distribution)):
        raise TypeError(
            "model must be a (pinned) joint distribution or another TFP distribution, "
            f"got {type(model).__name__}."
        )
    if observed is None:
        return model
    if not hasattr(model, "experimental_pin"):
        raise TypeError(
            f"observed names parts of a joint distribution; model is a "
            f"{type(model).__name__}."
        )
    try:
        return model.experimental_pin(**observed)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"observed does not fit the model: got {sorted(observed)}. {error}"
        ) from error


def _make_flow(
    flow: Any, size: int, dtype: tf.DType, options: dict[str, Any]
) -> tfd.Distribution:
    if flow is None and size == 1:
        flow = flows.neural_spline_flow
        options = {"autoregressive": True, "layers": 2, "width": 32, **options}
    elif flow is None:
        flow = flows.real_nvp
        options = {"layers": 6, "width": 32, "order": "random", **options}
    if not isinstance(flow, tfd.Distribution):
        if not callable(flow):
            raise TypeError(
                "flow must be a function of an event shape or a TFP distribution, got "
                f"{type(flow).__name__}."
            )
        known = inspect.signature(flow).parameters
        shared = {"normalize": False, "dtype": dtype.name}
        shared = {k: v for k, v in shared.items() if k in known}
        flow = flow((size,), **{**shared, **options})
    elif options:
        raise ValueError(
            f"options are for a function that makes a flow; got {sorted(options)} with "
            "a flow."
        )
    if not isinstance(flow, tfd.Distribution):
        raise TypeError(
            f"flow must make a TFP distribution, got {type(flow).__name__}."
        )
    if flow.event_shape != [size] or flow.batch_shape.rank != 0:
        raise ValueError(
            f"flow must be over vectors of shape ({size},), the unconstrained "
            f"parameters, without a batch; got event shape {flow.event_shape}, batch "
            f"shape {flow.batch_shape}."
        )
    if flow.dtype != dtype:
        raise ValueError(
            f"flow must have the model's dtype {dtype.name}, got {flow.dtype.name}."
        )
    if needs_initialization(flow):
        raise ValueError(
            "flow has parts that start from data (ActNorm, normalize=True), of which "
            "there are none: leave them out or call tfp_flows.training.initialize."
        )
    return flow


def _with_affine(flow: tfd.Distribution, size: int, dtype: tf.DType) -> Flow:
    shift = tfb.Shift(tf.Variable(tf.zeros([size], dtype), name="shift"))
    matrix = PLU(size, initial=np.eye(size), dtype=dtype, name="matrix")
    members: Sequence[tfb.Bijector] = [shift, matrix]
    if isinstance(flow, TRANSFORMED_DISTRIBUTION):
        # As one chain: the density of a sample just drawn needs no inverse.
        flow, members = flow.distribution, [*members, flow.bijector]
    return Flow(flow, Chain(members))
