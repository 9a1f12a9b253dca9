"""The posterior of SLCP, of which the modes are many: is it calibrated, and can a
classifier tell its samples from exact ones?

    python benchmarks/slcp.py

The exact samples are resampled by importance, from a mixture of the flow and the prior.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfp_flows import diagnostics, inference
from tfp_flows.inference import simulators


def exact(prior, one, data, proposals, count):
    """Samples of the posterior, and the effective number of the weights behind them."""
    drawn = one.sample(proposals // 5, seed=0), prior.sample(4 * proposals // 5, seed=1)
    theta = tf.concat(drawn, 0)
    log_prior = prior.log_prob(theta)
    mixture = np.logaddexp(np.log(0.2) + one.log_prob(theta), np.log(0.8) + log_prior)
    log_w = log_prior + simulators.slcp_log_likelihood(theta, data[None]) - mixture
    log_w = np.where(np.isfinite(log_w), log_w, -np.inf).astype("float64")
    w = np.exp(log_w - np.logaddexp.reduce(log_w))
    draw = np.random.default_rng(0)
    found = np.asarray(theta)[draw.choice(len(w), count, p=w)]
    # What was drawn twice shall not give it away.
    effective = inference.effective_sample_size(log_w)
    return found + 1e-6 * draw.normal(size=found.shape), effective


def main(
    simulations=10_000,
    epochs=30,
    observations=2,
    proposals=1_000_000,
    pairs=300,
    samples=1000,
):
    prior = simulators.slcp_prior()
    options = {"compiled": True}
    theta, x = inference.simulate(
        prior, simulators.slcp, simulations, seed=0, **options
    )
    posterior = inference.NeuralPosterior(prior, (8,), width=50, seed=0)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * simulations // 200)
    posterior.model.compile(keras.optimizers.Adam(rate))
    posterior.fit(theta, x, epochs=epochs, batch_size=200, verbose=0)

    truth, data = inference.simulate(prior, simulators.slcp, pairs, seed=1, **options)
    q = posterior.given(data)
    drawn, log_q = q.experimental_sample_and_log_prob(99, seed=[0, 1])
    own = q.log_prob(truth)
    print(f"log q of the truth {np.mean(own):.2f}, prior {-5 * np.log(6):.2f}")
    results = {
        "ranks": diagnostics.simulation_based_calibration(truth, drawn),
        "coverage": diagnostics.expected_coverage(own, log_q),
        "TARP": diagnostics.tarp(truth, drawn),
    }
    for i, seen in enumerate(data[:observations]):
        one = posterior.given(seen)
        right, effective = exact(prior, one, seen, proposals, samples)
        results[f"{i}: {effective:.0f} effective weights"] = (
            diagnostics.two_sample_test(right, one.sample(samples, seed=3))
        )
    for name, result in results.items():
        print(f"{name}: {result}", flush=True)
    return results


if __name__ == "__main__":
    main()
