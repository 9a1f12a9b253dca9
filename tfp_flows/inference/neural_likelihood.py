"""Neural likelihood estimation: a flow of data given parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.arguments import check_integer
from tfp_flows.inference.conditional_flow import (
    check_shape_of_data,
    fit,
    make_conditional_flow,
)
from tfp_flows.inference.parameters import as_vectors
from tfp_flows.inference.simulation import check_prior
from tfp_flows.training import FlowModel

__all__ = ["NeuralLikelihood"]


class NeuralLikelihood:
    r"""The likelihood of a simulator's parameters, learned from simulations.

    A conditional flow $q(x \mid \theta)$ is fitted by maximum likelihood (Papamakarios
    et al. 2019). It makes a joint distribution of TFP's with the prior, for TFP's MCMC
    and all of `tfp_flows.inference`:

    $$ p(\theta \mid x_1, \dots, x_n) \propto p(\theta) \prod_i q(x_i \mid \theta) $$

    Pairs need not come from the prior, and many observations need no other training.

    Example:
      >>> import numpy as np
      >>> from tensorflow_probability import distributions as tfd
      >>> from tfp_flows import flows, inference
      >>> prior = tfd.MultivariateNormalDiag([0.0, 0.0])
      >>> simulator = lambda theta: theta + np.random.normal(size=theta.shape)
      >>> theta, x = inference.simulate(prior, simulator, 100, seed=0)
      >>> likelihood = inference.NeuralLikelihood(
      ...     prior, (2,), flow=flows.maf, layers=1, seed=0)
      >>> history = likelihood.fit(theta, x, epochs=1, verbose=0)
      >>> target = likelihood.given(x[0])
      >>> target.unnormalized_log_prob(parameters=theta[:5]).shape
      TensorShape([5])

    Attributes:
      prior: the prior.
      model: a `FlowModel` over data, given vectors of all parameters: to `compile`,
        `save`, `load_weights`.

    Args:
      prior: distribution of the parameters, joint or not, with a density.
      data_shape: shape of the data of one simulation, as the flow takes it: `(D,)`, or
        `(H, W, C)` for images.
      flow: a ready flow (`tfp_flows.flows.maf`), another function of an event shape, or
        a distribution with a `context_shape`. By default, a `neural_spline_flow` of
        width 64 and bound 5.
      name: name of the likelihood.
      **options: arguments of `flow`, such as `layers` and `seed`.

    Raises:
      TypeError: if `prior` is no TFP distribution, or `flow` makes none.
      ValueError: if the prior has a batch or no density, or shapes are not static or do
        not fit.
    """

    def __init__(
        self,
        prior: tfd.Distribution,
        data_shape: Sequence[int],
        flow: Callable[..., tfd.Distribution] | tfd.Distribution | None = None,
        *,
        name: str = "neural_likelihood",
        **options: Any,
    ):
        check_prior(prior)
        _check_density(prior)
        shape = check_shape_of_data(data_shape)
        dtypes = [tf.as_dtype(dtype) for dtype in tf.nest.flatten(prior.dtype)]
        dtype = next((d for d in dtypes if d.is_floating), tf.float32)
        sizes = [s.num_elements() for s in tf.nest.flatten(prior.event_shape)]
        self.prior, self.name = prior, name
        self.model = FlowModel(
            make_conditional_flow(flow, shape, (sum(sizes),), dtype, options), name=name
        )

    def fit(
        self, parameters: Any, data: Any, **options: Any
    ) -> keras.callbacks.History:
        """Fits the flow to simulations, by `FlowModel.fit`.

        Args:
          parameters: `[N, *shape]` in the structure of the prior.
          data: `[N, *data_shape]`.
          **options: arguments of Keras's `fit`: `epochs`, `batch_size`, `callbacks`,
            `validation_split`; `validation_data=(parameters, data)`.

        Returns:
          Keras's `History`. Losses are in nats of the data.

        Raises:
          TypeError: on what holds no real numbers.
          ValueError: if shapes do not fit; on NaN or infinity.
          TrainingDiverged: if the loss or a weight became NaN or infinite.
        """
        if options.get("validation_data") is not None:
            parts, held_out = options["validation_data"]
            options["validation_data"] = held_out, self._vectors(parts).numpy()
        return fit(self.model, data, self._vectors(parameters).numpy(), options)

    def joint(self, count: int | None = None) -> tfd.JointDistributionNamed:
        """The joint distribution of `parameters` and `data`.

        Args:
          count: number of independent observations of the same parameters, along the
            first axis of `data`; `None` for one without such an axis.

        Returns:
          A `tfd.JointDistributionNamed`. `tfp.experimental.mcmc.windowed_adaptive_nuts`
          takes it, with `data=...`.
        """
        if count is not None:
            count = check_integer("count", count)

        def likelihood(parameters):
            one = self.model.flow.given(self._vectors(parameters))
            return one if count is None else tfd.Sample(one, count)

        parts = {"parameters": self.prior, "data": likelihood}
        return tfd.JointDistributionNamed(parts, name=self.name)

    def given(self, data: Any) -> Any:
        """The unnormalised posterior given data.

        Args:
          data: `[*data_shape]`, or `[n, *data_shape]` for independent observations.

        Returns:
          The joint distribution with its `data` pinned: a target for `tfp.mcmc`, and
          for `surrogate_posterior`, `VariationalModel`, `neutra`.

        Raises:
          ValueError: if the data have another shape.
        """
        data = tf.cast(data, self.model.flow.dtype)
        shape = self.model.flow.event_shape
        extra = data.shape.rank - shape.rank
        if extra not in (0, 1) or data.shape[extra:] != shape:
            raise ValueError(
                f"data must be of shape {tuple(shape)} or (n, "
                f"{', '.join(map(str, shape))}), got {tuple(data.shape)}."
            )
        count = data.shape[0] if extra else None
        return self.joint(count).experimental_pin(data=data)

    def _vectors(self, parameters):
        return as_vectors(parameters, self.prior.event_shape, self.model.flow.dtype)


def _check_density(prior):
    try:
        prior.log_prob(prior.sample(2, seed=0))
    except NotImplementedError as error:
        raise ValueError(
            f"prior must have a density, which the posterior is a product with: "
            f"{error} NeuralPosterior needs none."
        ) from error
