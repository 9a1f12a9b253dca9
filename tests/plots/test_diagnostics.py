"""Pictures of diagnostics show the numbers that were found."""

from __future__ import annotations

import numpy as np
import pytest

from tests.plots.support import assert_same_size, shown
from tfp_flows import diagnostics, plots

U = np.random.default_rng(0).uniform(size=[60, 2])
FOUND = diagnostics.uniformity(np.stack([U[:, 0], U[:, 1] ** 3], -1), names=["a", "b"])


def band(axes):
    """Lower and upper ends of a band, at the points in its middle."""
    (area,) = axes.collections
    x, y = area.get_paths()[0].vertices.T
    inner = [y[np.isclose(x, z)] for z in FOUND.points]
    return np.array([[v.min(), v.max()] for v in inner]).T


def test_calibration(path):
    figure = plots.calibration(FOUND, bins=10, path=path)
    left, right = figure.axes
    for i in range(2):
        line = right.lines[i]
        np.testing.assert_allclose(line.get_xdata()[1:-1], FOUND.points)
        np.testing.assert_allclose(
            line.get_ydata()[1:-1], FOUND.fractions[:, i] - FOUND.points
        )
        assert line.get_label() == "ab"[i]
        heights = left.patches[i].get_data().values
        assert heights.mean() == pytest.approx(1.0)
        assert heights[0] == pytest.approx(10 * np.mean(FOUND.values[:, i] < 0.1))
    expected = np.stack([FOUND.lower, FOUND.upper]) - FOUND.points
    np.testing.assert_allclose(band(right), expected, atol=1e-6)
    assert right.lines[0].get_color() != right.lines[1].get_color()
    words = "60 values of a (p-value 0."
    assert words in figure.alt and "95 % band" in figure.alt
    assert shown(figure)[2] == figure.alt
    assert_same_size(figure, path)


def test_coverage(path):
    figure = plots.coverage(FOUND, path=path)
    (axes,) = figure.axes
    for i in range(2):
        np.testing.assert_allclose(
            axes.lines[i].get_ydata(), [0, *FOUND.fractions[:, i], 1]
        )
    np.testing.assert_allclose(band(axes), [FOUND.lower, FOUND.upper], atol=1e-6)
    assert axes.get_xlabel() == "credibility"
    assert figure.alt.startswith("Expected coverage of 60 values of a")
    assert_same_size(figure, path)


def test_two_sample_test(path):
    found = diagnostics.TwoSampleTest(0.62, np.array([0.6, 0.64]), 0.01, 0.05)
    figure = plots.two_sample_test(found, path=path)
    (axes,) = figure.axes
    accuracy, folds = axes.lines
    assert list(accuracy.get_xdata()) == [0.62, 0.62]
    assert folds.get_xdata().tolist() == [0.6, 0.64]
    assert "0.620" in figure.alt and "0.050" in figure.alt
    # What chance gives is highest at 1/2.
    x, y = axes.collections[0].get_paths()[0].vertices.T
    assert x[np.argmax(y)] == pytest.approx(0.5, abs=1e-3)
    assert_same_size(figure, path)


def test_local_two_sample_test(path):
    null = np.arange(6.0).reshape(3, 2) / 100
    found = diagnostics.LocalTwoSampleTest(
        np.array([0.1, 0.0]), null, np.array([0.25, 1.0])
    )
    figure = plots.local_two_sample_test(found, path=path)
    (axes,) = figure.axes
    assert axes.lines[0].get_ydata().tolist() == null.ravel().tolist()
    assert axes.lines[0].get_xdata().tolist() == [0, 1] * 3
    assert axes.lines[1].get_ydata().tolist() == [0.1, 0.0]
    assert "p-values 0.250, 1.000" in figure.alt
    assert_same_size(figure, path)


@pytest.mark.parametrize(
    "draw",
    [
        plots.calibration,
        plots.coverage,
        plots.two_sample_test,
        plots.local_two_sample_test,
    ],
)
def test_errors(draw):
    with pytest.raises(TypeError, match=r"found must be what .* got ndarray"):
        draw(U)


def test_bins():
    with pytest.raises(ValueError, match="bins"):
        plots.calibration(FOUND, bins=0)
