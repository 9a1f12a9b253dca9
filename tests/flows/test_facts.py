"""What ready flows say of themselves, in `tfp-flows flows` and the docs, is so."""

from __future__ import annotations

import collections
import warnings

import pytest

from tests.flows.support import ONE_OF_EACH, SURFACES
from tfp_flows.command.flow_options import ready_flows
from tfp_flows.core.conditioner import Conditioner

pytestmark = pytest.mark.filterwarnings("ignore:.*seen none yet:UserWarning")
# The first of each; later ones are variants.
SMALL = {s.build.__name__: s for s in reversed((ONE_OF_EACH | SURFACES).values())}
every = pytest.mark.parametrize("name", SMALL)


def test_all_say_all():
    assert ready_flows().keys() == SMALL.keys()
    names = ["suits", "density", "sample", "inverse", "data", "context"]
    for flow in ready_flows().values():
        assert list(flow.facts) == names, flow.name
        assert all(text.endswith(".") for text in flow.facts.values()), flow.name
        assert flow.paper, flow.name


def passes(monkeypatch, flow, call):
    """How often each network of a flow is evaluated."""
    counts = collections.Counter()
    evaluate = Conditioner.__call__

    def counted(self, *arguments):
        counts[id(self)] += 1
        return evaluate(self, *arguments)

    monkeypatch.setattr(Conditioner, "__call__", counted)
    call()
    monkeypatch.undo()
    networks = [m for m in flow.submodules if isinstance(m, Conditioner)]
    return {counts[id(network)] for network in networks}


@every
def test_passes(name, monkeypatch):
    facts, small = ready_flows()[name].facts, SMALL[name]
    flow, x = small.make(), small.data(dtype="float32")
    in_a_pass = {
        "density": passes(monkeypatch, flow, lambda: flow.log_prob(x)) == {1},
        "sample": passes(monkeypatch, flow, lambda: flow.sample(2, seed=0)) == {1},
    }
    for fact, is_one in in_a_pass.items():
        assert facts[fact].startswith("one pass") == is_one, fact


def takes(name, event_shape, **options):
    """Whether a flow can be built, and does not advise against it."""
    small = SMALL[name]
    sizes = {k: v for k, v in small.arguments.items() if k not in ("patch", "columns")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            small.build(**{**sizes, "event_shape": event_shape, **options})
        except (ValueError, UserWarning):
            return False
    return True


@every
def test_data_and_contexts(name):
    flow = ready_flows()[name]
    data, context = flow.facts["data"], flow.facts["context"]
    assert takes(name, (3,)) == ("vectors" in data)
    assert takes(name, (2,)) == ("vectors of two" in data or "vectors of one" in data)
    assert takes(name, (1,)) == ("vectors of one" in data)
    assert takes(name, (8, 8, 1)) == ("images" in data)
    assert takes(name, (3, 3, 1)) == ("images." in data or "images as vectors" in data)
    shape = SMALL[name].shape
    assert takes(name, shape, num_classes=2)
    assert ("FiLM" in context) == ("context_mode" in flow.options)
