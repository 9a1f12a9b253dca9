"""Arguments of `Elementwise`."""

from __future__ import annotations

import pytest

from tfp_flows import bijectors as B
from tfp_flows import transformers


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.Elementwise(transformers.Affine(), 2), "event_shape must be a seq"),
        (
            lambda: B.Elementwise(transformers.Shift(), (2,), lambda c: c, (None,)),
            r"context_shape\[0\] must be an integer",
        ),
    ],
)
def test_type_errors(build, words):
    with pytest.raises(TypeError, match=words):
        build()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: B.Elementwise(transformers.Shift(), ()),
            "event_shape must have rank 1",
        ),
        (
            lambda: B.Elementwise(transformers.Shift(), (2,), context_shape=(2,)),
            "go together",
        ),
        (
            lambda: B.Elementwise(transformers.Affine(), (2,), lambda c: c, (2,)),
            r"\[batch, 4\].*2 parameter.*returned \[batch, 2\]",
        ),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()
