import numpy as np
import pytest

from tfp_flows.datasets import TOYS


@pytest.fixture(scope="module", params=TOYS)
def toy(request):
    return TOYS[request.param]


@pytest.fixture(scope="module")
def grid(toy):
    """Log-densities at the middles of the cells of a grid, and a cell's area."""
    width, cells = 14.0, 140
    axis = (np.arange(cells) + 0.5) * width / cells - width / 2
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    return toy.log_prob(points), (width / cells) ** 2


def test_density_integrates_to_one(grid):
    log_p, area = grid
    assert np.exp(log_p).sum() * area == pytest.approx(1, abs=1e-3)


def test_samples_follow_the_density(toy, grid):
    log_p, area = grid
    p = np.exp(log_p) * area
    negative_entropy = (p * np.where(p > 0, log_p, 0)).sum()
    values = toy.log_prob(toy.sample(10_000, seed=1))
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - negative_entropy) < 4 * error + 1e-3


def test_samples_fill_the_density(toy):
    # Were a blade, ring or moon missing from the samples, its mass would be, too.
    axis = np.linspace(-6, 6, 13)
    counts, *_ = np.histogram2d(*toy.sample(20_000, seed=2).T, bins=[axis, axis])
    fine = (np.arange(120) + 0.5) / 10 - 6
    p = np.exp(toy.log_prob(np.stack(np.meshgrid(fine, fine, indexing="ij"), -1)))
    expected = 20_000 * p.reshape(12, 10, 12, 10).mean((1, 3))
    deviation = (counts - expected) / np.sqrt(expected + 1)
    assert np.abs(deviation).max() < 5


def test_sample_and_log_prob_shapes_and_dtypes(toy):
    x = toy.sample(6, seed=0)
    assert (x.shape, x.dtype) == ((6, 2), np.float32)
    log_p = toy.log_prob(x.reshape(2, 3, 2))
    assert (log_p.shape, log_p.dtype) == ((2, 3), np.float64)
    np.testing.assert_array_equal(log_p.ravel(), toy.log_prob(x))
    assert toy.log_prob(x[0]).shape == ()
    assert toy.sample(0, seed=0).shape == (0, 2)


def test_seeds_reproduce(toy):
    np.testing.assert_array_equal(toy.sample(50, 3), toy.sample(50, 3))
    assert (toy.sample(50, 3) != toy.sample(50, 4)).all(-1).mean() > 0.9


def test_log_prob_far_away(toy):
    log_p = toy.log_prob([[np.inf, 0], [1e200, 1], [30, 40], [np.nan, 0]])
    assert (log_p[:3] < -1000).all()
    assert np.isnan(log_p[3])


@pytest.mark.parametrize("name", ["moons", "spirals"])
def test_quadrature_agrees_with_twice_the_nodes(monkeypatch, name):
    from tfp_flows.datasets import toys

    x = np.random.default_rng(0).uniform(-8, 8, (200, 2))
    log_p = TOYS[name].log_prob(x)
    few = toys._legendre
    monkeypatch.setattr(toys, "_legendre", lambda n, a, b: few(2 * n, a, b))
    np.testing.assert_allclose(TOYS[name].log_prob(x), log_p, rtol=0, atol=1e-6)


def test_checkerboard_samples_lie_on_its_squares():
    # Rounding to float32 must not push a point over an edge.
    toy = TOYS["checkerboard"]
    assert np.isfinite(toy.log_prob(toy.sample(100_000, seed=0))).all()


def test_wrong_input(toy):
    with pytest.raises(ValueError, match=r"x must be points \[\.\.\., 2\]"):
        toy.log_prob(np.zeros([4, 3]))
    with pytest.raises(ValueError, match="n must be 0 or more, got -1"):
        toy.sample(-1, 0)
