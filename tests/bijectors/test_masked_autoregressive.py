"""Arguments of `MaskedAutoregressive`."""

from __future__ import annotations

import pytest

from tfp_flows import bijectors as B
from tfp_flows import networks


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: B.MaskedAutoregressive(networks.MLP(4), event_shape="a"),
            "event_shape must be",
        ),
    ],
)
def test_type_errors(build, words):
    with pytest.raises(TypeError, match=words):
        build()
