"""The autoregressive flow that is one masked network of positive blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows.core.arguments import check_integer, check_vector_shape
from tfp_flows.core.joint_bijector import JointBijector
from tfp_flows.core.roots import monotone_root
from tfp_flows.core.seeds import generator
from tfp_flows.core.shapes import reshape_event
from tfp_flows.transformers.transformer import spread

__all__ = ["BlockAutoregressive"]

# How far biases spread the hidden units of an entry: over most of standardised data.
_SPREAD = 2.0


class BlockAutoregressive(JointBijector):
    r"""A network of an event, each of whose outputs rises with the input of its index.

    Each entry has `width` units of its own in every hidden layer of

    $$ f(x) = W_L \tanh(\dots \tanh(W_0 x + b_0) \dots) + b_L, \qquad
       y = (1 - g) \odot x + g \odot f(x) $$

    (De Cao et al. 2019, "Block Neural Autoregressive Flow", equation 8). The block of
    $W_l$ that leads from the units of entry $j$ to those of entry $i$ is zero for $j >
    i$, free for $j < i$, and positive, the exponential of raw numbers, for $j = i$. So
    $y_i$ depends on $x_1, \dots, x_i$ and rises with $x_i$. The weights of each unit
    have a length that is learned beside their direction (weight normalisation, Salimans
    & Kingma 2016). With $B^i_l$ the block on the diagonal,

    $$ \log|\det \partial y / \partial x| = \sum_i \log\Big(1 - g_i + g_i\, B^i_L
       \mathrm{diag}(\tanh'_L) B^i_{L-1} \cdots \mathrm{diag}(\tanh'_1) B^i_0\Big), $$

    a product of matrices whose logarithms are kept, so that nothing underflows where
    units saturate.

    The gate $g$, one number in (0, 1) for each entry, is the paper's residual form.
    Here no layer goes without: $f$ is bounded, and noise beyond its bounds would be
    that of no data.

    `forward` is one pass. `inverse` goes entry by entry and finds a root for each by
    Newton's method, whose derivatives come from the implicit function theorem. Each
    hidden unit is computed once, so that but for the roots it takes about the
    arithmetic of one pass. A flow that is trained by likelihood uses
    `tfb.Invert(BlockAutoregressive(...))`, with a `Permutation("reverse")` between two.

    A context moves the biases of every layer, by a linear map.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors
      >>> block = bijectors.BlockAutoregressive(3, width=4, seed=0)
      >>> x = tf.constant([[0.5, -1.0, 2.0]])
      >>> y, log_det = block.forward_and_log_det(x)
      >>> bool(tf.reduce_all(tf.abs(block.inverse(y) - x) < 1e-4))
      True

    Args:
      event_shape: `D` or `[D]`, the shape of an event `[..., D]`.
      width: units of each entry in each hidden layer.
      depth: number of hidden layers, at least 1.
      context_shape: `[C]`, the shape of one context, or `None` for no context.
      seed: integer seed of the initial weights.
      dtype: dtype of values, float32 by default.
      name: name of the bijector.

    Raises:
      ValueError: if `event_shape` or `context_shape` is not that of a vector, or a size
        not positive.
      TypeError: if a size is not an integer.
    """

    papers = ("decao2019bnaf", "salimans2016weight")

    _fast_paths = frozenset({"untaped"})

    has_direct_inverse = False

    def __init__(
        self,
        event_shape: int | Sequence[int],
        width: int = 8,
        depth: int = 1,
        context_shape: Sequence[int] | None = None,
        seed: int | None = None,
        dtype: Any = tf.float32,
        name: str = "block_autoregressive",
    ):
        parameters = dict(locals())
        size = check_vector_shape("event_shape", event_shape)
        width, depth = check_integer("width", width), check_integer("depth", depth)
        if context_shape is not None:
            context_shape = (check_vector_shape("context_shape", context_shape),)
        dtype = tf.as_dtype(dtype)
        draw = generator(seed)
        entries = np.arange(size)
        # Of kernels as [entries, units, entries, units], from inputs to outputs.
        self._same = (entries[:, None] == entries)[:, None, :, None]
        self._before = (entries[:, None] < entries)[:, None, :, None]
        self._kernels, self._lengths_and_biases = [], []
        add, widths = self._add_variable, [1, *[width] * depth, 1]
        for k, (n, m) in enumerate(itertools.pairwise(widths)):
            kernel = draw.standard_normal((size, n, size, m))
            kernel *= np.where(self._same, 1.0, self._before / np.sqrt(size * n))
            # A layer of new units has about the slope of one, half of a tanh's.
            length = 0.0 if k == 0 else np.log(2 / np.sqrt(n))
            bias = np.zeros(1) if k == depth else spread(m, _SPREAD)[:, 0]
            kernel = kernel.reshape([size * n, size * m])
            start = np.stack([np.full(size * m, length), np.tile(bias, size)])
            self._kernels.append(add(f"kernel_{k}", tf.constant(kernel, dtype)))
            self._lengths_and_biases.append(
                add(f"length_and_bias_{k}", tf.constant(start, dtype))
            )
        self._gate = add("gate", tf.zeros([size], dtype))
        if context_shape is not None:
            # To the biases of all layers, one after the other.
            zeros = tf.zeros([*context_shape, size * sum(widths[1:])], dtype)
            self._context_kernel = add("context_kernel", zeros)
        super().__init__(
            forward_min_event_ndims=1,
            input_event_shape=(size,),
            context_shape=context_shape,
            dtype=dtype,
            parameters=parameters,
            name=name,
        )

    def _is_increasing(self, **keywords):
        # Of several entries, the later ones may fall as the first one rises.
        if self._input_event_shape != (1,):
            return super()._is_increasing(**keywords)
        return True

    def _forward_and_log_det(self, x, context=None):
        y, log_det = self._evaluate(_rows(x), self._layers(context))
        return _like(y, x), reshape_event(log_det, 1, [], like=x)

    def _inverse_and_log_det(self, y, context=None):
        layers = self._layers(context)
        x = self._solve(_rows(y), layers)
        # Computed again outside of the loop, so that gradients go through the result.
        _, log_det = self._evaluate(x, layers)
        return _like(x, y), -reshape_event(log_det, 1, [], like=y)

    def _log_shares(self):
        r"""$\log (1 - g)$ and $\log g$, `[2, D]`."""
        return tf.math.log_sigmoid(tf.stack([-self._gate, self._gate]))

    def _layers(self, context):
        """Of each layer its kernel, its blocks' logarithms `[D, n, m]`, its bias."""
        layers, size = [], self._gate.shape[0]
        if context is not None:
            counts = [raw.shape[1] for raw in self._kernels]
            moved = tf.split(_rows(context) @ self._context_kernel, counts, axis=-1)
        for k, raw in enumerate(self._kernels):
            n, m = (units // size for units in raw.shape)
            zero = tf.zeros([], self.dtype)
            raw = tf.reshape(raw, [size, n, size, m])
            length_and_bias = tf.reshape(self._lengths_and_biases[k], [2, size, m])
            log_length, bias = tf.unstack(length_and_bias)
            diagonal = tf.where(self._same, raw, zero)
            kernel = tf.where(self._before, raw, zero)
            kernel = tf.where(self._same, tf.exp(diagonal), kernel)
            square = tf.reduce_sum(tf.square(kernel), [0, 1])
            log_gain = log_length - 0.5 * tf.math.log(square)
            blocks = tf.reduce_sum(diagonal, 2) + log_gain[:, None]
            if context is not None:
                bias += tf.reshape(moved[k], [-1, *bias.shape])
            layers.append((kernel * tf.exp(log_gain), blocks, bias))
        return layers

    def _evaluate(self, x, layers):
        """`forward` of `[batch, D]`, and its log-determinants."""

        def linear(k, h):
            kernel, blocks, bias = layers[k]
            size, n, m = blocks.shape
            flat = tf.reshape(h, [-1, size * n])
            product = flat @ tf.reshape(kernel, [size * n, size * m])
            return tf.reshape(product, [-1, size, m]) + bias

        f, log_slope, _ = _network(x, linear, [blocks for _, blocks, _ in layers])
        y, log_slope = _gated(x, f, log_slope, self._log_shares())
        return y, tf.reduce_sum(log_slope, -1)

    def _solve(self, y, layers):
        """The root of each entry after the other, `[batch, D]`."""
        size, shares = y.shape[1], self._log_shares()
        # By the entry that they lead to.
        kernels = [tf.transpose(kernel, [2, 0, 1, 3]) for kernel, _, _ in layers]

        def body(i, *known):
            offsets = []
            for h, kernel, (_, blocks, bias) in zip(
                known, kernels, layers, strict=True
            ):
                # What is not known yet is zero.
                kernel = tf.reshape(kernel[i], [-1, blocks.shape[2]])
                offsets.append(h @ kernel + tf.gather(bias, i, axis=-2))
            own = [tf.gather(blocks, [i]) for _, blocks, _ in layers]
            both = tf.gather(shares, [i], axis=1)

            def linear(k, h):
                return _products(h, own[k]) + offsets[k][:, None]

            def function(x):
                f, log_slope, _ = _network(x, linear, own)
                value, log_slope = _gated(x, f, log_slope, both)
                return value, tf.exp(log_slope)

            target = tf.gather(y, [i], axis=1)
            kept, added = tf.unstack(tf.exp(both))
            # No tanh is beyond 1.
            reach = tf.reduce_sum(tf.exp(own[-1]))
            ends = (
                (target - added * (offsets[-1] + sign * reach)) / kept
                for sign in (1, -1)
            )
            x = monotone_root(function, target, *ends)
            here = tf.equal(tf.range(size), i)[:, None]
            return i + 1, *(
                _put(rows, here, h)
                for rows, h in zip(known, _network(x, linear, own)[2], strict=True)
            )

        start = [tf.zeros_like(tf.tile(y, [1, b.shape[1]])) for _, b, _ in layers]
        return tf.while_loop(
            lambda i, *_: i < size, body, (0, *start), maximum_iterations=size
        )[1]


def _network(
    x: tf.Tensor, linear: Callable, blocks: list[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """$f$ of `[batch, d]`, the logarithm of its slope, and the inputs of each layer."""
    inputs = [x[..., None]]
    u, log_slope = linear(0, inputs[0]), blocks[0][:, 0]
    for k, block in enumerate(blocks[1:], 1):
        inputs.append(tf.tanh(u))
        log_slope += 2 * (np.log(2.0) - u - tf.math.softplus(-2 * u))
        largest = tf.stop_gradient(tf.reduce_max(log_slope, -1, keepdims=True))
        slope = _products(tf.exp(log_slope - largest), block)
        tiny = np.finfo(slope.dtype.as_numpy_dtype).tiny
        log_slope = tf.math.log(tf.maximum(slope, tiny)) + largest
        u = linear(k, inputs[k])
    return u[..., 0], log_slope[..., 0], inputs


def _products(h, blocks):
    """Units of each entry `[batch, d, n]` times its block, `[d, n, m]`."""
    return tf.einsum("bdn,dnm->bdm", h, tf.exp(blocks))


def _gated(x, f, log_slope, log_shares):
    """$y$ and the logarithms of its slopes, of $f$ and of those of $f$."""
    kept, added = tf.unstack(log_shares)
    y = tf.exp(kept) * x + tf.exp(added) * f
    return y, tfp.math.log_add_exp(kept + tf.zeros_like(x), added + log_slope)


def _put(rows, here, h):
    """`rows`, `[batch, D * n]`, with the units `h`, `[batch, 1, n]`, of one entry."""
    size, n = here.shape[0], h.shape[-1]
    here = tf.reshape(tf.tile(here, [1, n]), [-1])
    return tf.where(here, tf.tile(h[:, 0], [1, size]), rows)


def _rows(x):
    return tf.reshape(x, [-1, x.shape[-1]])


def _like(rows, x):
    return reshape_event(rows, 1, [rows.shape[-1]], like=x)
