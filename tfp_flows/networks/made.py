"""MADE: a masked network whose outputs depend on earlier inputs only."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfp_flows.core.arguments import check_integer, check_shape, check_vector_shape
from tfp_flows.core.seeds import generator
from tfp_flows.networks.network import Network
from tfp_flows.networks.residual_sum import residual_sum

__all__ = ["MADE"]

# Entries that `generate` computes between two large matrix products.
_CHUNK = 8


@keras.saving.register_keras_serializable(package="tfp_flows")
class MADE(Network):
    r"""An autoregressive multilayer perceptron (Germain et al. 2015).

    Entries of the input have an order; the parameters of an entry depend on the
    entries before it and on the context. Each hidden unit has a degree $d$ and sees
    the first $d$ entries; kernels are multiplied by the masks of equations 12 and 13.
    With a context, degree 0 exists too, so that the parameters of the first entry are
    a nonlinear function of the context.

    Input `[batch, D]`, context `[batch, C]` or none, output `[batch,
    num_parameters * D]`: all of the first parameter, then all of the second, and so
    on. One evaluation gives the parameters of all entries. `generate` computes the
    entries in their order. It costs about one evaluation, because it computes each
    hidden unit only once, as soon as the entries that the unit sees are known.

    With an `adjacency` matrix, an entry depends on those that its row names, and on no
    others: a Bayesian network whose structure is known. A hidden unit sees what one of
    the rows names, and units that see no more than it does.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import networks
      >>> made = networks.MADE(3, num_parameters=2, hidden_units=(16,), seed=0)
      >>> made(tf.ones([5, 3])).shape
      TensorShape([5, 6])

    Args:
      event_shape: `D` or `[D]`, the shape of an event.
      num_parameters: parameters of each entry (2 for a shift and a scale).
      hidden_units: widths of the hidden layers.
      residual: whether, after a first layer, `len(hidden_units)` pre-activation
        residual blocks of two masked layers follow (He et al. 2016b; the widths must be
        equal).
      order: `"natural"`, `"reverse"`, `"random"` (drawn from `seed`, and kept in a
        variable, so that it is saved with the weights), or the indices of the entries
        in the order in which they are generated.
      adjacency: boolean matrix `[D, D]`, true in row i and column j if the parameters
        of entry i depend on entry j, or `None` for all entries before it. It must have
        no cycles; the order, then a topological one, is not to be given.
      dropout: fraction of the activations in front of each block's last layer (of all
        hidden activations, if not residual) that is left out in training, see
        `Network`. `generate` leaves out none.
      **kwargs: see `Network`; not `outputs`.

    Raises:
      ValueError: if `event_shape`, `num_parameters` or a width is not positive,
        `event_shape` not that of a vector, `order` is unknown or no permutation, or
        `residual` with unequal widths. If `adjacency` is no square matrix of this size
        or has a cycle, or a hidden layer has fewer units than the matrix has different
        rows.
      TypeError: if a size is not an integer, or `adjacency` not boolean.
    """

    papers = ("germain2015made",)

    def __init__(
        self,
        event_shape: int | Sequence[int],
        num_parameters: int,
        hidden_units: Sequence[int] = (256, 256),
        residual: bool = False,
        order: str | Sequence[int] = "natural",
        adjacency: Any = None,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        size = check_vector_shape("event_shape", event_shape)
        num_parameters = check_integer("num_parameters", num_parameters)
        hidden_units = check_shape("hidden_units", hidden_units)
        if not hidden_units:
            raise ValueError(
                "hidden_units must name at least one layer's width, got none."
            )
        if residual and len(set(hidden_units)) > 1:
            raise ValueError(
                "residual=True needs hidden layers of one width, got "
                f"hidden_units={hidden_units}."
            )
        super().__init__(size * num_parameters, **kwargs)
        self.event_shape, self.num_parameters = (size,), num_parameters
        self._size = size
        self.hidden_units, self.residual = hidden_units, bool(residual)
        self.adjacency = None
        if adjacency is not None:
            self.adjacency = _check_adjacency(adjacency, size)
            if not isinstance(order, str) or order != "natural":
                raise ValueError(f"order follows from adjacency, got order={order!r}.")
            order = _topological(self.adjacency)
        self.dropout = dropout
        self._first_order = _order(order, size, self.seed)
        self._is_random = isinstance(order, str) and order == "random"
        self._order_variable = None

    @property
    def order(self) -> np.ndarray:
        """Indices of the entries in the order in which they are generated."""
        if self._order_variable is None:
            return self._first_order
        with tf.init_scope():
            return tf.convert_to_tensor(self._order_variable.value).numpy()

    @property
    def fixed_order(self) -> np.ndarray | None:
        """The order, or `None` for a random one, which is among the variables."""
        return None if self._is_random else self._first_order

    def build(
        self, x_shape: Sequence[Any], context_shape: Sequence[Any] | None = None
    ) -> None:
        self._check_vectors(self._size, x_shape, context_shape)
        if self._is_random:
            self._order_variable = self.add_weight(
                name="order",
                shape=self.event_shape,
                dtype="int32",
                initializer=lambda shape, dtype: tf.constant(self._first_order, dtype),
                trainable=False,
            )
        widths = self.hidden_units
        if self.residual:
            widths = self.hidden_units[:1] * (1 + 2 * len(self.hidden_units))
        if self.adjacency is None:
            self._mask_by_order(widths, context_shape is not None)
        else:
            self._mask_by_adjacency(widths, context_shape is not None)
        names = [*(f"hidden_{i}" for i in range(len(widths))), "output"]
        if self.residual:
            names = ["input"] + [
                f"block_{i}_{j}"
                for i, _ in enumerate(self.hidden_units)
                for j in (0, 1)
            ]
            names.append("output")
        self._kernels, self._biases = [], []
        for i, (name, mask) in enumerate(zip(names, self._masks, strict=True)):
            zero = name == "output" or (self.residual and i > 0 and i % 2 == 0)
            options = self._options(zero)
            # A kernel whose mask is all zero is left out (a single entry).
            self._kernels.append(
                self.add_weight(
                    name=f"{name}_kernel",
                    shape=mask.shape,
                    initializer=options["kernel_initializer"],
                    regularizer=options["kernel_regularizer"],
                )
                if mask.any()
                else None
            )
            self._biases.append(
                self.add_weight(
                    name=f"{name}_bias", shape=mask.shape[1:], initializer="zeros"
                )
            )
        self._context_kernel = None
        if context_shape is not None and self.context_mode == "concat":
            self._context_kernel = self.add_weight(
                name="context_kernel",
                shape=(context_shape[-1], widths[0]),
                initializer=self._options()["kernel_initializer"],
                regularizer=self.kernel_regularizer,
            )
        self._build_film(widths, context_shape)
        # Last: the seeds of the others do not depend on it.
        self._drop = self._dropout(self.dropout)

    def _mask_by_order(self, widths, has_context):
        rank = np.argsort(self._first_order) + 1
        lowest = 0 if has_context or self._size == 1 else 1
        self._degrees = [_degrees(width, lowest, self._size) for width in widths]
        columns = [*self._degrees, np.tile(rank - 1, self.num_parameters)]
        self._masks = [
            columns[i] >= seen[:, None] for i, seen in enumerate([rank, *self._degrees])
        ]

    def _mask_by_adjacency(self, widths, has_context):
        # Which entries the units of each layer see, and then the entries themselves.
        rows = np.unique(self.adjacency, axis=0)
        if not has_context and len(rows) > 1:
            # Units that see nothing would be constants.
            rows = rows[rows.any(1)]
        if min(widths) < len(rows):
            raise ValueError(
                f"hidden_units must be at least {len(rows)} wide, the number of "
                f"different rows of adjacency, got {min(widths)}."
            )
        rank = np.argsort(self._first_order) + 1
        seen = [rows[np.arange(width) * len(rows) // width] for width in widths]
        # A unit is known once the last of the entries that it sees is.
        self._degrees = [(s * rank).max(1) for s in seen]
        seen.append(np.tile(self.adjacency, (self.num_parameters, 1)))
        self._masks = [seen[0].T] + [
            ~(before[:, None] & ~after).any(-1)
            for before, after in itertools.pairwise(seen)
        ]

    def call(self, x: Any, context: Any = None) -> Any:
        def linear(i, h):
            # Keras's own addition of a bias, which TensorFlow fuses with the product.
            h = ops.add(ops.matmul(h, self._masked_kernel(i, h.dtype)), self._biases[i])
            if i == 0 and self._context_kernel is not None:
                h = h + self._context_part(context)
            if i < len(self._degrees):
                h = self._modulate(h, context, i)
            return h

        return self._compose(linear, x, self._drop)

    def generate(
        self,
        step: Callable[..., tuple[tf.Tensor, tf.Tensor]],
        z: tf.Tensor,
        context: tf.Tensor | None = None,
        indexed: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes entries one after the other, each from those before it.

        Args:
          step: a function `(z_i [batch], parameters [num_parameters, batch]) ->
            (x_i [batch], log_det [batch])`, which computes one entry.
          z: `[batch, D]`.
          context: `[batch, C]` or `None`.
          indexed: whether `step` is given the index of the entry, too, a tensor.

        Returns:
          `(x [batch, D], log_det [batch])`, the log-determinants summed over entries.
        """
        # Entries are sorted into their order first, and put back at the end. Rows are
        # units or entries, columns the batch. Units of equal degree form a block of
        # rows, and `_CHUNK` successive blocks form a chunk. One large matrix product
        # for each chunk adds what is known before it, so that the steps inside the
        # chunk multiply small matrices only.
        size, dtype = self._size, tf.as_dtype(self.compute_dtype)
        length = min(size, _CHUNK)
        chunks = -(-size // length)
        entries = _fill(np.arange(size), chunks * length)
        blocks = [_blocks(degrees, chunks * length) for degrees in self._degrees]
        outputs = np.stack(
            [
                np.where(entries < 0, -1, entries + i * size)
                for i in range(self.num_parameters)
            ],
            axis=1,
        )
        sources = [entries[:, None], *blocks]
        targets = [*blocks, outputs]

        def arrange(rows, target):
            """`[units, ...]` as `[chunk, block within it, unit, ...]`."""
            rows = _take(rows, target.reshape(-1))
            return _reshape(rows, [chunks, length, target.shape[1]], 1)

        before, within, biases = [], [], []
        for k, (source, target) in enumerate(zip(sources, targets, strict=True)):
            kernel = self._masked_kernel(k, dtype)
            bias = tf.cast(self._biases[k].value, dtype)[:, None]
            if k == 0:
                kernel = self._in_order(kernel)
            if k == len(sources) - 1:
                kernel = tf.transpose(self._in_order(tf.transpose(kernel)))
                bias = self._in_order(bias)
            kernel = arrange(tf.transpose(_take(kernel, source.reshape(-1))), target)
            before.append(kernel)
            # The part of the kernel from each chunk's units to units of the same chunk.
            parts = tf.reshape(kernel, [*kernel.shape[:3], chunks, -1])
            within.append(tf.stack([parts[j, :, :, j] for j in range(chunks)]))
            biases.append(arrange(bias, target))
        if self._context_kernel is not None:
            added = self._context_part(tf.cast(context, dtype))
            biases[0] += arrange(tf.transpose(added), blocks[0])
        films = [
            [
                arrange(tf.transpose(part), block)
                for part in tf.split(tf.cast(film(context), dtype), 2, axis=-1)
            ]
            for film, block in zip(self._film, blocks, strict=False)
        ]
        z = arrange(self._in_order(tf.transpose(z)), entries[:, None])
        order = tf.convert_to_tensor(
            self._first_order
            if self._order_variable is None
            else self._order_variable.value
        )
        shape = tf.shape(z)

        def body(j, x, log_det, *known):
            known = [x, *known]
            prepared = [
                _product(before[k][j], tf.cast(known[k], dtype)) + biases[k][j]
                for k in range(len(known))
            ]
            new = [[] for _ in known]
            log_dets = []
            for t in range(length):

                def linear(k, h, t=t):
                    if k:
                        new[k].append(h)
                    out = prepared[k][t]
                    if new[k]:
                        local = tf.cast(tf.concat(new[k], 0), dtype)
                        out += within[k][j, t, :, : local.shape[0]] @ local
                    if k < len(films):
                        gamma, beta = films[k]
                        out = out * (1 + gamma[j, t]) + beta[j, t]
                    return out

                parameters = tf.cast(self._compose(linear, None), z.dtype)
                index = ()
                if indexed:
                    index = (order[tf.minimum(j * length + t, size - 1)],)
                x_t, log_det_t = step(z[j, t, 0], parameters, *index)
                new[0].append(x_t[None])
                log_dets.append(log_det_t)
            known = [
                _put(rows, j, tf.reshape(tf.concat(part, 0), tf.shape(rows)[1:]))
                for rows, part in zip(known, new, strict=True)
            ]
            return j + 1, known[0], _put(log_det, j, tf.stack(log_dets)), *known[1:]

        state = (
            tf.constant(0),
            tf.zeros_like(z),
            tf.zeros_like(z[:, :, 0]),
            *(
                _zeros([chunks, length, block.shape[1], shape[3]], z.shape[3], dtype)
                for block in blocks
            ),
        )
        _, x, log_det, *_ = tf.while_loop(
            lambda j, *_: j < chunks, body, state, maximum_iterations=chunks
        )
        x = tf.reshape(x, [chunks * length, -1])[:size]
        x = self._in_order(x, back=True)
        log_det = tf.reshape(log_det, [chunks * length, -1])[:size]
        log_det = tf.reduce_sum(log_det, 0)
        return tf.transpose(x), log_det

    def _masked_kernel(self, k, dtype):
        if self._kernels[k] is None:
            return ops.zeros(self._masks[k].shape, dtype)
        kernel = ops.convert_to_tensor(self._kernels[k])
        return ops.cast(kernel * ops.cast(self._mask(k), kernel.dtype), dtype)

    def _mask(self, k):
        """The mask of the k-th layer: which units or entries its units see."""
        last = len(self._masks) - 1
        if self._order_variable is None or 0 < k < last:
            return self._masks[k]
        rank = tf.math.invert_permutation(self._order_variable.value) + 1
        if k == 0:
            return self._degrees[0] >= rank[:, None]
        return tf.tile(rank, [self.num_parameters]) > self._degrees[-1][:, None]

    def _in_order(self, rows, back=False):
        """Sorts entries `[count * D, ...]` into their order, or back with `back`."""
        if self._order_variable is None:
            order = np.argsort(self._first_order) if back else self._first_order
            if np.array_equal(order, np.arange(self._size)):
                return rows
        else:
            order = self._order_variable.value
            order = tf.math.invert_permutation(order) if back else order
        count = rows.shape[0] // self._size
        return tf.gather(
            rows,
            tf.concat([order + i * self._size for i in range(count)], 0),
        )

    def _compose(self, linear, x, drop=lambda h: h):
        """The network, with `linear(i, h)` as its i-th masked layer."""
        h = linear(0, x)
        if not self.residual:
            for i in range(1, len(self._kernels)):
                h = linear(i, drop(self.activation(h)))
            return h
        last = len(self._kernels) - 1
        for i in range(1, last, 2):
            inner = linear(i, self.activation(h))
            h = residual_sum(h, linear(i + 1, drop(self.activation(inner))))
        return linear(last, self.activation(h))

    def _context_part(self, context):
        """The term that the context adds to the first layer."""
        kernel = ops.convert_to_tensor(self._context_kernel)
        return ops.matmul(ops.cast(context, kernel.dtype), kernel)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["outputs"]
        given, order = self.adjacency, self._first_order.tolist()
        if self._is_random or given is not None:
            order = "random" if self._is_random else "natural"
        return {
            **config,
            "event_shape": self.event_shape,
            "num_parameters": self.num_parameters,
            "hidden_units": self.hidden_units,
            "residual": self.residual,
            "order": order,
            "adjacency": None if given is None else given.tolist(),
            "dropout": self.dropout,
        }


def _order(order: Any, size: int, seed: int | None) -> np.ndarray:
    """Indices of the entries in the order in which they are generated."""
    if isinstance(order, str):
        if order == "natural":
            return np.arange(size)
        if order == "reverse":
            return np.arange(size)[::-1]
        if order != "random":
            raise ValueError(
                'order must be "natural", "reverse", "random" or a sequence of '
                f"indices, got {order!r}."
            )
        return generator(seed).permutation(size)
    indices = np.asarray(order)
    if indices.shape != (size,) or not np.array_equal(
        np.sort(indices), np.arange(size)
    ):
        raise ValueError(
            f"order must hold each of 0 .. {size - 1} once, got {order!r}."
        )
    return indices.astype(int)


def _check_adjacency(adjacency: Any, size: int) -> np.ndarray:
    matrix = np.asarray(adjacency)
    if matrix.dtype != bool:
        raise TypeError(f"adjacency must be boolean, got dtype {matrix.dtype}.")
    if matrix.shape != (size, size):
        raise ValueError(
            f"adjacency must have shape {(size, size)}, a row for each entry, got "
            f"{matrix.shape}."
        )
    return matrix


def _topological(adjacency: np.ndarray) -> list[int]:
    """An order in which each entry comes after all that it depends on."""
    order: list[int] = []
    left = list(range(len(adjacency)))
    while left:
        free = [i for i in left if not adjacency[i, left].any()]
        if not free:
            raise ValueError(
                f"adjacency must have no cycles; entries {_cycle(adjacency, left)} "
                "depend on each other."
            )
        order += free
        left = [i for i in left if i not in free]
    return order


def _cycle(adjacency: np.ndarray, left: list[int]) -> list[int]:
    """A cycle among entries each of which depends on one of them."""
    path = [left[0]]
    while True:
        following = next(j for j in left if adjacency[path[-1], j])
        if following in path:
            return path[path.index(following) :]
        path.append(following)


def _degrees(width: int, lowest: int, size: int) -> np.ndarray:
    """Degrees of a hidden layer, evenly spread over lowest .. size - 1."""
    count = max(size - lowest, 1)
    # Rounding up gives even a narrow layer a unit that sees all but the last entry.
    return np.ceil(np.arange(1, width + 1) * count / width).astype(int) + lowest - 1


def _blocks(degrees: np.ndarray, size: int) -> np.ndarray:
    """Units of each degree, `[size, most]`, with -1 where there is none."""
    counts = np.bincount(degrees, minlength=size)
    blocks = np.full((size, counts.max()), -1)
    for degree, count in enumerate(counts):
        blocks[degree, :count] = np.flatnonzero(degrees == degree)
    return blocks


def _fill(indices: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([indices, np.full(size - len(indices), -1)])


def _take(rows: tf.Tensor, indices: np.ndarray) -> tf.Tensor:
    """Rows by their indices, zeros where an index is -1."""
    count = rows.shape[0]
    if np.array_equal(indices, np.arange(count)):
        return rows
    if (indices < 0).any():
        rows = tf.pad(rows, [[0, 1], [0, 0]])
        indices = np.where(indices < 0, count, indices)
    return tf.gather(rows, indices)


def _reshape(x: tf.Tensor, leading: list[Any], trailing: int) -> tf.Tensor:
    """`x` with other leading dimensions before its last `trailing` ones."""
    rest = x.shape.rank - trailing
    out = tf.reshape(x, tf.concat([leading, tf.shape(x)[rest:]], 0))
    out.set_shape([*leading, *x.shape[rest:]])
    return out


def _product(kernel, rows):
    """`[length, units, all] x [chunks, length, m, batch] -> [length, units, batch]`."""
    length, units, columns = kernel.shape
    rows = _reshape(rows, [columns], 1)
    return _reshape(tf.reshape(kernel, [-1, columns]) @ rows, [length, units], 1)


def _put(buffer, i, row):
    """`buffer` with `row` at index `i` of its first axis; it may be empty."""
    # Not `==`, which compares objects in a graph of TensorFlow 1.
    here = tf.equal(tf.range(buffer.shape[0]), i)
    here = tf.reshape(here, [-1] + [1] * (buffer.shape.rank - 1))
    return tf.where(here, row, buffer)


def _zeros(shape, batch, dtype):
    zeros = tf.zeros(shape, dtype)
    zeros.set_shape([*shape[:-1], batch])
    return zeros
