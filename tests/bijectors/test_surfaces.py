"""Densities on the sphere, the torus and the simplex integrate to one."""

from __future__ import annotations

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import close, normal, perturb
from tfp_flows import Flow, FlowModel, bijectors, distributions, masks, networks
from tfp_flows.transformers import RationalQuadratic

tfb, tfd = tfp.bijectors, tfp.distributions
HALF = np.array([True, False])


def uniform(low, high, dtype="float32"):
    low, high = (tf.constant(x, dtype) for x in (low, high))
    return tfd.Independent(tfd.Uniform(low, high), 1)


def on_sphere(pairs=2, context_shape=None, dtype="float32"):
    """Splines of the height and circular ones of the angle, about several axes."""
    line, circle = RationalQuadratic(4, 1.0), RationalQuadratic(4, circular=True)
    options = {"context_shape": context_shape, "dtype": dtype}

    def network(cls, spline, seed):
        return cls(spline.num_parameters, (16,), seed=seed, dtype=dtype)

    members = []
    for i in range(pairs):
        if i:
            turn = bijectors.Permutation([1, 2, 0])
            members += [tfb.Invert(bijectors.Sphere()), turn]
        of_height = network(networks.MLP, circle, 2 * i)
        of_angle = network(networks.PeriodicMLP, line, 2 * i + 1)
        members += [
            bijectors.Sphere(),
            bijectors.Coupling(HALF, of_height, circle, **options),
            bijectors.Coupling(~HALF, of_angle, line, **options),
        ]
    base = uniform([-1.0, -math.pi], [1.0, math.pi], dtype)
    return Flow(base, bijectors.Chain(members))


def grid(n):
    """Points of cells of the sphere of equal area, `[2 n^2, 3]`."""
    h = np.linspace(-1, 1, n, endpoint=False) + 1 / n
    phi = np.linspace(-math.pi, math.pi, 2 * n, endpoint=False) + math.pi / (2 * n)
    h, phi = (part.ravel() for part in np.meshgrid(h, phi))
    r = np.sqrt(1 - h**2)
    return np.stack([r * np.cos(phi), r * np.sin(phi), h], -1)


def test_it_keeps_areas():
    draw = np.random.default_rng(0)
    z = tf.constant(draw.uniform([-0.99, -3.14], [0.99, 3.14], (6, 2)))
    sphere = bijectors.Sphere()
    with tf.GradientTape() as tape:
        tape.watch(z)
        x, log_det = sphere.forward_and_log_det(z)
    jacobian = tape.batch_jacobian(x, z).numpy()
    areas = np.linalg.det(np.swapaxes(jacobian, 1, 2) @ jacobian)
    close(0.5 * np.log(areas), log_det)
    close(tf.norm(x, axis=-1), np.ones(6))
    for jit in (False, True):
        inverse = tf.function(sphere.inverse_and_log_det, jit_compile=jit)
        back, ildj = inverse(x)
        close(back, z)
        close(ildj, np.zeros(6))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_poles_seams_and_what_is_off(dtype):
    sphere = bijectors.Sphere()
    x = [[0, 0, 1], [0, 0, -1], [-1, 0, 0], [-1, -0.0, 0], [1, 0, 0], [1e-30, 0, 1]]
    x = tf.constant(x, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z, ildj = sphere.inverse_and_log_det(x)
        again = sphere.forward(z)
    close(again, x, 1e-2 if dtype == "float32" else 1e-7)
    assert (np.abs(z[:, 0]) < 1).all()
    assert (np.abs(z[:, 1]) <= math.pi).all()
    assert np.isfinite(tape.gradient(again, x)).all()
    close(ildj, np.zeros(6))
    # Rounding may lead to a pole, or beyond.
    z = tf.constant([[1.0, 0.3], [-1.0, 0.0], [1.0 + 1e-7, 0.0]], dtype)
    with tf.GradientTape() as tape:
        tape.watch(z)
        y = sphere.forward(z)
    assert np.isfinite(y).all() and np.isfinite(tape.gradient(y, z)).all()
    # Data may be off by it.
    off = tf.constant([[0.0, 0.6, 0.8002], [0.0, 0.6, 0.9], [0.0, 0.0, 0.0]], dtype)
    z, ildj = sphere.inverse_and_log_det(off)
    np.testing.assert_array_equal(ildj, [0.0, -np.inf, -np.inf])
    assert np.isfinite(z).all()
    missing = tf.constant([[0.0, np.nan, 1.0]], dtype)
    assert np.isnan(sphere.inverse_and_log_det(missing)[1]).all()


def test_a_density_on_the_sphere():
    flow = on_sphere(dtype="float64")
    x = grid(60)
    close(np.exp(flow.log_prob(x)), np.full(len(x), 1 / (4 * math.pi)), 1e-6)
    perturb(flow)
    density = np.exp(flow.log_prob(x))
    assert density.std() > 0.02
    close(density.mean() * 4 * math.pi, 1.0, 0.01)
    sample = flow.sample(20_000, seed=0)
    close(tf.norm(sample, axis=-1), np.ones(20_000))
    # Samples and density have one mean.
    close(np.mean(sample, 0), (x * density[:, None]).mean(0) * 4 * math.pi, 0.03)
    close(flow.decode(flow.encode(x)), x, 1e-6)


@pytest.mark.slow
def test_a_known_density_on_the_sphere_is_learnt(tmp_path):
    keras.utils.set_random_seed(0)
    known = tfd.VonMisesFisher([0.6, 0.0, 0.8], 5.0)
    flow = on_sphere()
    model = FlowModel(flow)
    model.compile(keras.optimizers.Adam(5e-3))
    model.fit(known.sample(8192, seed=0).numpy(), batch_size=256, epochs=8, verbose=0)
    x = known.sample(2000, seed=1)
    assert -0.01 < np.mean(known.log_prob(x) - flow.log_prob(x)) < 0.05


def test_a_context_on_the_sphere():
    flow = perturb(on_sphere(1, context_shape=(2,), dtype="float64"))
    x = grid(40)
    one, two = (
        np.exp(flow.log_prob(x, context=np.broadcast_to(c, (len(x), 2))))
        for c in ([1.0, 0.0], [0.0, -1.0])
    )
    assert np.abs(one - two).max() > 0.01
    close([one.mean(), two.mean()], np.full(2, 1 / (4 * math.pi)), 0.01)


def test_a_network_of_angles():
    network = networks.PeriodicMLP(3, (8,), context_mode="film", seed=0)
    x, context = normal(4, 2, dtype="float32"), normal(4, 1, dtype="float32")
    network.build(x.shape, context.shape)
    perturb(network)
    out = network(x, context)
    close(network(x - 4 * math.pi, context), out, 1e-4)
    assert np.abs(network(x + 1.0, context) - out).max() > 1e-3
    again = networks.PeriodicMLP.from_config(network.get_config())
    again.build(x.shape, context.shape)
    again.set_weights(network.get_weights())
    close(again(x, context), out, 1e-6)


def test_a_density_on_the_torus():
    spline = RationalQuadratic(4, circular=True)
    members = [
        bijectors.Coupling(
            mask,
            networks.PeriodicMLP(spline.num_parameters, (8,), seed=0, dtype="float64"),
            spline,
            dtype="float64",
        )
        for mask in (masks.half(2), ~masks.half(2))
    ]
    pi = np.full(2, math.pi)
    flow = perturb(Flow(uniform(-pi, pi, "float64"), bijectors.Chain(members)))
    side = np.linspace(-math.pi, math.pi, 80, endpoint=False)
    x = np.array(list(itertools.product(side, side)))
    density = np.exp(flow.log_prob(x))
    assert density.std() > 0.01
    close(density.mean() * (2 * math.pi) ** 2, 1.0, 0.01)
    # The same angles, a turn later; and no step where the circle is cut.
    close(flow.log_prob(x + 2 * math.pi), np.log(density), 1e-6)
    near = np.array([[math.pi - 1e-9, 0.3], [-math.pi + 1e-9, 0.3]])
    left, right = flow.log_prob(near).numpy()
    close(left, right, 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("jit", [False, True])
def test_angles_of_any_unit(dtype, jit):
    torus = bijectors.Torus(2, period=24)
    x = tf.constant([[6.0, -6.0], [18.0, 24.0], [-18.0, 0.0]], dtype)
    z, ildj = tf.function(torus.inverse_and_log_det, jit_compile=jit)(x)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    quarter = math.pi / 2
    close(z, [[quarter, -quarter], [-quarter, 0], [quarter, 0]], tolerance)
    close(ildj, np.full(3, 2 * math.log(2 * math.pi / 24)), tolerance)
    y, fldj = torus.forward_and_log_det(z)
    close(y, (x.numpy() + 12) % 24 - 12, 1e-5)
    close(fldj, -ildj, tolerance)
    off = tf.constant([[0.0, 24.1], [-25.0, 3.0], [np.nan, 0.0]], dtype)
    _, ildj = torus.inverse_and_log_det(off)
    np.testing.assert_array_equal(ildj, [-np.inf, -np.inf, np.nan])
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = torus.inverse(x)
    close(tape.gradient(z, x), np.full((3, 2), 2 * math.pi / 24), 1e-6)


def test_errors_of_angles():
    with pytest.raises(ValueError, match="period must be above 0"):
        bijectors.Torus(2, period=0)
    with pytest.raises(ValueError, match="event_shape must be at least 1"):
        bijectors.Torus(0)


def test_the_simplex_against_its_formula():
    z = tf.constant(np.random.default_rng(0).standard_normal((6, 3)))
    simplex = bijectors.Simplex(4)
    with tf.GradientTape() as tape:
        tape.watch(z)
        x, log_det = simplex.forward_and_log_det(z)
    jacobian = tape.batch_jacobian(x, z).numpy()
    areas = np.linalg.det(np.swapaxes(jacobian, 1, 2) @ jacobian)
    close(0.5 * np.log(areas), log_det)
    back, ildj = simplex.inverse_and_log_det(x)
    close(back, z)
    close(ildj, -log_det)
    # A Dirichlet is per unit of the first numbers.
    flat = tfd.LogitNormal(tf.zeros([], z.dtype), 1.0)
    two = bijectors.Simplex(2)
    of_two = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(tf.zeros([], z.dtype), 1.0), 1), two
    )
    p = tf.constant([[0.3, 0.7]], z.dtype)
    close(of_two.log_prob(p), flat.log_prob(p[:, 0]) - 0.5 * math.log(2.0))
    off = tf.constant([[0.2, 0.3, 0.5, 0.0], [0.5, 0.5, 0.5, -0.5], [0.2] * 4], z.dtype)
    with tf.GradientTape() as tape:
        tape.watch(off)
        found, ildj = simplex.inverse_and_log_det(off)
    np.testing.assert_array_equal(ildj, np.full(3, -np.inf))
    assert np.isfinite(found).all()
    assert np.isfinite(tape.gradient(found, off)).all()
    with pytest.raises(ValueError, match="event_shape must be at least 2, got 1"):
        bijectors.Simplex(1)


def test_a_density_on_the_simplex():
    """Per unit of the triangle's surface, whose area is half the root of 3."""
    network = networks.MLP(2, (8,), seed=0, dtype="float64")
    members = [
        bijectors.Simplex(3),
        bijectors.AffineCoupling(masks.half(2), network, dtype="float64"),
    ]
    base = distributions.standard_normal((2,), "float64")
    flow = perturb(Flow(base, bijectors.Chain(members)))
    n = 300
    a, b = (np.arange(n) + 0.5)[:, None] / n, (np.arange(n) + 0.5)[None, :] / n
    # A square folded on the triangle.
    a, b = (part.ravel() for part in (a * np.ones_like(b), b * np.ones_like(a)))
    a, b = np.where(a + b > 1, 1 - a, a), np.where(a + b > 1, 1 - b, b)
    x = np.stack([a, b, 1 - a - b], -1)
    density = np.exp(flow.log_prob(x[(x > 1e-9).all(-1)]))
    close(density.sum() / n**2 * math.sqrt(3) / 2, 1.0, 0.01)
    sample = flow.sample(50, seed=0)
    close(tf.reduce_sum(sample, -1), np.ones(50))
    model = FlowModel(flow)
    model.compile(keras.optimizers.Adam(0.01))
    losses = model.fit(sample.numpy(), epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
