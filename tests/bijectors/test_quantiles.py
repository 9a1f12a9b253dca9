"""Quantiles of what is known to rise or fall."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import perturb
from tfp_flows import bijectors as B
from tfp_flows import networks, transformers

tfb = tfp.bijectors
tfd = tfp.distributions


@pytest.mark.parametrize(
    ("bijector", "rises"),
    [
        (B.Chain([B.Logit(), tfb.Scale(2.0)]), True),
        (B.Chain([B.Logit(), tfb.Shift(0.5), tfb.Scale(-2.0)]), False),
        (B.Chain([tfb.Scale(-1.0), B.Logit(), tfb.Scale(-2.0)]), True),
        (B.Chain([tfb.Chain([tfb.Scale(-3.0), tfb.Exp()]), tfb.Scale(0.5)]), False),
        (B.Chain([tfb.Invert(B.Logit(0.1, -9.0, 9.0)), tfb.Scale(-1.0)]), False),
        (B.Repeat(lambda: tfb.Scale(-2.0), 2), True),
        (B.Chain([]), True),
    ],
)
def test_quantiles_of_compositions(bijector, rises):
    distribution = tfd.TransformedDistribution(tfd.Normal(0.3, 1.0), bijector)
    quantile = distribution.quantile(0.3)
    at = tfd.Normal(0.3, 1.0).quantile(0.3 if rises else 0.7)
    np.testing.assert_allclose(quantile, bijector.forward(at), rtol=1e-5)
    np.testing.assert_allclose(distribution.cdf(quantile), 0.3, rtol=1e-5)
    traced = tf.function(distribution.survival_function)(quantile)
    np.testing.assert_allclose(traced, 0.7, rtol=1e-5)


@pytest.mark.parametrize(
    "bijector",
    [
        B.Elementwise(transformers.Affine("exp"), (2,), dtype="float64"),
        B.ActNorm([2], dtype="float64"),
        B.BatchNorm([2], dtype="float64"),
        B.Standardize([2], dtype="float64"),
        tfb.Invert(B.ActNorm([2], dtype="float64")),
        *(
            cls(
                networks.MADE(1, 8, hidden_units=(4,), dtype="float64"),
                transformers.RationalQuadratic(3),
                dtype="float64",
            )
            for cls in (B.MaskedAutoregressive, B.InverseAutoregressive)
        ),
    ],
    ids=lambda b: b.name,
)
def test_quantiles_of_single_entries(bijector):
    perturb(bijector, 1.0)
    size = bijector.forward_event_shape([None])[0]
    base = tfd.Normal(tf.zeros([size or 2], "float64"), 1.0)
    distribution = tfd.TransformedDistribution(base, B.Chain([bijector]))
    shares = [0.3, 0.6][: len(base.loc)]
    np.testing.assert_allclose(
        distribution.quantile(shares), bijector.forward(base.quantile(shares))
    )
    np.testing.assert_allclose(distribution.cdf(distribution.quantile(shares)), shares)


@pytest.mark.parametrize(
    "unknown",
    [
        B.Elementwise(transformers.RationalQuadratic(circular=True), (2,)),
        B.Permutation([1, 0]),
        B.MaskedAutoregressive(networks.MADE(2, 2)),
        B.MaskedAutoregressive(
            networks.MADE(1, 7), transformers.RationalQuadratic(2, circular=True)
        ),
        tfb.CorrelationCholesky(),
    ],
)
def test_what_may_fall_has_no_quantile(unknown):
    with pytest.raises(NotImplementedError, match="nobody knows whether it rises"):
        B.Chain([tfb.Scale(2.0), unknown])._internal_is_increasing()
