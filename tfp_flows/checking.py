"""`check_bijector`: tests whether a bijector is right, and reports on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

__all__ = ["Report", "check_bijector"]

_TOLERANCE = {"float16": 1e-2, "bfloat16": 5e-2, "float32": 1e-4, "float64": 1e-8}


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `check_bijector`, which prints as a table.

    An error is `None` if it was not measured: because the bijector does not implement a
    direction, or because `forward` changes the size of events, so that there is no
    determinant.

    Attributes:
      name: name and class of the bijector.
      dtype: dtype of the values.
      shapes: event shapes that `forward` takes and gives.
      events: number of events at which the bijector was checked.
      tolerance: the largest error that passes.
      forward_round_trip: error of x after `forward` and `inverse`, in units of 1 plus
        the largest entry.
      inverse_round_trip: the same of y after `inverse` and `forward`.
      forward_log_det: error of `forward_log_det_jacobian` in nats, in units of 1 plus
        its size.
      inverse_log_det: the same of `inverse_log_det_jacobian`.
      log_det_sum: how far both log-determinants are from cancelling, in these units.
      condition_number: largest ratio of the largest to the smallest singular value of
        the Jacobian; digits are lost in proportion.
      forward_lipschitz: largest singular value of the Jacobian of `forward` at the
        events: at most the Lipschitz constant.
      inverse_lipschitz: the same of `inverse`.
      no_gradient: variables that no result of a direction depends on.
      zero_gradient: variables whose gradients are all zero at these events, which may
        be right (those before a layer that starts at zero).
      not_finite: results that hold NaN or infinity.
      mismatches: dtypes or shapes that are not what they should be.
    """

    name: str
    dtype: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    events: int
    tolerance: float
    forward_round_trip: float | None
    inverse_round_trip: float | None
    forward_log_det: float | None
    inverse_log_det: float | None
    log_det_sum: float | None
    condition_number: float
    forward_lipschitz: float
    inverse_lipschitz: float
    no_gradient: tuple[str, ...]
    zero_gradient: tuple[str, ...]
    not_finite: tuple[str, ...]
    mismatches: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each problem; empty for a bijector that passes."""
        lines = []
        for name, label in _ERRORS.items():
            error = getattr(self, name)
            # A NaN compares as false and is a problem too.
            if error is not None and not error <= self.tolerance:
                lines.append(f"{label}: {error:.2g} exceeds {self.tolerance:g}")
        lines += [f"no gradient: {name}" for name in self.no_gradient]
        lines += [f"not finite: {name}" for name in self.not_finite]
        return (*lines, *self.mismatches)

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def raise_if_bad(self) -> None:
        """Raises an `AssertionError` that shows the report, unless it is `ok`."""
        if not self.ok:
            raise AssertionError(f"check_bijector found problems.\n{self}")

    def __str__(self):
        rows = {label: _number(getattr(self, name)) for name, label in _ERRORS.items()}
        rows |= {label: _number(getattr(self, k)) for k, label in _SIZES.items()}
        rows["variables without gradient"] = _listed(self.no_gradient)
        rows["variables with zero gradient"] = _listed(self.zero_gradient)
        rows["not finite"] = _listed(self.not_finite)
        width = max(map(len, rows))
        head = (
            f"{self.name}: {list(self.shapes[0])} -> {list(self.shapes[1])}, "
            f"{self.dtype}, {self.events} event(s)"
        )
        table = [f"  {label:<{width}}  {text}" for label, text in rows.items()]
        verdict = (
            [f"ok (tolerance {self.tolerance:g})"]
            if self.ok
            else ["problems:", *(f"  {line}" for line in self.problems)]
        )
        return "\n".join([head, *table, *verdict])


_ERRORS = {
    "forward_round_trip": "forward, then inverse",
    "inverse_round_trip": "inverse, then forward",
    "forward_log_det": "forward log-det against autodiff",
    "inverse_log_det": "inverse log-det against autodiff",
    "log_det_sum": "forward plus inverse log-det",
}
_SIZES = {
    "condition_number": "condition number",
    "forward_lipschitz": "Lipschitz, forward (at least)",
    "inverse_lipschitz": "Lipschitz, inverse (at least)",
}


def check_bijector(
    bijector: tfb.Bijector,
    x: Any,
    context: Any = None,
    *,
    event_ndims: int | None = None,
    tolerance: float | None = None,
    **keywords: Any,
) -> Report:
    r"""Checks a bijector at given values: round trips, log-determinants, gradients.

    Any `tfb.Bijector` from one tensor to one tensor can be checked, TFP's own too.
    Nothing comes from TFP's cache: each method gets a copy of its values. The Jacobians
    $J$ come from automatic differentiation and are decomposed in float64; they take D
    gradients one after the other, for all events at once.

    Example:
      >>> import tensorflow_probability as tfp
      >>> import tfp_flows
      >>> report = tfp_flows.check_bijector(tfp.bijectors.Scale(4.0), [[1.0, 2.0]])
      >>> report.ok, report.forward_lipschitz, report.inverse_lipschitz
      (True, 4.0, 0.25)

    Args:
      bijector: the bijector.
      x: tensor `[*batch, *event]` that `forward` takes, of at least one event; the
        inverse is checked at `forward(x)`. `tfb.Invert(bijector)` is checked at values
        that `inverse` takes.
      context: a context, if the bijector takes one.
      event_ndims: rank of an event; by default the rank that the bijector needs, and
        for one of scalars all dimensions of `x` but the first.
      tolerance: the largest error that passes; by default 1e-8 in float64, 1e-4 in
        float32.
      **keywords: further keywords of the bijector's methods.

    Returns:
      A `Report`.

    Raises:
      TypeError: if `bijector` is no `tfb.Bijector` or maps several tensors, or `x` is
        not floating.
      ValueError: if `x` holds no event, or `event_ndims` is too small or too large.
      RuntimeError: inside a `tf.function`.
    """
    if not isinstance(bijector, tfb.Bijector):
        raise TypeError(
            f"bijector must be a tfb.Bijector, got {type(bijector).__name__}."
        )
    if not tf.executing_eagerly():
        raise RuntimeError("check_bijector runs eagerly, not inside a tf.function.")
    if context is not None:
        keywords["context"] = context
    x = tf.convert_to_tensor(x, None if tf.is_tensor(x) else bijector.dtype)
    ndims = _event_ndims(bijector, x, event_ndims)
    y = bijector.forward(_new(x), **keywords)
    rank = y.shape.rank - ndims[1]
    # A batch of contexts or of parameters can be larger than that of x.
    x = tf.broadcast_to(x, [*y.shape[:rank], *x.shape[x.shape.rank - ndims[0] :]])
    there = _look(bijector, True, x, ndims, keywords)
    if there is None:
        raise NotImplementedError(f"{bijector.name} has no forward log-determinant.")
    back = _look(bijector, False, y, ndims[::-1], keywords)
    looks = {"forward": there} | ({} if back is None else {"inverse": back})
    shapes = tuple(x.shape[rank:]), tuple(y.shape[rank:])

    mismatches = []
    stated = bijector.forward_event_shape(shapes[0])
    if not stated.is_compatible_with(shapes[1]):
        mismatches.append(f"forward_event_shape: {stated}, got {list(shapes[1])}")
    for name, look in looks.items():
        mismatches += [f"{name} {text}" for text in look.mismatches]
    singular = there.singular_values
    inverse_singular = 1 / singular if back is None else back.singular_values
    return Report(
        name=f"{bijector.name} ({type(bijector).__name__.lstrip('_')})",
        dtype=x.dtype.name,
        shapes=shapes,
        events=len(there.value),
        tolerance=_TOLERANCE[x.dtype.name] if tolerance is None else float(tolerance),
        forward_round_trip=None if back is None else _distance(back.value, x),
        inverse_round_trip=None
        if back is None
        else _round_trip(bijector, back, y, keywords),
        forward_log_det=there.log_det_error(),
        inverse_log_det=None if back is None else back.log_det_error(),
        log_det_sum=None if back is None else _off(there.log_det, -back.log_det),
        condition_number=float((singular.max(-1) / singular.min(-1)).max()),
        forward_lipschitz=float(singular.max()),
        inverse_lipschitz=float(inverse_singular.max()),
        no_gradient=_variables(looks, lambda g: g is None),
        zero_gradient=_variables(looks, lambda g: g is not None and not g.any()),
        not_finite=tuple(f"{k} {name}" for k, v in looks.items() for name in v.bad()),
        mismatches=tuple(mismatches),
    )


@dataclasses.dataclass
class _Look:
    """Results of one direction of a bijector at N events, as float64 arrays.

    Attributes:
      value: `[N, m]`, from events of n entries.
      output: the same as the bijector gave it.
      log_det: `[N]`.
      jacobian: `[N, m, n]`.
      gradients: pairs of a variable and its gradient (or None) through all results.
      mismatches: texts about dtypes and shapes.
    """

    value: np.ndarray
    output: tf.Tensor
    log_det: np.ndarray
    jacobian: np.ndarray
    gradients: list[tuple[tf.Variable, np.ndarray | None]]
    mismatches: list[str]

    @property
    def singular_values(self) -> np.ndarray:
        """`[N, min(m, n)]`; NaN where the Jacobian is not finite."""
        finite = np.isfinite(self.jacobian).all((-2, -1), keepdims=True)
        values = np.linalg.svd(np.where(finite, self.jacobian, 0), compute_uv=False)
        return np.where(finite[..., 0], values, np.nan)

    def log_det_error(self) -> float | None:
        if self.jacobian.shape[-2] != self.jacobian.shape[-1]:
            return None
        return _off(self.log_det, np.linalg.slogdet(self.jacobian)[1])

    def bad(self) -> list[str]:
        """Names of results that are not finite."""
        results = {
            "value": self.value,
            "log-det": self.log_det,
            "Jacobian": self.jacobian,
        }
        for v, gradient in self.gradients:
            if gradient is not None:
                results[f"gradient of {_label(v)}"] = gradient
        return [k for k, v in results.items() if not np.isfinite(v).all()]


def _look(
    bijector: tfb.Bijector,
    forward: bool,
    x: tf.Tensor,
    ndims: tuple[int, int],
    keywords: dict[str, Any],
) -> _Look | None:
    """Evaluates one direction at `x`; None if the bijector does not implement it."""
    if forward:
        map_, log_det_of = bijector.forward, bijector.forward_log_det_jacobian
    else:
        map_, log_det_of = bijector.inverse, bijector.inverse_log_det_jacobian
    batch = x.shape[: x.shape.rank - ndims[0]]
    count = max(batch.num_elements(), 1)
    draw = np.random.default_rng(0)
    flat = tf.reshape(_new(x), [count, -1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(flat)
        given = tf.reshape(flat, x.shape)
        try:
            output = map_(given, **keywords)
            log_det = log_det_of(tf.identity(given), ndims[0], **keywords)
        except NotImplementedError:
            return None
        value = tf.reshape(output, [count, -1])
        target = sum(
            tf.reduce_sum(
                tf.cast(v, x.dtype)
                * tf.constant(draw.standard_normal(v.shape), x.dtype)
            )
            for v in (value, log_det)
        )
    mismatches = [
        f"{name} has dtype {v.dtype.name}, not {x.dtype.name}"
        for name, v in (("value", output), ("log-det", log_det))
        if v.dtype != x.dtype
    ]
    log_dets = _array(log_det)
    try:
        log_dets = np.broadcast_to(log_dets, batch).reshape(count)
    except ValueError:
        mismatches.append(f"log-det has shape {log_det.shape}, not {batch}")
        log_dets = np.full(count, np.nan)
    # TFP's bijectors do not list the variables of all their members.
    variables = [*bijector.trainable_variables, *tape.watched_variables()]
    variables = list({v.ref(): v for v in variables}.values())
    gradients = tape.gradient(target, variables)
    return _Look(
        value=_array(value),
        output=output,
        log_det=log_dets,
        jacobian=_jacobian(tape, value, flat),
        gradients=[
            (v, None if g is None else _array(tf.convert_to_tensor(g)))
            for v, g in zip(variables, gradients, strict=True)
        ],
        mismatches=mismatches,
    )


def _event_ndims(
    bijector: tfb.Bijector, x: tf.Tensor, event_ndims: int | None
) -> tuple[int, int]:
    """Ranks of an event of `x` and of `forward(x)`."""
    least = bijector.forward_min_event_ndims
    if tf.nest.is_nested(least) or tf.nest.is_nested(bijector.inverse_min_event_ndims):
        raise TypeError(f"{bijector.name} maps several tensors; one can be checked.")
    least = int(least)
    if x.dtype.name not in _TOLERANCE:
        raise TypeError(f"x must be floating, got dtype {x.dtype.name}.")
    if x.shape.num_elements() == 0:
        raise ValueError(f"x must hold at least one event, got shape {x.shape}.")
    if event_ndims is None:
        event_ndims = max(x.shape.rank - 1, 0) if least == 0 else least
    if not least <= event_ndims <= x.shape.rank:
        raise ValueError(
            f"event_ndims must be from {least} (what {bijector.name} needs) to the "
            f"rank of x, got {event_ndims} for x of shape {x.shape}."
        )
    return event_ndims, bijector.forward_event_ndims(event_ndims)


def _jacobian(tape: tf.GradientTape, value: tf.Tensor, x: tf.Tensor) -> np.ndarray:
    # Row by row: for events of a few entries this is several times as fast as tracing
    # a vectorised pass, and any operation will do.
    rows = []
    for row in np.eye(value.shape[-1]):
        seed = tf.constant(np.broadcast_to(row, value.shape), value.dtype)
        gradient = tape.gradient(
            value, x, seed, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        rows.append(_array(gradient))
    return np.stack(rows, axis=1)


def _round_trip(
    bijector: tfb.Bijector, look: _Look, expected: tf.Tensor, keywords: dict[str, Any]
) -> float:
    again = bijector.forward(_new(look.output), **keywords)
    return _distance(_array(again), expected)


def _distance(value: np.ndarray, expected: Any) -> float:
    expected = _array(expected)
    error = np.abs(value.reshape(expected.shape) - expected).max()
    return float(error / (1 + np.abs(expected).max()))


def _off(log_det: np.ndarray, expected: np.ndarray) -> float:
    return float((np.abs(log_det - expected) / (1 + np.abs(expected))).max())


def _array(x: Any) -> np.ndarray:
    return np.asarray(x).astype(np.float64)


def _new(x):
    """The same numbers in a tensor that no cache has seen."""
    return tf.constant(x.numpy())


def _label(v: tf.Variable) -> str:
    return f"{v.name.split(':')[0]} {v.shape}"


def _variables(
    looks: dict[str, _Look], is_so: Callable[[np.ndarray | None], bool]
) -> tuple[str, ...]:
    """Names of variables of whose gradient something holds, and in which direction."""
    names: dict[Any, list[str]] = {}
    for direction, look in looks.items():
        for v, gradient in look.gradients:
            if is_so(gradient):
                names.setdefault(v.ref(), []).append(direction)
    return tuple(
        _label(ref.deref())
        + ("" if len(directions) == len(looks) else f" ({directions[0]})")
        for ref, directions in names.items()
    )


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2g}"


def _listed(names: Sequence[str]) -> str:
    if len(names) > 3:
        return ", ".join(names[:2]) + f" and {len(names) - 2} more"
    return ", ".join(names) or "none"
