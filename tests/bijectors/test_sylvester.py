"""Sylvester flows: the formula of each form, and inverses."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.bijectors.support import assign
from tests.support import close, normal, perturb, softplus
from tfp_flows import bijectors as B


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
def test_sylvester_of_one_column_is_planar(activation):
    """With Q = q, R = r and w = R~ q: v = r q."""
    sylvester = B.Sylvester(3, 1, activation=activation, seed=0, dtype="float64")
    q = sylvester.trainable_variables[0].numpy()[:, 0]
    assign(sylvester, triangles=-1.7, diagonal=2.0, b=0.4)
    planar = B.Planar(3, activation, dtype="float64")
    assign(planar, w=2.0 * q, v=-1.7 * q, b=0.4)
    z = normal(5, 3)
    for a, b in zip(
        (*sylvester.forward_and_log_det(z), *sylvester.inverse_and_log_det(z)),
        (*planar.forward_and_log_det(z), *planar.inverse_and_log_det(z)),
        strict=True,
    ):
        close(a, b, 1e-12)


@pytest.mark.parametrize("form", ["orthogonal", "householder", "triangular"])
def test_sylvester_formula(form):
    columns = 4 if form == "triangular" else 3
    bijector = perturb(B.Sylvester(4, columns, form, seed=0, dtype="float64"), 1.0)
    *basis, triangles, diagonal, b = (v.numpy() for v in bijector.trainable_variables)
    if form == "orthogonal":
        left, _, right = np.linalg.svd(basis[0], full_matrices=False)
        q = left @ right
    elif form == "householder":
        q = np.eye(4)
        for v in basis[0]:
            q = q @ (np.eye(4) - 2 * np.outer(v, v) / (v @ v))
        q = q[:, :columns]
    else:
        q = np.eye(4)
    r = np.triu(triangles)
    inner = np.tril(triangles, -1).T + np.diag(diagonal)
    product = np.diag(r) * diagonal
    r = r - np.diag(np.diag(r)) + np.diag(np.diag(r) / (1 + softplus(-product)))
    z = normal(5, 4).numpy()
    y = z + np.tanh(z @ q @ inner.T + b) @ r.T @ q.T
    close(bijector.forward(z), y, 1e-12)


def test_orthogonalisation_converges_or_says_so():
    raw = normal(6, 4, seed=1).numpy()
    left, _, right = np.linalg.svd(raw, full_matrices=False)
    z = normal(3, 6)
    for smallest, valid in ((1.0, True), (1e-5, True), (0.0, False)):
        bijector = B.Sylvester(6, 4, dtype="float64")
        perturb(bijector, 0.5)
        scales = np.array([1e3, 10.0, 2.0, smallest * 1e3])
        assign(bijector, basis=left * scales @ right)
        q, *_ = bijector._parameters_of(None)
        y, log_det = bijector.forward_and_log_det(z)
        assert np.isfinite(y).all()
        if valid:
            close(tf.transpose(q) @ q, np.eye(4), 1e-12)
            close(bijector.inverse(y), z)
        assert np.isfinite(log_det).all() == valid


@pytest.mark.parametrize("form", ["orthogonal", "householder", "triangular"])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
def test_sylvester_inverts_with_large_parameters(form, activation):
    columns = 6 if form == "triangular" else 5
    bijector = B.Sylvester(
        6, columns, form, activation=activation, seed=0, dtype="float64"
    )
    perturb(bijector, 3.0)
    z = 2.0 * normal(40, 6)
    y, log_det = bijector.forward_and_log_det(z)
    assert np.abs(log_det).max() > 2
    back, inverse_log_det = bijector.inverse_and_log_det(y)
    # What is lost is what the condition of the map loses.
    close(bijector.forward(back), y)
    close(back, z, 1e-7)
    close(inverse_log_det, -log_det, 1e-6)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: B.Sylvester(3, 0), "between 1 and the size of an event, 3; got 0"),
        (lambda: B.Sylvester(3, 4), "between 1 and the size of an event, 3; got 4"),
        (lambda: B.Sylvester(3, 2, "qr"), "orthogonal.*householder.*triangular.*'qr'"),
        (lambda: B.Sylvester(3, 2, "triangular"), "columns equal to.*3; got 2"),
        (lambda: B.Sylvester(3, 2, reflections=2), 'householder.*"orthogonal"'),
        (lambda: B.Sylvester(3, 2, "householder", 0), "reflections.*got 0"),
        (lambda: B.Sylvester(3, activation="relu"), "tanh.*leaky_relu"),
    ],
)
def test_errors(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize("option", ["columns", "reflections"])
def test_a_part_of_a_column_or_a_reflection_is_an_error(option):
    options = {"columns": 2, "parametrization": "householder", option: 1.5}
    with pytest.raises(TypeError, match=f"{option} must be an integer, got 1.5"):
        B.Sylvester(3, **options)
