"""Monotonic networks of sigmoids and logits."""

from __future__ import annotations

import itertools

import tensorflow as tf

from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.core.roots import monotone_root
from tfp_flows.transformers.bounds import smooth_bound
from tfp_flows.transformers.logistic_mixture import log_odds
from tfp_flows.transformers.transformer import Transformer, as_rows, spread

__all__ = ["SigmoidNetwork"]


class SigmoidNetwork(Transformer):
    r"""A network of one number whose layers are mixtures of sigmoids.

    $$ h^{l+1} = \operatorname{logit}\big(w\, \sigma(a \odot (u\, h^l) + b)\big),
       \qquad h^0 = x, \quad y = h^L $$

    (Huang et al. 2018, "Neural Autoregressive Flows", the dense deep sigmoidal flow,
    DDSF.) Rows of $u$ and $w$ are positive and sum to one, $a$ is positive; the first
    and the last $h$ are one number, those between have `width`, as has $b$. With a
    single layer this is a `LogisticMixture`, the paper's deep sigmoidal flow (DSF);
    several of these after each other are a `Stacked` of them.

    Sigmoids and logits are computed as logarithms, so that the function is exact far
    out too, where it is a straight line. The inverse is found by Newton's method; its
    derivatives come from the implicit function theorem.

    With width $W$, each layer has the parameters of $w$, $u$, $a$ and $b$; in all these
    are $2 W^2 + 5 W$ for two layers. If all are zero, the function is near the
    identity: units then differ in $b$ and $w$, since equal ones would stay equal.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import transformers
      >>> network = transformers.SigmoidNetwork(width=3)
      >>> x = tf.constant([-1.0, 0.0, 2.0])
      >>> theta = 0.5 * tf.ones([network.num_parameters, 3])
      >>> y, log_det = network.forward_and_log_det(x, theta)
      >>> back, _ = network.inverse_and_log_det(y, theta)
      >>> bool(tf.reduce_all(tf.abs(back - x) < 1e-4))
      True

    Args:
      width: $W$, at least 1.
      layers: $L$, at least 1.
      max_log_scale: bound on each $|\log a|$, nats.

    Raises:
      ValueError: if `width` or `layers` is below 1, or `max_log_scale` not positive.
      TypeError: if one of them is not a number, or one of the first two no integer.
    """

    papers = ("huang2018naf",)

    has_direct_inverse = False

    def __init__(self, width: int = 4, layers: int = 2, max_log_scale: float = 3.0):
        self.width = check_integer("width", width)
        self.layers = check_integer("layers", layers)
        self.max_log_scale = check_number("max_log_scale", max_log_scale, above=0)
        self._spread = spread(self.width, 0.7)
        # Of each layer: inputs and outputs.
        self._ends = list(itertools.pairwise([1, *[self.width] * (self.layers - 1), 1]))
        self.num_parameters = sum(map(sum, self._sizes()))

    def _sizes(self):
        """How many numbers w, u, a and b of each layer have."""
        k = self.width
        # Rows of one positive number that sum to one need no parameters.
        return [
            (out * k, inner * k if inner > 1 else 0, k, k) for inner, out in self._ends
        ]

    def forward_and_log_det(
        self, x: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return _evaluate(x, self._split(parameters))

    def inverse_and_log_det(
        self, y: tf.Tensor, parameters: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        layers = self._split(parameters)
        # A layer is between the least and the greatest of its lines, a h + b.
        low = high = y
        for _, _, log_a, b in reversed(layers):
            low, high = (
                (tf.expand_dims(end, -2) - b) * tf.exp(-log_a) for end in (low, high)
            )
            low, high = tf.reduce_min(low, -2), tf.reduce_max(high, -2)

        def function(x):
            value, log_slope = _evaluate(x, layers)
            return value, tf.exp(log_slope)

        x = monotone_root(function, y, low, high)
        return x, -_evaluate(x, layers)[1]

    def _split(self, parameters):
        """Of each layer `log w`, `log u`, `log a` and `b`."""
        k, dtype = self.width, parameters.dtype
        raw = iter(tf.split(parameters, list(itertools.chain(*self._sizes())), -2))
        layers = []
        for inner, out in self._ends:
            w, u, a, b = (next(raw) for _ in range(4))
            w = as_rows(w, out, k)
            if out > 1:
                # Rows prefer the sigmoid of their own index.
                w += 2 * tf.eye(k, dtype=dtype)[..., None]
            log_u = (
                tf.nn.log_softmax(as_rows(u, k, inner), -2)
                if inner > 1
                else tf.zeros([1, 1, 1], dtype)
            )
            log_a = smooth_bound(a, self.max_log_scale)
            b -= tf.constant(self._spread, dtype)
            layers.append((tf.nn.log_softmax(w, -2), log_u, log_a, b))
        return layers

    def __repr__(self):
        return (
            f"SigmoidNetwork(width={self.width}, layers={self.layers}, "
            f"max_log_scale={self.max_log_scale})"
        )


def _evaluate(x, layers):
    h, log_slope = tf.expand_dims(x, -2), tf.zeros_like(tf.expand_dims(x, -2))
    for log_w, log_u, log_a, b in layers:
        # [..., units, inner, n]
        before = tf.reduce_sum(tf.exp(log_u) * tf.expand_dims(h, -3), -2)
        slopes = tf.reduce_logsumexp(log_u + tf.expand_dims(log_slope, -3), -2)
        units = before * tf.exp(log_a) + b, slopes + log_a
        # [..., out, units, n]
        h, log_slope = log_odds(*(tf.expand_dims(part, -3) for part in units), log_w)
    return tf.squeeze(h, -2), tf.squeeze(log_slope, -2)
