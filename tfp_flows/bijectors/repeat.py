"""A chain of layers that repeat, traced once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tensorflow_probability import bijectors as tfb

from tfp_flows.bijectors.chain import Chain
from tfp_flows.core.arguments import check_integer
from tfp_flows.core.describe import describe
from tfp_flows.core.walk import Run, Step, runs_of

__all__ = ["Repeat"]


class Repeat(Chain):
    r"""A chain of units that compute the same function of their variables.

    It is a `Chain` of all units, in the order in which data pass them. In a
    `tf.function`, one unit is traced, and its trace is called with the variables of
    each unit. So building the graph of a deep flow takes hardly longer than that of a
    shallow one.

    **Units.** `make_unit` is called `count` times. It must build the same each time,
    except for the values of variables. What differs from unit to unit (a random
    permutation, a seed) must be a variable, trained or not. Two units are traced and
    compared, so Python code in a conditioner runs twice, whatever `count` is. Every
    unit is traced on its own if there are only two; if the two differ; if a unit
    captures tensors that are not its variables, draws random numbers without a seed, or
    adds losses to Keras layers; under XLA; and under a strategy of several devices.

    Example:
      >>> import tensorflow as tf
      >>> from tfp_flows import bijectors, masks, networks
      >>> mask = masks.alternating(4)
      >>> def pair():
      ...     first = bijectors.AffineCoupling(mask, networks.MLP(4, [8]))
      ...     second = bijectors.AffineCoupling(~mask, networks.MLP(4, [8]))
      ...     return [first, second]
      >>> deep = bijectors.Repeat(pair, 8)
      >>> len(deep.bijectors)
      16
      >>> deep.forward(tf.ones([3, 4])).shape
      TensorShape([3, 4])

    Args:
      make_unit: `() -> bijector`, or a list of bijectors in the order in which data
        meet them.
      count: number of units.
      recompute_gradients: see `Chain`.
      checkpoint_every: see `Chain`; members count one by one.
      name: name of the bijector.

    Raises:
      TypeError: if `make_unit` is not callable, or does not return bijectors.
      ValueError: if units differ in number, shape, dtype or sharing of their variables,
        or in the number of their members; if they have none; on a `count` below 1.
    """

    def __init__(
        self,
        make_unit: Callable[[], tfb.Bijector | Sequence[tfb.Bijector]],
        count: int,
        *,
        recompute_gradients: bool = False,
        checkpoint_every: int | None = None,
        name: str = "repeat",
    ):
        parameters = dict(locals())
        count = check_integer("count", count)
        if not callable(make_unit):
            raise TypeError(
                "make_unit must be a function that builds a unit, got "
                f"{type(make_unit).__name__}."
            )
        units = (
            make_unit.units
            if isinstance(make_unit, _Given)
            else [_as_list(make_unit()) for _ in range(count)]
        )
        if not units[0]:
            raise ValueError("make_unit must build at least one bijector, got [].")
        self._size = len(units[0])
        super().__init__(
            [b for unit in units for b in unit],
            recompute_gradients=recompute_gradients,
            checkpoint_every=checkpoint_every,
            name=name,
        )
        _check_alike(self._variables_of_units(), units)
        # A copy has the same units.
        self._set_parameters({**parameters, "make_unit": _Given(units)})

    @property
    def count(self) -> int:
        """The number of units."""
        return len(self._members) // self._size

    def __repr__(self):
        return describe(self, make_unit=self._units()[0])

    def _units(self):
        """The members of each unit."""
        starts = range(0, len(self._members), self._size)
        return [self._members[i : i + self._size] for i in starts]

    def _variables_of_units(self):
        return [[v for b in unit for v in b.variables] for unit in self._units()]

    _fast_paths = frozenset({"runs", "untaped"})

    def _runs_of_members(self, forward, event_ndims, deep):
        units = []
        for unit in reversed(self._units()) if forward else self._units():
            steps = []
            for b in reversed(unit) if forward else unit:
                for run in runs_of(b, forward, event_ndims, deep):
                    steps += run.steps
                event_ndims = Step(b, forward, event_ndims).result_event_ndims
            units.append(steps)
        variables = self._variables_of_units()
        return [Run(units, variables[::-1] if forward else variables)]


class _Given:
    """Stands for `make_unit` in a copy, which shares the units of the original."""

    def __init__(self, units):
        self.units = units

    def __call__(self):
        raise TypeError("These units exist already: the bijector is a copy.")


def _as_list(unit):
    if isinstance(unit, tfb.Bijector):
        return [unit]
    if not isinstance(unit, Sequence):
        raise TypeError(
            "make_unit must build a bijector or a list of bijectors, got "
            f"{type(unit).__name__}."
        )
    return list(unit)


def _check_alike(variables, units):
    """Raises a ValueError if a unit differs from the first in kinds of variables."""
    first = [_meaning(v) for v in variables[0]]
    for i, own in enumerate(variables):
        if len(units[i]) != len(units[0]):
            raise ValueError(
                f"make_unit must build the same each time: unit {i} has "
                f"{len(units[i])} member(s), unit 0 has {len(units[0])}."
            )
        if len(own) != len(first):
            raise ValueError(
                f"make_unit must build the same each time: unit {i} has {len(own)} "
                f"variable(s), unit 0 has {len(first)}."
            )
        for k, (one, other) in enumerate(zip(map(_meaning, own), first, strict=True)):
            if one != other:
                raise ValueError(
                    f"make_unit must build the same each time: variable {k} of unit "
                    f"{i}, {own[k].name}, has shape and dtype {one[:2]}; in unit 0, "
                    f"{variables[0][k].name} has {other[:2]}."
                )
        if _sharing(own) != _sharing(variables[0]):
            raise ValueError(
                f"make_unit must build the same each time: members of unit {i} share "
                "variables in another way than those of unit 0."
            )


def _meaning(variable):
    return tuple(variable.shape), variable.dtype.name, variable.trainable


def _sharing(variables: Sequence[Any]) -> list[int]:
    first: dict[int, int] = {}
    return [first.setdefault(id(v), k) for k, v in enumerate(variables)]
