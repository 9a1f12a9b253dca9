"""Contact rates of epidemics by flows, of rates given tests and of tests given rates.

python examples/epidemic_inference.py
"""

import keras
import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

from tfp_flows import diagnostics, inference
from tfp_flows.inference import simulators

LEVELS = 0.001, 0.05, 0.5, 0.95, 0.999


def on_grid(log_density, y, size=100):
    """Quantiles of the contact rate, from a density on grids of logarithms."""
    axes = [np.log(m) + np.linspace(-2, 2, size) for m in (0.4, 0.125)]
    for _ in range(3):  # Each is where the one before it has mass.
        grid = np.exp(np.meshgrid(*axes, indexing="ij")).reshape(2, -1)
        log_p = log_density({"contact": grid[0], "recovery": grid[1]}, y)
        log_p = np.asarray(log_p, float) + np.log(grid).sum(0)
        p = np.exp(log_p - log_p.max()).reshape(size, size)
        below, shown = (p.sum(1).cumsum() - p.sum(1) / 2) / p.sum(), axes[0]
        for k, mass in enumerate((p.sum(1), p.sum(0))):
            kept, step = axes[k][mass > 1e-6 * mass.max()], np.diff(axes[k])[0]
            axes[k] = np.linspace(kept[0] - step, kept[-1] + step, size)
    return np.exp(np.interp(LEVELS, below, shown))


def main(simulations=5000, epochs=40, observations=3, pairs=1000):
    prior, options = simulators.sir_prior(), {"width": 32, "layers": 3, "seed": 0}
    theta, x = inference.simulate(prior, simulators.sir, simulations, seed=0)
    truth, data = inference.simulate(prior, simulators.sir, pairs, seed=1)
    noise = np.random.default_rng(0).uniform(size=x.shape)  # for a density of counts
    posterior = inference.NeuralPosterior(prior, (10,), **options)
    likelihood = inference.NeuralLikelihood(prior, (10,), **options)
    for model, seen in ((posterior, x), (likelihood, np.sqrt(x + noise))):
        rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * len(x) // 100)
        model.model.compile(keras.optimizers.Adam(rate))
        model.fit(theta, seen, epochs=epochs, batch_size=100, verbose=0)
    joint, seen = likelihood.joint(), data[:observations]
    ways = {
        "exact": lambda t, y: prior.log_prob(t) + simulators.sir_log_likelihood(t, y),
        "likelihood": lambda t, y: joint.log_prob(parameters=t, data=np.sqrt(y + 0.5)),
    }
    found = {k: np.stack([on_grid(f, y) for y in seen]) for k, f in ways.items()}
    draws = posterior.given(seen).sample(10_000, seed=0)
    found["posterior"] = np.quantile(draws["contact"], LEVELS, axis=0).T
    for name, values in found.items():
        print(f"{name}:\n{values.round(4)}", flush=True)
    u, one = posterior.bijector.inverse(truth), posterior.given(data).sample(seed=1)
    print("PIT:", diagnostics.pit(posterior.model.flow.given(data), u))
    test = {"permutations": 19, "classifier": ExtraTreesClassifier(min_samples_leaf=10)}
    print(diagnostics.local_two_sample_test(truth, one, data, draws, seen, **test))
    return found


if __name__ == "__main__":
    main()
