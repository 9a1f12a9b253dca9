"""Pictures of what `tfp_flows.diagnostics` finds."""

from __future__ import annotations

import math
import os

import numpy as np

from tfp_flows.core.arguments import check_integer
from tfp_flows.diagnostics import LocalTwoSampleTest, TwoSampleTest, Uniformity
from tfp_flows.plots._figure import (
    BLUE,
    RED,
    Picture,
    distinct_colors,
    finish,
    side_by_side,
)
from tfp_flows.plots.alt_text import describe

__all__ = ["calibration", "coverage", "local_two_sample_test", "two_sample_test"]


def calibration(
    found: Uniformity, *, bins: int = 20, path: str | os.PathLike | None = None
) -> Picture:
    """Draws ranks or PIT values: histograms, and distribution functions in their band.

    On the right, the diagonal is subtracted from the distribution functions, so that a
    calibrated one is flat: an arch above it says that the truth is lower than the
    posterior holds, one below that it is higher; above, then below, that posteriors are
    too narrow.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import diagnostics, plots
      >>> u = np.random.default_rng(0).uniform(size=[100, 2])
      >>> picture = plots.calibration(diagnostics.uniformity(u, names=["a", "b"]))
      >>> [axes.get_xlabel() for axes in picture.axes]
      ['value', 'value']
      >>> picture.alt[:42]
      'Distribution functions of 100 values of a '

    Args:
      found: what `simulation_based_calibration` or `pit` found.
      bins: number of bins of the histograms.
      path: PNG file to write.

    Returns:
      The figure, with an alternative text.

    Raises:
      TypeError: if `found` is of another kind.
    """
    _check(found, Uniformity, "simulation_based_calibration or pit")
    bins = check_integer("bins", bins)
    figure, (left, right) = side_by_side(2, (8.4, 3.4))
    colors = distinct_colors(len(found.names))
    edges = np.linspace(0, 1, bins + 1)
    x = np.concatenate([[0], found.points, [1]])
    for values, fractions, name, color in zip(
        found.values.T, found.fractions.T, found.names, colors, strict=True
    ):
        counts = np.histogram(values, edges)[0] / len(values) * bins
        left.stairs(counts, edges, color=color, lw=1.5, label=name)
        y = np.concatenate([[0], fractions - found.points, [0]])
        right.plot(x, y, color=color, lw=1.5, label=name)
    left.axhline(1.0, color="black", lw=0.8)
    left.set(xlabel="value", ylabel="density", xlim=(0, 1), title="histogram")
    left.set_ylim(bottom=0)
    _band(right, found, x)
    right.axhline(0.0, color="black", lw=0.8)
    right.set(xlabel="value", ylabel="share below - value", xlim=(0, 1))
    right.set_title("distribution function")
    # Above the curves, three names in a row.
    low, high = right.get_ylim()
    rows = math.ceil((len(found.names) + 1) / 3)
    right.set_ylim(low, high + 0.09 * rows * (high - low))
    narrow = {"handlelength": 1.2, "columnspacing": 1.0, "fontsize": "small"}
    right.legend(loc="upper center", ncols=3, frameon=False, **narrow)
    return _finish(figure, _text(found, "Distribution functions"), path)


def coverage(found: Uniformity, *, path: str | os.PathLike | None = None) -> Picture:
    """Draws the expected coverage of credible regions against what they claim.

    Below the diagonal, regions of highest density hold the truth less often than they
    should: posteriors are overconfident. For TARP, a posterior that is too narrow
    crosses the diagonal.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import diagnostics, plots
      >>> truth, samples = np.zeros([50, 1]), np.ones([9, 50, 1])
      >>> picture = plots.coverage(diagnostics.tarp(truth, samples))
      >>> picture.axes[0].get_ylabel()
      'expected coverage'

    Args:
      found: what `expected_coverage` or `tarp` found.
      path: PNG file to write.

    Returns:
      The figure, with an alternative text.

    Raises:
      TypeError: if `found` is of another kind.
    """
    _check(found, Uniformity, "expected_coverage or tarp")
    figure, (axes,) = side_by_side(1, (4.0, 3.6))
    x = np.concatenate([[0], found.points, [1]])
    for fractions, name, color in zip(
        found.fractions.T, found.names, distinct_colors(len(found.names)), strict=True
    ):
        y = np.concatenate([[0], fractions, [1]])
        axes.plot(x, y, color=color, lw=1.5, label=name)
    _band(axes, found, np.zeros_like(x))
    axes.plot([0, 1], [0, 1], color="black", lw=0.8)
    axes.set(xlabel="credibility", ylabel="expected coverage", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.legend(frameon=False, fontsize="small")
    return _finish(figure, _text(found, "Expected coverage"), path)


def two_sample_test(
    found: TwoSampleTest, *, path: str | os.PathLike | None = None
) -> Picture:
    """Draws the accuracy of a classifier beside what chance gives.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import diagnostics, plots
      >>> found = diagnostics.TwoSampleTest(0.6, np.array([0.5, 0.7]), 0.01, 0.05)
      >>> plots.two_sample_test(found).alt
      'A classifier tells 0.600 of the samples right; chance is 0.5 +- 0.050.'

    Args:
      found: what `diagnostics.two_sample_test` found.
      path: PNG file to write.

    Returns:
      The figure, with an alternative text.

    Raises:
      TypeError: if `found` is of another kind.
    """
    _check(found, TwoSampleTest, "two_sample_test")
    figure, (axes,) = side_by_side(1, (4.8, 2.2))
    x = np.linspace(0, 1, 1001)
    z = (x - 0.5) / found.deviation
    axes.fill_between(x, np.exp(-(z**2) / 2), color="0.8", label="chance")
    axes.axvline(found.accuracy, color=RED, label="classifier")
    low = np.full_like(found.accuracies, 0.1)
    axes.plot(found.accuracies, low, "o", color=BLUE, ms=4, label="folds")
    smallest = min(found.accuracies.min(), 0.5 - 4 * found.deviation)
    axes.set(xlim=(max(smallest - 0.02, 0), 1), xlabel="accuracy", yticks=[])
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    text = (
        f"A classifier tells {found.accuracy:.3f} of the samples right; chance is 0.5 "
        f"+- {found.deviation:.3f}."
    )
    return _finish(figure, text, path)


def local_two_sample_test(
    found: LocalTwoSampleTest, *, path: str | os.PathLike | None = None
) -> Picture:
    """Draws the statistic at every observation beside its null distribution.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import diagnostics, plots
      >>> found = diagnostics.LocalTwoSampleTest(
      ...     np.array([0.2]), np.zeros([9, 1]), np.array([0.1]))
      >>> plots.local_two_sample_test(found).axes[0].get_xlabel()
      'observation'

    Args:
      found: what `diagnostics.local_two_sample_test` found.
      path: PNG file to write.

    Returns:
      The figure, with an alternative text.

    Raises:
      TypeError: if `found` is of another kind.
    """
    _check(found, LocalTwoSampleTest, "local_two_sample_test")
    at = np.arange(len(found.statistics))
    figure, (axes,) = side_by_side(1, (min(2.4 + 0.5 * len(at), 12), 3.2))
    where = np.broadcast_to(at, found.null.shape)
    axes.plot(where.ravel(), found.null.ravel(), "_", color="0.6", label="null")
    axes.plot(at, found.statistics, "o", color=RED, ms=5, label="classifier")
    axes.set(xlabel="observation", ylabel="statistic", xlim=(-0.6, len(at) - 0.4))
    axes.set_xticks(at)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    each = ", ".join(f"{p:.3f}" for p in found.p_values)
    text = (
        f"Statistics of a classifier at {len(at)} observation(s) beside those of "
        f"{len(found.null)} with labels at random; p-values {each}."
    )
    return _finish(figure, text, path)


def _check(found, kind, makers):
    if not isinstance(found, kind):
        raise TypeError(
            f"found must be what tfp_flows.diagnostics' {makers} returns, got "
            f"{type(found).__name__}."
        )


def _band(axes, found, minus):
    """The simultaneous band, less `minus` `[K + 2]` from 0 to 1."""
    x = np.concatenate([[0], found.points, [1]])
    lower, upper = (
        np.concatenate([[0], end, [1]]) - minus for end in (found.lower, found.upper)
    )
    label = f"{100 * found.level:g} % band"
    axes.fill_between(x, lower, upper, color="0.85", label=label, linewidth=0)


def _text(found, what):
    each = ", ".join(
        f"{name} (p-value {p:.3f})"
        for name, p in zip(found.names, found.p_values, strict=True)
    )
    return (
        f"{what} of {len(found.values)} values of {each}, and the "
        f"{100 * found.level:g} % band in which they lie if all is right."
    )


def _finish(figure, text, path):
    return finish(describe(figure, text), path)
