"""Neural posterior estimation: a flow of parameters given data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.inference.conditional_flow import (
    check_shape_of_data,
    fit,
    make_conditional_flow,
)
from tfp_flows.inference.over_parameters import OverParameters
from tfp_flows.inference.parameters import as_vectors, dtype_of_parts, from_vectors
from tfp_flows.inference.simulation import check_prior
from tfp_flows.training import FlowModel

__all__ = ["NeuralPosterior"]

# The share of parameters that may be rounded to an edge of the prior's support.
_EDGE = 0.01


class NeuralPosterior:
    r"""The posterior of a simulator's parameters, learned from simulations.

    A conditional flow $q$ is fitted to pairs of the joint distribution by maximum
    likelihood. At its optimum it is the posterior for every $x$ (Papamakarios & Murray
    2016; Greenberg et al. 2019, section 2):

    $$ \max_q \mathbb{E}_{p(\theta) p(x | \theta)} \log q(\theta \mid x)
       \quad\Rightarrow\quad q(\theta \mid x) = p(\theta \mid x) $$

    The flow acts on unconstrained numbers, to which the prior's
    `experimental_default_event_space_bijector()` maps the parameters, so no sample lies
    outside the prior's support. Both these numbers and the data are normalised.

    Example:
      >>> import numpy as np
      >>> from tensorflow_probability import distributions as tfd
      >>> from tfp_flows import flows, inference
      >>> prior = tfd.JointDistributionNamed(
      ...     {"rate": tfd.Gamma(2.0, 2.0), "shift": tfd.Normal(0.0, 1.0)})
      >>> def simulator(theta, seed):
      ...     rate, shift = theta["rate"][:, None], theta["shift"][:, None]
      ...     draw = np.random.default_rng(seed).exponential(size=[len(rate), 5])
      ...     return draw / rate + shift
      >>> theta, x = inference.simulate(prior, simulator, 100, seed=0)
      >>> posterior = inference.NeuralPosterior(
      ...     prior, (5,), flow=flows.maf, layers=1, seed=0)
      >>> history = posterior.fit(theta, x, epochs=1, verbose=0)
      >>> posterior.given(x[0]).sample(3)["rate"].shape
      TensorShape([3])

    Attributes:
      prior: the prior.
      model: a `FlowModel` over vectors of unconstrained parameters, given data: to
        `compile`, `save`, `load_weights`.
      bijector: from these vectors to parameters.

    Args:
      prior: distribution of the parameters, joint or not, with real parts.
      data_shape: shape of the data of one simulation.
      flow: a ready flow (`tfp_flows.flows.maf`), another function of an event shape, or
        a distribution with a `context_shape`. By default, a `neural_spline_flow` of
        width 64 and bound 5.
      bijector: from unconstrained numbers to the parameters; by default that of the
        prior. A structure of bijectors has one for each part, `None` for the identity.
      name: name of the posterior.
      **options: arguments of `flow`, such as `layers`, `seed`, and `context_encoder`: a
        Keras layer that data go through first. By default it flattens those of more
        than one axis.

    Raises:
      TypeError: if `prior` is no TFP distribution, or `flow` makes none.
      ValueError: if a part of the prior is discrete, parts differ in dtype, shapes are
        not static or do not fit, or the prior has a batch.
    """

    def __init__(
        self,
        prior: tfd.Distribution,
        data_shape: Sequence[int],
        flow: Callable[..., tfd.Distribution] | tfd.Distribution | None = None,
        *,
        bijector: Any = None,
        name: str = "neural_posterior",
        **options: Any,
    ):
        check_prior(prior)
        dtype = dtype_of_parts(prior, "prior")
        size, self.bijector = from_vectors(prior, bijector, "prior")
        shape = check_shape_of_data(data_shape)
        self.prior, self.name = prior, name
        self.model = FlowModel(
            make_conditional_flow(flow, (size,), shape, dtype, options), name=name
        )

    def fit(
        self, parameters: Any, data: Any, **options: Any
    ) -> keras.callbacks.History:
        """Fits the flow to simulations, by `FlowModel.fit`.

        Args:
          parameters: `[N, *shape]` in the structure of the prior, drawn from it.
          data: `[N, *data_shape]`.
          **options: arguments of Keras's `fit`: `epochs`, `batch_size`, `callbacks`,
            `validation_split`; `validation_data=(parameters, data)`.

        Returns:
          Keras's `History`. Losses are in nats of the unconstrained parameters.

        Raises:
          TypeError: on what holds no real numbers.
          ValueError: if shapes do not fit, or parameters lie outside of the support
            that the bijector maps to; on NaN or infinity.
          TrainingDiverged: if the loss or a weight became NaN or infinite.
        """
        u, data, inside = self._vectors(parameters, data)
        if options.get("sample_weight") is not None:
            options["sample_weight"] = np.asarray(options["sample_weight"])[inside]
        if options.get("validation_data") is not None:
            options["validation_data"] = self._vectors(*options["validation_data"])[:2]
        return fit(self.model, u, data, options)

    def given(self, data: Any) -> tfd.Distribution:
        """The posterior given data, an ordinary distribution of TFP's.

        Args:
          data: `[*batch, *data_shape]`.

        Returns:
          A `tfd.TransformedDistribution` over parameters in the structure of the prior,
          of batch shape `batch`. Its log-density outside of the support of the prior is
          minus infinity.

        Raises:
          ValueError: if the data have another shape.
        """
        flow = self.model.flow.given(data)
        return OverParameters(flow, self.bijector, name=self.name)

    def _vectors(self, parameters, data):
        """Vectors and data, but for parameters at an edge; and which ones are kept."""
        as_vectors(parameters, self.prior.event_shape, self.model.flow.dtype)
        parameters = tf.nest.map_structure(
            lambda part, dtype: tf.cast(part, dtype), parameters, self.prior.dtype
        )
        counts = {len(part) for part in tf.nest.flatten(parameters)} | {len(data)}
        if len(counts) != 1:
            raise ValueError(
                f"parameters and data must be equally many, got {sorted(counts)}."
            )
        u = self.bijector.inverse(parameters).numpy()
        inside = np.isfinite(u).all(-1)
        outside = len(u) - int(inside.sum())
        if outside > _EDGE * len(u):
            raise ValueError(
                f"parameters must lie within the support of the prior; {outside} of "
                f"{len(u)} are NaN, infinite or outside, or bijector maps elsewhere."
            )
        # A float32 number in [0, 1) is 0 once in some 10 million draws.
        return u[inside], np.asarray(data)[inside], inside
