"""Eight schools: three surrogates, and mean +- deviation of mu and tau beside NUTS.

python examples/eight_schools.py
"""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import inference

tfd, BUILD = tfp.distributions, tfp.experimental.vi
LEARN = keras.optimizers.schedules.CosineDecay
Y = np.array([28, 8, -3, 7, -1, 1, 18, 12], "float32")
S = np.array([15, 10, 16, 11, 9, 11, 10, 18], "float32")


@tfd.JointDistributionCoroutineAutoBatched
def model():
    mu = yield tfd.Normal(0.0, 5.0, name="mu")
    tau = yield tfd.HalfCauchy(0.0, 5.0, name="tau")
    theta = yield tfd.Normal(mu * tf.ones(8), tau, name="theta")
    yield tfd.Normal(theta, S, name="y")


def log_prob(mu, log_tau, effect):
    """In standardised effects, where NUTS mixes; 9 log tau is the Jacobian."""
    theta = mu[:, None] + tf.exp(log_tau)[:, None] * effect
    return model.log_prob([mu, tf.exp(log_tau), theta, Y]) + 9 * log_tau


def main(steps=3000, nuts_steps=2000):
    keras.utils.set_random_seed(0)
    pinned, found = model.experimental_pin(y=Y), {}
    support = pinned.experimental_default_event_space_bijector()
    shapes = {"event_shape": pinned.event_shape, "bijector": support}
    normal = BUILD.build_affine_surrogate_posterior(operators="tril", **shapes)
    for name, rate, q in [
        ("mean field", 0.05, BUILD.build_factored_surrogate_posterior(**shapes)),
        ("normal", 0.05, normal),
        ("flow", 0.01, inference.surrogate_posterior(pinned, seed=0)),
    ]:
        fit = inference.VariationalModel(pinned, q, path_gradient=name == "flow")
        fit.compile(keras.optimizers.Adam(LEARN(rate, steps)))
        fit.fit(steps, verbose=0, seed=0)
        found[name] = fit.importance_sampling()
        print(f"{name}: {found[name]}")
    kernel = tfp.mcmc.NoUTurnSampler(log_prob, 0.3, max_tree_depth=6)
    start = [tf.zeros([32]), tf.zeros([32]), tf.zeros([32, 8])]
    sample = tf.function(tfp.mcmc.sample_chain, jit_compile=True)
    mu, log_tau, _ = sample(nuts_steps, start, None, kernel, 200, 0, None, seed=[0, 1])
    samples = {name: result.samples[:2] for name, result in found.items()}
    for name, parts in {**samples, "NUTS": (mu, tf.exp(log_tau))}.items():
        print(name, *(f"{np.mean(part):.2f} +- {np.std(part):.2f}" for part in parts))
    return found, mu, log_tau


if __name__ == "__main__":
    main()
