"""The base class of networks with a Lipschitz constant below one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows.core.seeds import generator
from tfp_flows.core.tf_internals import NOT_INLINED
from tfp_flows.networks.context_sides import at_sides, context_channels
from tfp_flows.networks.never_empty import never_empty

__all__ = ["LipschitzNetwork", "spectral_norm"]

# Tolerance and largest number of the power iterations before each use of the weights.
_TOLERANCE, _MOST = 1e-5, 100
# Matrices whose smaller side is at most `_SMALL` are squared `_SQUARINGS` times, for an
# initial vector with a proven bound on its error. Of eigenvalues between 1 / 128 and 1,
# three squarings make numbers that float32 still holds: only then they are scaled.
_SMALL, _SQUARINGS, _BETWEEN_SCALINGS = 128, 7, 3
# Others iterate at least `_LEAST` times, from the stored vector plus `_SHARE` of a
# fixed random one.
_LEAST, _SHARE = 8, 0.1
_ACTIVATIONS = ("elu", "lipswish", "sine")


def spectral_norm(
    kernel: tf.Tensor,
    u: tf.Tensor,
    tolerance: float = _TOLERANCE,
    max_iterations: int = _MOST,
) -> tuple[tf.Tensor, tf.Tensor]:
    r"""The largest singular value of a linear layer, by power iteration.

    With the layer's operator $W$,

    $$ v = W^\top u / |W^\top u|, \quad u \leftarrow W v / |W v|, \quad
       \sigma = u^\top W v $$

    (Miyato et al. 2018, algorithm 1). For a convolution, $W$ is the linear map of whole
    images with zeros around them, not the matrix of the reshaped kernel (Gouk et al.
    2021, section 3.3; Behrmann et al. 2019, section 4).
    The gradient reaches `kernel` through $\sigma$ with $u$ and $v$ held constant, which
    is the gradient of the largest singular value at convergence.

    Args:
      kernel: `[inputs, outputs]`, or `[h, w, inputs, outputs]` of a convolution with
        stride 1 and "SAME" padding.
      u: where to start, of unit norm: `[1, outputs]`, or `[1, H, W, outputs]` with the
        image's size.
      tolerance: iterations stop once one of them raises $\sigma$ by no more than this
        share.
      max_iterations: the largest number of iterations.

    Returns:
      `(sigma, u)`: the scalar $\sigma$, and the new $u$ without a gradient. Up to
      rounding, $\sigma$ is never above the true value. If the smaller side of the
      matrix (or 1x1 kernel) is $m \le 128$, $\sigma$ is at least $m^{-1/256}$ times the
      true value, that is 98.1 %, whatever `u` is. In practice the error is about the
      tolerance.
    """
    u, v = _singular_vectors(kernel, u, tolerance, max_iterations)
    return _sigma(kernel, u, v), u


def _singular_vectors(kernel, u, tolerance=_TOLERANCE, max_iterations=_MOST):
    kernel, u = tf.stop_gradient(kernel), tf.convert_to_tensor(u)
    iterate = _traced(tuple(kernel.shape), tuple(u.shape), kernel.dtype)
    # As tensors, so that one trace serves all of their values.
    return iterate(
        kernel, u, tf.constant(tolerance, kernel.dtype), tf.constant(max_iterations)
    )


@functools.lru_cache(maxsize=256)
def _traced(kernel_shape, u_shape, dtype):
    """`_iterate` as a `tf.function`, one for all layers of one size.

    Eager loops of small operations are slow, and a graph that holds the loop of each
    layer takes long to trace and to optimise: so it is not inlined.
    """
    del kernel_shape, u_shape, dtype
    # A partial has no code by which TensorFlow would count retraces.
    return tf.function(
        functools.partial(_iterate),
        autograph=False,
        experimental_attributes=NOT_INLINED,
    )


def _iterate(kernel, u, tolerance, max_iterations):
    """The singular vectors of the largest singular value, by power iteration."""
    least = 1 if _is_small(kernel) else _LEAST

    def body(i, u, v, _):
        pulled = _adjoint(kernel, u)
        v = _unit(pulled, v)
        image = _apply(kernel, v)
        # |W^T u| <= |W v| <= sigma, so their difference shows what further iterations
        # may gain.
        before, after = tf.norm(pulled), tf.norm(image)
        gains = (after - before > tolerance * after) | (i + 1 < least)
        return i + 1, _unit(image, u), v, gains

    u = _start(kernel, u)
    _, u, v, _ = tf.while_loop(
        lambda i, u, v, gains: gains,
        body,
        (0, u, tf.zeros_like(_adjoint(kernel, u)), True),
        maximum_iterations=max_iterations,
    )
    return tf.stop_gradient(u), tf.stop_gradient(v)


def _is_small(kernel):
    *positions, inputs, outputs = kernel.shape
    return math.prod(positions) == 1 and min(inputs, outputs) <= _SMALL


def _start(kernel, u):
    r"""The initial vector, not orthogonal to that of the largest singular value.

    For a small matrix it is a column of $G^p$, with the Gram matrix $G$ of $m$ rows and
    $p$ = 128: the column with the largest diagonal entry, which is at least
    $\lambda_1^p / m$. By Jensen's inequality, its Rayleigh quotient is then at least
    $\lambda_1 m^{-1/p}$.
    """
    if not _is_small(kernel):
        draw = np.random.default_rng(0).standard_normal(u.shape)
        share = _SHARE / np.linalg.norm(draw)
        return _unit(u + tf.constant(share * draw, u.dtype), u)
    inputs, outputs = kernel.shape[-2:]
    matrix = tf.reshape(kernel, [inputs, outputs])
    of_outputs = outputs <= inputs
    power = tf.matmul(
        matrix, matrix, transpose_a=of_outputs, transpose_b=not of_outputs
    )
    tiny = tf.constant(np.finfo(u.dtype.as_numpy_dtype).tiny, u.dtype)
    for i in range(_SQUARINGS + 1):
        power = tf.matmul(power, power) if i else power
        if i % _BETWEEN_SCALINGS == 0:
            power /= tf.maximum(tf.linalg.trace(power), tiny)
    best = tf.argmax(tf.linalg.diag_part(power))
    vector = tf.gather(power, best)[None]
    if not of_outputs:
        vector = tf.matmul(vector, matrix)
    return _unit(tf.reshape(vector, tf.shape(u)), u)


def _sigma(kernel, u, v):
    return tf.reduce_sum(u * _apply(kernel, v))


class LipschitzNetwork(keras.layers.Layer):
    r"""The base class of networks with a bounded Lipschitz constant.

    The network has $n$ linear layers, with an activation of slope at most 1 between
    them. Each kernel is divided by $\max(1, \sigma / c^{1/n})$, with $\sigma$ the
    largest singular value of its linear map (Behrmann et al. 2019, section 4; Gouk et
    al. 2021, section 3). So the Lipschitz constant of the network in `x`, in the
    Euclidean norm, is at most $c$.

    Activations:

    * `"lipswish"`: $x\, \mathrm{sigmoid}(\beta x) / 1.1$ with one learned
      $\beta > 0$ for each layer (Chen et al. 2019, section 3.2);
    * `"elu"`: $x$ above zero, $e^x - 1$ below;
    * `"sine"`: $\sin x$.

    $\sigma$ comes from power iteration, which runs at each use of the weights until
    $\sigma$ hardly changes. The result is a lower bound. For dense layers and 1x1
    convolutions with at most 128 inputs or outputs, it is proven to be at least 98.1 %
    of the true value for any weights, and is much closer in practice. Larger layers
    and kernels start from a vector stored in a variable, plus a share of a random one,
    and have no such guarantee; see `spectral_norm`. With `training=True` the vector is
    updated; otherwise calling the network changes nothing. `normalize` iterates to
    convergence.

    The last layer's kernel starts at zero. It has no bias: in a residual block, an
    ActNorm adds the shift. A context enters each hidden layer by a linear map of its
    own, without a bound.

    It computes in the precision of its variables, whatever the dtype policy says: half
    precision is too coarse to invert a block.

    Example:
      >>> from tfp_flows import networks
      >>> network = networks.LipschitzMLP(2, hidden_units=(8,), coefficient=0.25)
      >>> network.build((None, 2))
      >>> network.layer_coefficient  # the bound on each of the two layers
      0.5

    Args:
      outputs: size of the last axis of the output.
      coefficient: $c$, between 0 and 1.
      activation: `"lipswish"`, `"elu"` or `"sine"`.
      seed: integer seed of the initial weights.
      **kwargs: see `keras.layers.Layer`.

    Raises:
      ValueError: if `outputs` is not positive, `coefficient` not between 0 and 1 or
        `activation` unknown.
    """

    @property
    def papers(self) -> tuple[str, ...]:
        """Papers that it uses, see `tfp_flows.citation`."""
        keys = "miyato2018spectral", "gouk2021lipschitz"
        return (*keys, *["chen2019residual"] * (self.activation == "lipswish"))

    def __init__(
        self,
        outputs: int,
        coefficient: float = 0.97,
        activation: str = "lipswish",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**{"autocast": False, **kwargs})
        if outputs < 1:
            raise ValueError(f"outputs must be positive, got {outputs}.")
        if not 0 < coefficient < 1:
            raise ValueError(
                f"coefficient must be between 0 and 1, exclusive, got {coefficient}."
            )
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {_ACTIVATIONS}, of slopes up to 1, got "
                f"{activation!r}."
            )
        self.outputs = outputs
        self.coefficient = float(coefficient)
        self.activation = activation
        self.seed = seed
        self._layers_of_weights: list[dict[str, keras.Variable]] = []
        self._states: list[keras.Variable] = []

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "outputs": self.outputs,
            "coefficient": self.coefficient,
            "activation": self.activation,
            "seed": self.seed,
        }

    def _plan(
        self, x_shape: Sequence[int | None]
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Shapes of each layer's kernel and of the power iteration's vector."""
        raise NotImplementedError

    def build(
        self, x_shape: Sequence[Any], context_shape: Sequence[Any] | None = None
    ) -> None:
        if context_shape is not None:
            channels = context_channels(self.name, context_shape, x_shape)
        draw = generator(self.seed)
        plan = self._plan(x_shape)

        def add(name, value, trainable=True):
            # `normalize` needs the values of weights, also if this runs in a trace.
            with tf.init_scope():
                return self.add_weight(
                    shape=value.shape,
                    initializer=lambda shape, dtype: tf.constant(value, dtype),
                    trainable=trainable,
                    autocast=False,
                    aggregation="mean" if trainable else "only_first_replica",
                    name=name,
                )

        for i, (kernel, state) in enumerate(plan):
            last = i == len(plan) - 1
            name = "output" if last else f"hidden_{i}"
            fan_in = math.prod(kernel[:-1])
            normal = draw.standard_normal(kernel) * math.sqrt(2.0 / fan_in)
            weights = {
                "kernel": add(f"{name}_kernel", np.zeros(kernel) if last else normal)
            }
            if not last:
                weights["bias"] = add(f"{name}_bias", np.zeros(kernel[-1]))
                if self.activation == "lipswish":
                    weights["beta"] = add(f"{name}_beta", np.array(0.5))
                if context_shape is not None:
                    shape = (channels, kernel[-1])
                    weights["context"] = add(
                        f"{name}_context",
                        draw.standard_normal(shape) / math.sqrt(shape[0]),
                    )
            self._layers_of_weights.append(weights)
            vector = draw.standard_normal(state)
            vector /= np.linalg.norm(vector)
            self._states.append(add(f"{name}_singular_vector", vector, False))
        with tf.init_scope():
            self.normalize()

    @property
    def layer_coefficient(self) -> float:
        r"""$c^{1/n}$, the bound on each of the $n$ linear layers."""
        return self.coefficient ** (1.0 / len(self._layers_of_weights))

    def normalize(self, tolerance: float = 1e-7, max_iterations: int = 10_000) -> None:
        r"""Runs the power iterations to convergence, and stores their vectors.

        Args:
          tolerance: iterations stop once one of them raises $\sigma$ by no more than
            this share.
          max_iterations: the largest number of iterations.
        """
        for weights, state in zip(self._layers_of_weights, self._states, strict=True):
            kernel = tf.convert_to_tensor(weights["kernel"])
            state.assign(_singular_vectors(kernel, state, tolerance, max_iterations)[0])

    def bounded_weights(
        self, training: bool = False, repeat: bool = False
    ) -> list[dict[str, tf.Tensor]]:
        """Computes the weights that the network uses: kernels divided as above.

        Args:
          training: whether to store the vectors of the power iteration.
          repeat: whether to repeat the result of the last call with `training=True`,
            without iterating.

        Returns:
          A dictionary of tensors for each layer, which `evaluate` takes.
        """
        result = []
        for weights, state in zip(self._layers_of_weights, self._states, strict=True):
            tensors = {k: tf.convert_to_tensor(v) for k, v in weights.items()}
            kernel = tensors["kernel"]
            if repeat:
                u = tf.convert_to_tensor(state)
            else:
                u, _ = _singular_vectors(kernel, state)
                if training:
                    state.assign(u)
            # Computed from u alone, so that `repeat` gives the same.
            v = tf.stop_gradient(_adjoint(kernel, u))
            v = _unit(v, v)
            sigma = _sigma(kernel, u, v)
            bound = tf.constant(self.layer_coefficient, kernel.dtype)
            tensors["kernel"] = kernel / tf.maximum(tf.ones_like(sigma), sigma / bound)
            result.append(tensors)
        return result

    def evaluate(
        self, weights: Sequence[dict[str, tf.Tensor]], x: tf.Tensor, context: Any = None
    ) -> tf.Tensor:
        """The network at given weights.

        Args:
          weights: what `bounded_weights` returns.
          x: `[batch, ...]`.
          context: `[batch, ...]` or `None`.

        Returns:
          `[batch, ..., outputs]`.
        """
        return self._pass(weights, x, context)[0]

    def linearize(
        self, weights: Sequence[dict[str, tf.Tensor]], x: tf.Tensor, context: Any = None
    ) -> tuple[tf.Tensor, Callable]:
        r"""The network at given weights, and its transposed Jacobian $J^\top$ at `x`.

        Args:
          weights: what `bounded_weights` returns.
          x: `[batch, ...]`.
          context: `[batch, ...]` or `None`.

        Returns:
          `(out, pull_back)`: what `evaluate` returns, and a function from $u$, of the
          shape of `out`, to $J^\top u$, of the shape of `x`. The slopes of activations
          are computed once for all its calls.
        """
        out, slopes = self._pass_with_slopes(weights, x, context)

        def pull_back(u):
            u = _adjoint(weights[-1]["kernel"], u)
            for kernel, slope in slopes:
                u = _adjoint(kernel, slope * u)
            return tf.ensure_shape(u, x.shape)

        return out, pull_back

    def jacobian(
        self, weights: Sequence[dict[str, tf.Tensor]], x: tf.Tensor, context: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The network at given weights, and all of its Jacobian at `x`.

        The network runs once, and its slopes are shared by all rows.

        Args:
          weights: what `bounded_weights` returns.
          x: `[batch, ...]`, of a static shape behind the batch.
          context: `[batch, ...]` or `None`.

        Returns:
          `(out, jacobian)`: what `evaluate` returns, and a tensor `[batch, M, D]` of
          the derivatives of the $M$ entries of an output by the $D$ entries of an `x`.
        """
        out, slopes = self._pass_with_slopes(weights, x, context)
        size, count = out.shape[1:].num_elements(), tf.shape(x)[0]
        # The product with the last layer is the same for all examples.
        unit = tf.reshape(tf.eye(size, dtype=out.dtype), [size, *out.shape[1:]])
        rows, image = _adjoint(weights[-1]["kernel"], unit), x.shape[1:-1]
        for kernel, slope in slopes:
            inputs, outputs = kernel.shape[-2:]
            rows *= slope[:, tf.newaxis]
            rows = tf.reshape(rows, [count * size, *image, outputs])
            rows = _adjoint(kernel, rows)
            rows = tf.reshape(rows, [count, size, *image, inputs])
        return out, tf.reshape(rows, [count, size, x.shape[1:].num_elements()])

    def _pass(self, weights, x, context):
        """The output of the network, and the inputs of its activations."""
        *before, last = weights
        hidden = []
        if context is not None and len(context.shape) == len(x.shape):
            context = at_sides(context, x.shape)
        for layer in before:
            h = _apply(layer["kernel"], x) + layer["bias"]
            if context is not None:
                h += self._linear(tf.cast(context, h.dtype), layer["context"])
            hidden.append(h)
            x = self._activate(h, layer)
        return _apply(last["kernel"], x), hidden

    def _pass_with_slopes(self, weights, x, context):
        """The output, and kernels and slopes of the hidden layers, the last first."""
        out, hidden = self._pass(weights, x, context)
        layers = zip(weights[-2::-1], hidden[::-1], strict=True)
        return out, [(layer["kernel"], self._slope(h, layer)) for layer, h in layers]

    def call(self, x: Any, context: Any = None, training: bool = False) -> tf.Tensor:
        weights = self.bounded_weights(bool(training))
        return self.evaluate(weights, tf.cast(x, weights[0]["kernel"].dtype), context)

    def compute_output_shape(
        self, x_shape: Sequence[Any], context_shape: Sequence[Any] | None = None
    ) -> tuple[Any, ...]:
        return (*x_shape[:-1], self.outputs)

    def _linear(self, context, kernel):
        joined = tf.tensordot(context, kernel, 1)
        if len(self._states[0].shape) == 4 and context.shape.rank == 2:
            return joined[:, None, None, :]
        return joined

    def _activate(self, h, layer):
        if self.activation == "elu":
            return tf.nn.elu(h)
        if self.activation == "sine":
            return tf.sin(h)
        # The slope of x sigmoid(x) is at most 1.0998, whatever its argument's scale.
        return h * tf.sigmoid(tf.nn.softplus(layer["beta"]) * h) / 1.1

    def _slope(self, h, layer):
        """The derivative of `_activate`."""
        if self.activation == "elu":
            return tf.exp(tf.minimum(h, 0.0))
        if self.activation == "sine":
            return tf.cos(h)
        scaled = tf.nn.softplus(layer["beta"]) * h
        sigmoid = tf.sigmoid(scaled)
        return sigmoid * (1.0 + scaled * (1.0 - sigmoid)) / 1.1


def _apply(kernel, x):
    """The linear operator of a dense or a convolutional layer."""
    if kernel.shape.rank == 2:
        return tf.matmul(x, kernel)
    if kernel.shape[:2] == (1, 1):
        return tf.tensordot(x, kernel[0, 0], 1)
    return never_empty(lambda x, _: tf.nn.conv2d(x, kernel, 1, "SAME"), x)


def _adjoint(kernel, y):
    """The transpose of `_apply`."""
    if kernel.shape.rank == 2:
        return tf.matmul(y, kernel, transpose_b=True)
    if kernel.shape[:2] == (1, 1):
        return tf.tensordot(y, kernel[0, 0], [[-1], [1]])

    def transposed(y, _):
        shape = tf.concat([tf.shape(y)[:-1], tf.shape(kernel)[2:3]], 0)
        return tf.nn.conv2d_transpose(y, kernel, shape, 1, "SAME")

    return never_empty(transposed, y)


def _unit(x, otherwise):
    """Scales `x` to unit norm; returns `otherwise` for a zero vector."""
    norm = tf.norm(x)
    positive = norm > 0
    return tf.where(
        positive, x / tf.where(positive, norm, tf.ones_like(norm)), otherwise
    )
