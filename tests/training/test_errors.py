"""What a user may get wrong, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.training.support import (
    assert_same,
    compiled,
    contexts,
    image,
    images,
    points,
    values,
    vector,
)
from tfp_flows import FlowModel
from tfp_flows.flows import flow_plus_plus

tfb = tfp.bijectors
tfd = tfp.distributions


def conditional():
    return vector(context_shape=(3,))


def labelled():
    return vector(num_classes=3)


def spoilt():
    x = points()
    x[3, 1], x[4, 1], x[7, 0] = np.nan, np.inf, -np.inf
    return x


def labels(n=24):
    return np.arange(n) % 3


GIVEN = {
    "arrays": lambda *parts: parts,
    "dataset": lambda *parts: (
        tf.data.Dataset.from_tensor_slices(parts).batch(24, drop_remainder=True),
    ),
    "generator": lambda *parts: ((parts for _ in range(1)),),
}


# A flow, what it is given, and what the message says.
DATA = {
    "nan": (
        vector,
        lambda: (spoilt(),),
        r"x holds 3 value\(s\) that are NaN or infinite, in 2 of 2 feature\(s\) "
        r"\(feature: how many\): \(0,\): 1, \(1,\): 2\.",
    ),
    "nan_context": (
        conditional,
        lambda: (points(), np.where(contexts() > 1, np.nan, contexts())),
        r"context holds \d+ value\(s\) that are NaN",
    ),
    "rank": (vector, lambda: (points()[:, 0],), r"\[batch, 2\], got \(24,\)"),
    "features": (
        vector,
        lambda: (np.zeros((24, 3)),),
        r"x must have shape \[batch, 2\], got \(24, 3\)",
    ),
    "extra_axis": (
        vector,
        lambda: (points()[:, None],),
        r"\[batch, 2\], got \(24, 1, 2\)",
    ),
    "domain": (
        lambda: vector(bounds=(0, 1), logit_margin=0.1),
        lambda: (np.full((24, 2), 1.5),),
        r"x must lie in \[-0.125, 1.125\].*from 1.5 to 1.5",
    ),
    "domain_of_integers": (
        lambda: flow_plus_plus(
            (2,), layers=1, components=1, bounds=(0, 4), dequantize="uniform"
        ),
        lambda: (np.full((24, 2), 5.0),),
        r"x must lie in \[0, 4\]",
    ),
    "missing": (conditional, lambda: (points(),), r"context is missing.*\(3,\)"),
    "unexpected": (
        vector,
        lambda: (points(), contexts()),
        "context was given, but this flow takes none",
    ),
    "context_shape": (
        conditional,
        lambda: (points(), contexts()[:, :2]),
        r"context must have shape \('batch', 3\), got \(24, 2\)",
    ),
    "label": (
        labelled,
        lambda: (points(), labels() + 1),
        r"context must hold labels in \[0, 3\), got 3",
    ),
    "negative_label": (
        labelled,
        lambda: (points(), labels() - 1),
        r"context must hold labels in \[0, 3\), got -1",
    ),
    "fractional_label": (
        labelled,
        lambda: (points(), labels().astype("float32")),
        "integer labels .* got dtype float32",
    ),
    "one_hot_label": (
        labelled,
        lambda: (points(), np.eye(3)[labels()]),
        r"context must have shape \('batch',\), got \(24, 3\)",
    ),
}


@pytest.mark.parametrize("given", [*GIVEN, "evaluate"])
@pytest.mark.parametrize("name", DATA)
def test_data(name, given):
    build, data, match = DATA[name]
    model = compiled(build(), run_eagerly=True)
    before = values(model.flow)
    with pytest.raises(ValueError, match=match):
        if given == "evaluate":
            model.evaluate(*data(), verbose=0)
        else:
            model.fit(*GIVEN[given](*data()), verbose=0)
    assert_same(before, values(model.flow))


def test_nan_in_images_names_the_pixel():
    x, labels = images()
    x[5, 2, 3, 0] = np.nan
    flow = image()
    with pytest.raises(ValueError, match=r"1 of 16 .* \(2, 3, 0\): 1\."):
        compiled(flow).fit(x, labels)
    # Nothing was initialised from such data.
    assert_same(values(image()), values(flow))


def test_many_bad_features_are_not_all_listed():
    x, labels = images()
    x[:] = np.inf
    match = r"384 value\(s\) .* in 16 of 16 .*\(0, 0, 0\): 24, .*, \.\.\.\."
    with pytest.raises(ValueError, match=match) as caught:
        compiled(image()).fit(x, labels)
    assert str(caught.value).count(": 24") == 5


def test_x_and_context_are_equally_many():
    model = compiled(conditional())
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="equally many, got 24 and 10"):
            method(points(), contexts(10))


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (lambda: None, "x must be given"),
        (lambda: points()[:0], "at least one example; it is empty"),
        (lambda: [], "at least one example; it is empty"),
        (lambda: GIVEN["dataset"](points(3))[0], "at least one batch; it is empty"),
        (lambda: (b for b in ()), "at least one batch; it is exhausted"),
    ],
    ids=["none", "array", "list", "dataset", "generator"],
)
def test_empty_data(x, match):
    with pytest.raises(ValueError, match=match):
        compiled(vector()).fit(x())


@pytest.mark.parametrize(
    ("flow", "error", "match"),
    [
        (lambda: tfb.Exp(), TypeError, "must be a TFP distribution, got Exp"),
        (lambda: vector, TypeError, "must be a TFP distribution, got function"),
        (
            lambda: vector().bijector,
            TypeError,
            "must be a TFP distribution, got Chain",
        ),
        (
            lambda: tfd.MultivariateNormalDiag(tf.zeros(2)),
            ValueError,
            "no trainable variable",
        ),
        (
            lambda: tfd.Sample(tfd.Normal(tf.Variable(0.0), 1.0), tf.Variable([2])),
            ValueError,
            "static event shape",
        ),
    ],
    ids=["bijector", "function", "own_bijector", "constant", "dynamic"],
)
def test_what_is_no_flow(flow, error, match):
    with pytest.raises(error, match=match):
        FlowModel(flow())


def test_fit_needs_compile():
    with pytest.raises(ValueError, match="compile"):
        FlowModel(vector()).fit(points())
