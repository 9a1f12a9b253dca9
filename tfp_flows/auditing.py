"""Converts a reported likelihood to the units of this package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tfp_flows.core.arguments import (
    check_choice,
    check_integer,
    check_number,
    check_shape,
)

__all__ = ["AuditedLikelihood", "audit_likelihood"]


class AuditedLikelihood(NamedTuple):
    """A log-likelihood in the units of this package, and what it may stand beside.

    Attributes:
      nats: log-density of an example in nats, of the data as stored, with neighbouring
        levels at a distance of 1.
      nats_unit: the same with the data scaled so that all levels fill [0, 1]: what
        papers on MNIST call the log-likelihood.
      bits_per_dim: `-nats / (size * log(2))`.
      size: number of entries of an example.
      levels: number of levels of an entry.
      comparable: whether it bounds, in the mean, the log-probability of the integers
        from below, so that it may stand beside other such numbers.
      notes: what is to be known about it, a tuple of sentences.
    """

    nats: float
    nats_unit: float
    bits_per_dim: float
    size: int
    levels: int
    comparable: bool
    notes: tuple[str, ...]

    def __str__(self) -> str:
        verdict = "" if self.comparable else "NOT "
        return "\n".join(
            [
                f"{self.nats:.1f} nats of the data as stored, {self.nats_unit:.1f} "
                f"nats with pixels in [0, 1], {self.bits_per_dim:.3f} bits per "
                "dimension",
                f"{verdict}comparable with dequantised densities and log-probabilities "
                f"of the same {self.size} entries of {self.levels} levels",
                *(f"- {note}" for note in self.notes),
            ]
        )

    def better_than(self, other: AuditedLikelihood) -> float:
        """By how many nats per example this one is better.

        Raises:
          ValueError: if one is not comparable, or they are not of like data.
        """
        for name, one in (("this", self), ("other", other)):
            if not one.comparable:
                raise ValueError(f"{name} is not comparable: {' '.join(one.notes)}")
        if (self.size, self.levels) != (other.size, other.levels):
            raise ValueError(
                f"other must be of examples of {self.size} entries with {self.levels} "
                f"levels, got {other.size} with {other.levels}."
            )
        return self.nats - other.nats


def audit_likelihood(
    value: float,
    event_shape: Sequence[int] | int,
    *,
    pixels: tuple[float, float],
    dequantized: bool | None,
    quantity: str = "log_likelihood",
    unit: str = "nats",
    dropped: str | float = "nothing",
    log_det: float = 0.0,
    levels: int = 256,
) -> AuditedLikelihood:
    r"""Converts a reported likelihood of quantised data into the units of this package.

    A density changes with the scale of the data: the log-density of pixels in $[0, 1]$
    is by $D \log 256$ above that of pixels in $[0, 256]$. Some losses leave out
    constants. Without dequantisation, a density has no upper bound, and says nothing.

    Example:
      >>> import tfp_flows
      >>> reported = tfp_flows.audit_likelihood(
      ...     -2200, 784, quantity="loss", pixels=(0, 1), dequantized=True,
      ...     dropped="gaussian")
      >>> round(reported.nats_unit), round(reported.bits_per_dim, 2)
      (1480, 5.28)
      >>> nice = tfp_flows.audit_likelihood(
      ...     1980.5, 784, pixels=(0, 1), dequantized=True)
      >>> round(reported.better_than(nice))
      -501

    Args:
      value: the reported number, of an example (or of a dimension, see `unit`).
      event_shape: shape of an example, or the number $D$ of its entries.
      pixels: the interval that the data filled when the density was computed: `(0, 1)`,
        `(-1, 1)`, `(0, 255)`. Levels are at a distance of 1 in an interval of length
        `levels` or `levels - 1`. In others, dequantised data are taken to fill it,
        $(x + u) / 256$, and others to touch its ends, $x / 255$. For the
        log-probability of integers (a lossless code, an autoregressive model, a
        variational bound), give `(0, 255)` and `dequantized=True`.
      dequantized: whether noise that fills the gaps between levels was added to the
        data that the number is of; `None` if this is not said.
      quantity: `"log_likelihood"`, or `"loss"` for a negative one. Bits per dimension
        are a loss in either case.
      unit: `"nats"` or `"bits"` of an example, or `"bits_per_dim"`.
      dropped: constant that was left out of the log-density: `"nothing"`; `"gaussian"`,
        $-\frac D2 \log 2 \pi$, by losses like $\|z\|^2 / 2 - \log|\det|$; or the
        number, in nats of an example, that has to be added.
      log_det: log-determinant, in nats of an example, of further preprocessing that was
        left out, from data as described by `pixels` to what the density is of:
        $-\sum_i \log s_i$ for division by deviations $s_i$.
      levels: number of levels of an entry.

    Returns:
      An `AuditedLikelihood`; `print` says all about it.

    Raises:
      TypeError: if a number is none.
      ValueError: if `pixels` is not an interval, or a choice unknown.
    """
    value = check_number("value", value)
    if isinstance(event_shape, int):
        event_shape = (event_shape,)
    size = math.prod(check_shape("event_shape", event_shape))
    levels = check_integer("levels", levels, 2)
    low, high = _interval(pixels)
    check_choice("dequantized", dequantized, (True, False, None))
    check_choice("quantity", quantity, ("log_likelihood", "loss"))
    check_choice("unit", unit, ("nats", "bits", "bits_per_dim"))
    nats = -value if quantity == "loss" or unit == "bits_per_dim" else value
    nats *= {"nats": 1.0, "bits": math.log(2)}.get(unit, size * math.log(2))
    notes = []
    constant = _constant(dropped, size)
    if constant:
        notes.append(f"{constant:.1f} nats were added for the constant left out.")
    nats += constant + check_number("log_det", log_det)
    as_stored = high - low in (levels, levels - 1)
    width = (high - low) / (levels if dequantized is not False else levels - 1)
    if not as_stored:
        nats += size * math.log(width)
        ends = abs(size * math.log((levels - 1) / levels))
        notes.append(
            f"{size * math.log(width):.1f} nats were added for the scale of the "
            f"pixels, levels at a distance of {width:.4g}; with the other convention "
            f"({levels} or {levels - 1} steps) it would differ by {ends:.1f} nats."
        )
    bits = -nats / (size * math.log(2))
    comparable = True
    if dequantized is False:
        comparable = False
        notes.append(
            "Data on a grid, without noise: a density can be as high as one likes "
            "there. Compare with densities of the same grid at the most."
        )
    if dequantized is None:
        comparable = False
        notes.append("It is not said whether noise was added: it may have no bound.")
    if dequantized and bits < 0:
        comparable = False
        notes.append(
            "Below 0 bits: no density of dequantised data averages that. A scale, a "
            "constant, or noise that does not fill the gaps is not as described."
        )
    if bits > math.log2(levels):
        notes.append(
            f"Worse than the uniform density, {math.log2(levels):g} bits per "
            "dimension: the description may be wrong."
        )
    if comparable:
        notes.append(
            "A mean over uniformly dequantised data is a lower bound of the "
            "log-probability of the integers; better dequantisation, more samples of a "
            "bound, or another crop, split or number of levels are other numbers. A "
            "density of logits needs its data-dependent log-determinant first."
        )
    unit_nats = nats + size * math.log(levels)
    return AuditedLikelihood(
        nats, unit_nats, bits, size, levels, comparable, tuple(notes)
    )


def _interval(pixels: Any) -> tuple[float, float]:
    try:
        low, high = pixels
    except (TypeError, ValueError):
        raise ValueError(f"pixels must be (low, high), got {pixels!r}.") from None
    low, high = check_number("pixels[0]", low), check_number("pixels[1]", high)
    if low >= high:
        raise ValueError(f"pixels must be (low, high) with low < high, got {pixels}.")
    return low, high


def _constant(dropped: str | float, size: int) -> float:
    if not isinstance(dropped, str):
        return check_number("dropped", dropped)
    check_choice("dropped", dropped, ("nothing", "gaussian"))
    return -0.5 * size * math.log(2 * math.pi) if dropped == "gaussian" else 0.0
