"""The base class of all distributions: a check that Keras tracks their variables."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_flows.core.seeds import stateless_seed
from tfp_flows.core.tfp_internals import set_arguments
from tfp_flows.core.tracking import check_tracked
from tfp_flows.distributions.inputs import as_data, check_sample_shape

__all__ = ["Independent", "MixtureSameFamily", "Tracked", "without_given_name"]


def without_given_name(distribution: tfd.Distribution) -> Any:
    """Marks the name of a distribution as a default, which no user chose.

    TFP's joint distributions use the name of a part only if the part's `parameters`
    hold one. Otherwise they number parts or name them by arguments of functions.

    Args:
      distribution: a distribution of this package. It keeps its name, but `parameters`
        lose it.

    Returns:
      `distribution`.
    """
    parameters = {k: v for k, v in distribution.parameters.items() if k != "name"}
    set_arguments(distribution, parameters)
    return distribution


def with_papers(distribution: tfd.Distribution, *papers: str) -> Any:
    """Notes the papers of a distribution, for `tfp_flows.citation`; returns it."""
    object.__setattr__(distribution, "papers", papers)
    return distribution


class Tracked(tfd.Distribution):
    """A distribution that raises an error if a Keras model uses it untracked.

    See `check_tracked`. It also checks values, sizes and seeds. A copy keeps a default
    name, marked by `without_given_name`.
    """

    def sample(
        self,
        sample_shape: Any = (),
        seed: Any = None,
        name: str = "sample",
        **keywords: Any,
    ) -> tf.Tensor:
        """Draws a sample.

        Args:
          sample_shape: shape of the sample, in front of the batch: an integer or a
            sequence of them.
          seed: an integer of any size, a stateless seed `[2]`, or one of TFP's
            `SeedStream`s. The same seed gives the same sample.
          name: name of the operations.
          **keywords: further keywords of the distribution, such as `context`.

        Returns:
          Tensor `[*sample_shape, *batch, *event_shape]`.

        Raises:
          ValueError: on a negative size.
          TypeError: on a size or seed that is not an integer.
        """
        check_tracked(self)
        shape = check_sample_shape(sample_shape)
        return super().sample(shape, _stateless(seed), name=name, **keywords)

    def copy(self, **overrides: Any) -> Any:
        """A copy with some constructor arguments replaced."""
        if overrides.get("name", self.parameters.get("name")) is not None:
            return super().copy(**overrides)
        return without_given_name(super().copy(**{**overrides, "name": self.name}))

    # Values are checked before TFP converts them.

    def _call_log_prob(self, value, name, **keywords):
        check_tracked(self)
        return super()._call_log_prob(self._as_data(value), name, **keywords)

    def _call_prob(self, value, name, **keywords):
        check_tracked(self)
        return super()._call_prob(self._as_data(value), name, **keywords)

    def _as_data(self, value):
        return as_data(value, self.dtype, f"{self.name}: value")

    def _call_sample_and_log_prob(self, sample_shape, seed, **keywords):
        check_tracked(self)
        return super()._call_sample_and_log_prob(
            sample_shape, _stateless(seed), **keywords
        )


def _stateless(seed):
    """TFP's own seeds: integers of any size would overflow, or depend on past draws."""
    return None if seed is None else stateless_seed(seed)


class Independent(Tracked, tfd.Independent):
    """`tfd.Independent`, with the check of `Tracked`."""


class MixtureSameFamily(Tracked, tfd.MixtureSameFamily):
    """`tfd.MixtureSameFamily`, with the check of `Tracked`."""
