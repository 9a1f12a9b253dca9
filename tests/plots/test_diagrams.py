"""Diagrams say what a flow is made of; boxes and texts have room."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from matplotlib.patches import FancyBboxPatch
from matplotlib.transforms import Bbox

import tfp_flows
from tests.flows.support import SMALL, SURFACES
from tests.plots.support import assert_same_size
from tests.support import fast_and_slow
from tfp_flows import bijectors, flows, masks, networks, plots, transformers

tfb = tfp.bijectors
TIMES = "\N{MULTIPLICATION SIGN}"


def words(figure):
    return [t.get_text() for t in figure.axes[0].texts if t.get_text()]


def boxes(figure, kind="box"):
    return [
        patch.get_window_extent()
        for patch in figure.axes[0].patches
        if isinstance(patch, FancyBboxPatch) and patch.get_label() == kind
    ]


def cells(figure):
    """Colours of all icons, in the order in which they are drawn."""
    found = [p for p in figure.axes[0].patches if p.get_label() == "cell"]
    return [str(p.get_facecolor()) for p in found]


def holds(outer, inner, by=0.5):
    """Whether a rectangle lies within another, up to a part of a pixel."""
    low, high = np.array(outer.min) - by, np.array(outer.max) + by
    return (low <= inner.min).all() and (inner.max <= high).all()


def overlap(a, b, by=0.5):
    both = Bbox.intersection(a, b)
    return both is not None and both.width > by and both.height > by


def assert_has_room(figure):
    """Nothing overlaps, and nothing leaves the figure, as it is rendered."""
    figure.draw_without_rendering()
    page = figure.bbox
    texts = {t: t.get_window_extent() for t in figure.axes[0].texts if t.get_text()}
    leaves, frames = boxes(figure), boxes(figure, "frame")
    for rectangle in (*texts.values(), *leaves, *frames):
        assert holds(page, rectangle)
    for a, b in itertools.combinations(texts.values(), 2):
        assert not overlap(a, b)
    for a, b in itertools.combinations((*leaves, *frames), 2):
        assert not overlap(a, b) or holds(a, b) or holds(b, a)
    for rectangle in texts.values():
        for box in (*leaves, *frames):
            assert not overlap(box, rectangle) or holds(box, rectangle)


@pytest.mark.parametrize(
    "name",
    fast_and_slow(
        [*SMALL, *SURFACES],
        *("nice", "real_nvp", "real_nvp_image", "maf", "naf", "iaf", "planar"),
        *("neural_spline_flow", "flow_plus_plus", "radial", "sylvester"),
        *("residual_flow", "tarflow", "ffjord", "glow"),
    ),
)
def test_every_ready_flow(name):
    figure = plots.diagram((SMALL | SURFACES)[name].make(perturbed=0))
    assert_has_room(figure)
    assert {"data", "noise"} <= set(words(figure))


def test_every_ready_flow_is_among_them():
    built = {small.build.__name__ for small in (SMALL | SURFACES).values()}
    assert {name for name in flows.READY if ":" not in name} == built


class TestDiagram:
    def test_a_coupling(self, path):
        mask = masks.half(4)
        network = networks.MLP(4, [8])
        figure = plots.diagram(
            bijectors.AffineCoupling(mask, network, context_shape=(3,)),
            title="One coupling",
            path=path,
        )
        assert words(figure) == [
            "One coupling",
            *("data", "4", "AffineCoupling", "kept", "changed", "MLP", "Affine"),
            *("context", "4", "noise"),
        ]
        assert_has_room(figure)
        assert_same_size(figure, path)
        blue, orange = cells(figure)[0], cells(figure)[2]
        assert cells(figure) == [blue, blue, orange, orange]
        assert blue != orange
        (context,) = (t for t in figure.axes[0].texts if t.get_text() == "context")
        assert any(holds(b, context.get_window_extent()) for b in boxes(figure))

    def test_masks_of_images(self):
        def icon(mask, shape, outputs):
            coupling = bijectors.AdditiveCoupling(
                mask,
                lambda x: tf.zeros(
                    [
                        len(x),
                        *shape[:2],
                        (~mask).sum() if mask.shape[0] == 1 else shape[2],
                    ]
                ),
                event_shape=shape,
            )
            return cells(plots.diagram(coupling))

        board = icon(masks.checkerboard(8, 8), (8, 8, 1), 1)
        assert len(board) == 16 and board[0] == board[5] != board[1] == board[4]
        channels = icon(masks.channel(40), (2, 2, 40), 20)
        assert len(channels) == 12
        assert len(set(channels[:6])) == len(set(channels[6:])) == 1

    def test_repeats_are_drawn_once(self):
        flow = flows.glow((4, 4, 1), levels=2, steps=9, width=4, seed=0)
        figure = plots.diagram(flow)
        assert words(figure).count(f"{TIMES} 9") == 2
        assert words(figure).count("AffineCoupling") == 2
        assert_has_room(figure)

    def test_arrows_reach_what_is_in_frames(self):
        def twice(shape):
            return bijectors.Repeat(lambda: bijectors.ActNorm(shape), 2)

        levels = [twice((2, 2, 2)), twice((2, 2, 1))]
        for bijector in (
            bijectors.Repeat(lambda: twice((4,)), 3),
            bijectors.MultiScale(levels, event_shape=(2, 2, 2)),
        ):
            figure = plots.diagram(bijector)
            assert_has_room(figure)
            (axes,) = figure.axes
            tips = [line.get_xydata()[-1] for line in axes.lines]
            leaves = [p for p in axes.patches if p.get_label() == "box"]
            for box in leaves[1:]:  # all but the data
                assert any(
                    abs(y - box.get_y()) < 1e-6
                    and box.get_x() < x < box.get_x() + box.get_width()
                    for x, y in tips
                )

    def test_empty_chains(self):
        levels = [tfb.Chain([]), tfb.Chain([])]
        stack = bijectors.MultiScale(levels, event_shape=(2, 2, 2))
        assert words(plots.diagram(stack)).count("Identity") == 2
        nothing = bijectors.Repeat(lambda: tfb.Chain([]), 2)
        assert words(plots.diagram(nothing)) == ["data", "noise"]

    def test_levels(self):
        flow = flows.glow((8, 8, 1), levels=3, steps=1, width=4, seed=0)
        found = [t.replace(TIMES, "x") for t in words(plots.diagram(flow))]
        assert {"level 0", "level 1", "level 2"} <= set(found)
        assert found.count("split") == found.count("mean, scale") == 2
        assert {"$z_{0}$: 4 x 4 x 2", "$z_{2}$: 1 x 1 x 16", "64"} <= set(found)
        assert [t for t in found if t.endswith("numbers")] == [
            *("32 numbers", "16 numbers", "16 numbers")
        ]
        plain = flows.real_nvp((8, 8, 1), levels=2, layers=1, width=4, depth=0, seed=0)
        found = words(plots.diagram(plain))
        assert "split" in found and "mean, scale" not in found

    def test_autoregressions_say_what_they_see(self):
        made = networks.MADE(3, 2, hidden_units=[4])
        maf, iaf = (
            kind(made)
            for kind in (
                bijectors.MaskedAutoregressive,
                bijectors.InverseAutoregressive,
            )
        )
        for bijector, seen in (
            *((maf, "data"), (iaf, "noise")),
            *((tfb.Invert(maf), "noise"), (tfb.Invert(iaf), "data")),
        ):
            figure = plots.diagram(bijector)
            assert f"each sees {seen} before it" in words(figure)
        blue, orange = cells(figure)[3], cells(figure)[0]
        where = [i for i, color in enumerate(cells(figure)) if color == blue]
        assert where == [3, 6, 7]
        assert [i for i, c in enumerate(cells(figure)) if c == orange] == [0, 4, 8]

    def test_a_permutation_says_what_goes_where(self):
        # Entry 0 of the data comes from entry 1 of the noise.
        figure = plots.diagram(bijectors.Permutation([1, 2, 0]))
        colors = np.array(cells(figure)).reshape(3, 3)
        grey = colors[1, 0]
        assert np.argwhere((colors == grey).T)[:, 1].tolist() == [1, 2, 0]
        back = plots.diagram(tfb.Invert(bijectors.Permutation([1, 2, 0])))
        np.testing.assert_array_equal(
            np.array(cells(back)).reshape(3, 3) == grey, (colors == grey).T
        )

    def test_the_order_is_that_of_data(self):
        chain = tfb.Chain([tfb.Shift(1.0), tfb.Exp()])
        assert words(plots.diagram(chain))[1:3] == ["Shift", "Exp"]
        turned = tfb.Invert(bijectors.Chain([tfb.Shift(1.0), tfb.Exp()]))
        assert words(plots.diagram(turned))[1:3] == ["Exp", "Shift"]

    def test_a_users_own_bijector(self):
        class Swirl(tfb.Bijector):
            def __init__(self, name="swirl"):
                super().__init__(forward_min_event_ndims=1, name=name)

            def _forward(self, x):
                return x

        same = {"forward_min_event_ndims": 1, "name": "wave"}
        inline = tfb.Inline(lambda x: x, lambda x: x, **same)
        other = Swirl(name="a_name_that_is_longer_than_any_box_should_be")
        for bijector in (Swirl(), other, tfb.Chain([inline, Swirl()])):
            figure = plots.diagram(bijector, event_shape=(2,))
            assert_has_room(figure)
            assert "Swirl" in words(figure) and "2" in words(figure)
        assert words(figure)[2:4] == ["Inline", "wave"]
        unknown = words(plots.diagram(Swirl()))
        assert unknown == ["data", "Swirl", "noise"]

    def test_distributions(self):
        flow = flows.nice((4,), layers=2, width=4, num_classes=3, seed=0)
        assert "context" in words(plots.diagram(flow))
        base = tfp.distributions.MultivariateNormalDiag(tf.zeros(2), name="base")
        theirs = tfp.distributions.TransformedDistribution(base, tfb.Exp())
        assert words(plots.diagram(theirs)) == [
            *("data", "2", "Exp", "2", "noise", "base")
        ]
        whole = flows.nice(
            *((4,),), layers=2, width=4, bounds=(0, 8), dequantize="uniform", seed=0
        )
        assert words(plots.diagram(whole))[2:4] == ["add noise", "uniform"]
        amortised = flows.planar((2,), layers=2, context_shape=(1,), seed=0)
        figure = plots.diagram(amortised)
        assert {"by MLP", "given the context"} <= set(words(figure))

    def test_a_long_chain_goes_on_in_another_column(self):
        layers = [
            bijectors.Coupling(
                masks.half(4), networks.MLP(4, [2]), transformers.Affine("exp")
            )
            for _ in range(12)
        ]
        figure = plots.diagram(bijectors.Chain(layers))
        assert_has_room(figure)
        width, height = figure.get_size_inches()
        assert height < 10 and width > 3
        assert words(figure).count("Coupling") == 12
        assert words(figure).count("4") == 13

    def test_other_things_are_refused(self):
        with pytest.raises(TypeError, match=r"^flow must be a bijector, or a dist"):
            plots.diagram(tfp_flows.FlowModel(SMALL["nice"].make(perturbed=0)))
