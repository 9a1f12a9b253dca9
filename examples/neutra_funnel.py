"""NeuTra (Hoffman et al. 2019): effective samples, of the worst of all entries and
their squares, by evaluations of the gradient. First entries deviate by 3 and by 10.

    python examples/neutra_funnel.py
"""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfp_flows import inference


@tfd.JointDistributionCoroutineAutoBatched
def funnel():
    v = yield tfd.Normal(0.0, 3.0, name="v")
    yield tfd.Normal(tf.zeros(9), tf.exp(v / 2), name="x")


@tfd.JointDistributionCoroutineAutoBatched
def banana():
    v = yield tfd.Normal(0.0, 10.0, name="v")
    yield tfd.Normal([0.03 * (v**2 - 100)], 1.0, name="x")


def worth(name, kernel, leaps, start, steps):
    """Runs a kernel; prints and returns effective samples per 1000 gradients."""
    kernel = tfp.mcmc.DualAveragingStepSizeAdaptation(kernel, 200)
    sample = tf.function(tfp.mcmc.sample_chain)
    v, x = sample(steps, start, None, kernel, 200, 0, None, seed=[0, 1])
    x = tf.concat([v[..., None], x, v[..., None] ** 2, x**2], -1)
    options = {"filter_beyond_positive_pairs": True, "cross_chain_dims": 1}
    rate = 1000 * np.min(tfp.mcmc.effective_sample_size(x, **options))
    rate /= leaps * np.size(v)
    print(f"{name}: {rate:.2f} per 1000 gradients, deviation {np.std(v):.2f}")
    return rate


def main(train_steps=2000, steps=1000, hmc=tfp.mcmc.HamiltonianMonteCarlo):
    found = {}
    for name, model in {"funnel": funnel, "banana": banana}.items():
        q = inference.surrogate_posterior(model, seed=0)
        fit = inference.VariationalModel(model, q, path_gradient=True, sample_size=128)
        rate = keras.optimizers.schedules.CosineDecay(0.01, train_steps)
        fit.compile(keras.optimizers.Adam(rate))
        fit.fit(train_steps, verbose=0, seed=0)
        print(f"{name}, flow: {fit.importance_sampling()}")
        plain = hmc(model.log_prob, step_size=0.1, num_leapfrog_steps=8)
        options = {"step_size": 0.1, "num_leapfrog_steps": 4}
        through = inference.neutra(model, q, hmc, **options)
        for kind, kernel, leaps in (("HMC", plain, 8), ("NeuTra", through, 4)):
            start, label = model.sample(32, seed=1), f"{name}, {kind}"
            found[label] = worth(label, kernel, leaps, start, steps)
    return found


if __name__ == "__main__":
    main()
