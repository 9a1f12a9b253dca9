"""Arguments of `MaskedAutoregressive`, and what its graphs hold."""

from __future__ import annotations

import pytest
import tensorflow as tf

from tests.support import close, normal, perturb
from tfp_flows import bijectors as B
from tfp_flows import networks, transformers


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


def test_a_root_is_traced_once_for_all_entries():
    """Not for each entry, of each of which it is hundreds of operations."""
    traced = []

    class Counted(transformers.Bernstein):
        def inverse_and_log_det(self, y, parameters):
            traced.append(y.shape)
            return super().inverse_and_log_det(y, parameters)

    transformer = Counted(2)
    made = networks.MADE(6, transformer.num_parameters, (8,), seed=0)
    layer = B.MaskedAutoregressive(made, transformers.Inverted(transformer))
    perturb(layer)
    x = normal(3, 6, dtype="float32")
    expected = layer.forward(x)
    assert len(traced) == 6
    found = tf.function(lambda x: layer.forward(x), autograph=False)(x)
    assert len(traced) == 7
    close(found, expected, 1e-5)
