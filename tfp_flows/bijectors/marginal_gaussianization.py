"""Makes each entry of an event standard normal, starting from data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.stats
import tensorflow as tf

from tfp_flows.bijectors.elementwise import Elementwise
from tfp_flows.core.arguments import check_integer
from tfp_flows.core.starts_from_data import StartsFromData
from tfp_flows.transformers import Inverted, LogisticMixture, Probit, Stacked

__all__ = ["MarginalGaussianization"]

# The narrowest component at the start, in deviations of the data.
_NARROWEST = 0.02
# How wide components are at the start, in distances between their neighbours.
_WIDTH = 0.5


class MarginalGaussianization(StartsFromData, Elementwise):
    r"""Gives each entry the distribution of a mixture of logistics.

    $$ x_i = \Phi^{-1}(F_i(y_i)), \qquad
       F_i(y) = \sigma\Big(a_i + e^{c_i} \operatorname{logit} \sum_k \pi_{ik}\,
       \sigma\big((y - \mu_{ik}) e^{-s_{ik}}\big)\Big) $$

    (Meng et al. 2020, "Gaussianization Flows", section 3; but for $a$ and $c$, which
    start at zero.) `inverse`, from data to noise, is a closed form. `forward` finds the
    root of each entry by Newton's method.

    `initialize` puts a component at each of `components` quantiles of each entry, as
    wide as they are apart there: an estimate of its density by kernels, after which
    this batch is about standard normal. With rotations between, several of these make
    a sample of any distribution more normal one by one, before anything is trained
    (Laparra et al. 2011). Before, $x$ is about $y$.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import bijectors
      >>> marginals = bijectors.MarginalGaussianization([1], components=20)
      >>> y = np.random.default_rng(0).exponential(size=[1000, 1]).astype("float32")
      >>> x = marginals.initialize(y).numpy()
      >>> bool(abs(x.mean()) < 0.1 and abs(x.std() - 1) < 0.1)
      True

    Args:
      event_shape: shape of the event, of rank 1 or more.
      components: $K$, the number of logistics for each entry.
      conditioner: see `Elementwise`.
      context_shape: see there.
      dtype: dtype of values, float32 by default.
      name: name of the bijector.

    Raises:
      ValueError: as `Elementwise`; or if `components` is below 1.
      TypeError: if `event_shape` is no sequence of integers, or `components` none.
    """

    papers = ("laparra2011rbig", "meng2020gaussianization")

    _fast_paths = frozenset({"untaped"})

    def __init__(
        self,
        event_shape: Sequence[int],
        components: int = 8,
        conditioner: Callable | None = None,
        context_shape: Sequence[int] | None = None,
        dtype: Any = tf.float32,
        name: str = "marginal_gaussianization",
    ):
        parameters = dict(locals())
        # Rare samples are thrown no further than components are wide.
        self._mixture = LogisticMixture(
            check_integer("components", components),
            max_component_log_scale=1.0,
            min_component_log_scale=-5.0,
        )
        transformer = Inverted(Stacked([self._mixture, Probit()]))
        self._add_start()
        super().__init__(
            transformer, event_shape, conditioner, context_shape, dtype, name
        )
        self._set_parameters(parameters)

    def _initial(self, shape):
        """As of standard normal data."""
        *leading, _, last = shape
        shares = self._shares()
        centers = scipy.stats.norm.ppf(
            np.broadcast_to(shares, [*leading, last, len(shares)])
        )
        return self._kernels(np.moveaxis(centers, -1, 0), np.ones([*leading, last]))

    def _set_from(self, y):
        y = np.reshape(y, [-1, *self._input_event_shape]).astype(np.float64)
        raw = self._kernels(np.quantile(y, self._shares(), 0), y.std(0))
        # No kernel is narrow enough for what is constant.
        varies = (y.min(0) < y.max(0))[..., None, :]
        self._raw.assign(np.where(varies, raw, self._raw))

    def _shares(self):
        count = self._mixture.components
        return (np.arange(count) + 0.5) / count

    def _kernels(self, centers, deviation):
        """Parameters of kernels at `centers`, `[K, *event_shape]`."""
        apart = np.gradient(centers, axis=0) if len(centers) > 1 else deviation[None]
        width = np.maximum(_WIDTH * apart, _NARROWEST * deviation)
        means, widths = (np.moveaxis(part, 0, -2) for part in (centers, width))
        return self._mixture.parameters_of(means, np.log(np.maximum(widths, 1e-30)))
