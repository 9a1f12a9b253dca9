"""From `Flow.log_prob` to a network is a short walk."""

import sys
from pathlib import Path

import pytest
import tensorflow as tf

import tfp_flows
from tfp_flows import flows

PACKAGE = str(Path(tfp_flows.__file__).parent)


def frames_to_the_network(flow) -> list[str]:
    """Frames of this package on the stack when a network is first called.

    Each as its module and function: Python 3.10 does not know the class of a frame.
    """
    x = tf.zeros([2, *flow.event_shape])
    flow.log_prob(x)
    found = []

    def look(frame, event, argument):
        is_network = "/networks/" in frame.f_code.co_filename
        if found or event != "call" or not is_network:
            return
        while frame is not None:
            if frame.f_code.co_filename.startswith(PACKAGE):
                module = frame.f_globals["__name__"]
                found.append(f"{module}.{frame.f_code.co_name}")
            frame = frame.f_back

    sys.setprofile(look)
    try:
        flow.log_prob(x)
    finally:
        sys.setprofile(None)
    return found[::-1]


@pytest.mark.parametrize(
    ("build", "most"),
    [
        (lambda: flows.real_nvp((4,)), 10),
        (lambda: flows.glow((8, 8, 1), steps=2, width=8), 16),
    ],
    ids=["real_nvp", "glow"],
)
def test_frames(build, most):
    frames = frames_to_the_network(build())
    assert frames[0] == "tfp_flows.distributions.flow.log_prob"
    assert frames[-1].startswith("tfp_flows.networks.")
    assert 5 <= len(frames) <= most, frames
