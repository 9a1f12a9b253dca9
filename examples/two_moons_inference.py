"""The posterior of a simulator by a flow (Greenberg et al. 2019): how well a classifier
tells its samples from exact ones (0.5: not at all), and whether it is calibrated.

    python examples/two_moons_inference.py
"""

import time

import keras
import numpy as np

from tfp_flows import diagnostics, inference
from tfp_flows.inference import simulators


def main(simulations=10_000, epochs=60, observations=3, samples=1000):
    prior = simulators.two_moons_prior()
    start = time.perf_counter()
    theta, x = inference.simulate(
        prior, simulators.two_moons, simulations, compiled=True, seed=0
    )
    print(f"{simulations} simulations: {time.perf_counter() - start:.1f} s")

    start = time.perf_counter()
    posterior = inference.NeuralPosterior(prior, x.shape[1:], width=50, seed=0)
    steps = epochs * -(-simulations // 200)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    posterior.model.compile(keras.optimizers.Adam(rate))
    posterior.fit(theta, x, epochs=epochs, batch_size=200, verbose=0)
    print(f"{steps} steps: {time.perf_counter() - start:.1f} s")

    _, observed = inference.simulate(prior, simulators.two_moons, observations, seed=1)
    accuracies = []
    for i, x in enumerate(observed):
        exact = simulators.two_moons_posterior(x, samples, seed=i)
        found = posterior.given(x).sample(samples, seed=i)
        test = diagnostics.two_sample_test(exact, found)
        print(f"observation {x.round(2)}: {test}")
        accuracies.append(test.accuracy)
    print(f"mean C2ST {np.mean(accuracies):.3f}")

    truth, x = inference.simulate(prior, simulators.two_moons, 300, seed=2)
    draws, log_q = posterior.given(x).experimental_sample_and_log_prob(99, seed=[0, 3])
    own = posterior.given(x).log_prob(truth)
    results = {
        "ranks": diagnostics.simulation_based_calibration(truth, draws),
        "coverage": diagnostics.expected_coverage(own, log_q),
        "TARP": diagnostics.tarp(truth, draws),
    }
    for name, result in results.items():
        print(f"{name}: {result}")
    return np.mean(accuracies), results


if __name__ == "__main__":
    main()
