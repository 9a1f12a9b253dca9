"""Variational inference for eight schools (Gelman et al. 2013, section 5.5).

Effects of coaching in eight schools: the posterior of their mean mu and deviation tau
is a funnel. Three surrogates are compared by their bounds and importance weights, and
by moments with a long run of NUTS.

    python examples/eight_schools.py
"""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows import inference

Y = np.array([28, 8, -3, 7, -1, 1, 18, 12], "float32")
S = np.array([15, 10, 16, 11, 9, 11, 10, 18], "float32")


@tfd.JointDistributionCoroutineAutoBatched
def model():
    mu = yield tfd.Normal(0.0, 5.0, name="mu")
    tau = yield tfd.HalfCauchy(0.0, 5.0, name="tau")
    theta = yield tfd.Normal(mu * tf.ones(8), tau, name="theta")
    yield tfd.Normal(theta, S, name="y")


@tf.function(jit_compile=True)
def nuts(steps):
    """Samples of mu and tau by 32 chains; standard effects, since NUTS mixes there."""

    def log_prob(mu, log_tau, effect):
        theta = mu[:, None] + tf.exp(log_tau)[:, None] * effect
        parts = model.log_prob_parts([mu, tf.exp(log_tau), theta, Y])
        effects = tf.reduce_sum(tfd.Normal(0.0, 1.0).log_prob(effect), -1)
        return parts.mu + parts.tau + log_tau + effects + parts.y

    kernel = tfp.mcmc.NoUTurnSampler(log_prob, step_size=0.3, max_tree_depth=6)
    start = [tf.zeros([32]), tf.zeros([32]), tf.zeros([32, 8])]
    return tfp.mcmc.sample_chain(steps, start, None, kernel, 200, 0, None, seed=[0, 1])


def main(steps=3000, nuts_steps=2000):
    pinned = model.experimental_pin(y=Y)
    support = pinned.experimental_default_event_space_bijector()
    shapes = {"event_shape": pinned.event_shape, "bijector": support}
    build, found = tfp.experimental.vi, {}
    for name, surrogate in {
        "mean field": build.build_factored_surrogate_posterior(**shapes),
        "normal": build.build_affine_surrogate_posterior(operators="tril", **shapes),
        "flow": inference.surrogate_posterior(pinned, seed=0),
    }.items():
        fit = inference.VariationalModel(pinned, surrogate, sample_size=64)
        rate = keras.optimizers.schedules.CosineDecay(0.01, steps)
        fit.compile(keras.optimizers.Adam(rate))
        fit.fit(steps, verbose=0, seed=0)
        found[name] = fit.importance_sampling()
        mu, tau, _ = found[name].samples
        found[name + " moments"] = moments(mu, tau)
        print(f"{name}: {found[name]}, {found[name + ' moments']}")
    mu, log_tau, _ = nuts(nuts_steps)
    found["NUTS moments"] = moments(mu, tf.exp(log_tau))
    print("NUTS:", found["NUTS moments"])
    return found


def moments(mu, tau):
    return {
        k: (np.mean(v).round(2), np.std(v).round(2))
        for k, v in [("mu", mu), ("tau", tau)]
    }


if __name__ == "__main__":
    main()
