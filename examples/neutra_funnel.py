"""NeuTra on Neal's funnel and on a banana (Hoffman et al. 2019).

NUTS moves in the space of a target, or in the noise of a flow trained on it. Effective
samples, of the worst of all entries and their squares, are divided by evaluations of
the gradient; the deviation of the funnel's first entry is 3, of the banana's 10.

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


def nuts(name, kernel, start, steps, burn_in=300):
    """Runs 32 chains with an adapted step size; prints and returns what they are worth."""
    kernel = tfp.mcmc.DualAveragingStepSizeAdaptation(kernel, burn_in)

    def count(_, results):
        inner = results.inner_results
        return getattr(inner, "inner_results", inner).leapfrogs_taken

    (v, x), gradients = tf.function(tfp.mcmc.sample_chain)(
        steps, start, None, kernel, burn_in, 0, count, seed=[0, 1]
    )
    x = tf.concat([v[..., None], x], -1)
    ess = np.min(
        tfp.mcmc.effective_sample_size(
            tf.concat([x, x**2], -1),
            filter_beyond_positive_pairs=True,
            cross_chain_dims=1,
        )
    )
    rate, deviation = ess / np.sum(gradients), np.std(v)
    print(
        f"{name}: {1000 * rate:.2f} effective samples per 1000 gradients "
        f"({ess:.0f} of {np.size(v)}), deviation {deviation:.2f}"
    )
    return rate, deviation


def main(train_steps=2000, steps=500):
    found = {}
    for model in (funnel, banana):
        name, start = model.name, model.sample(32, seed=1)
        surrogate = inference.surrogate_posterior(model, seed=0)
        fit = inference.VariationalModel(model, surrogate, sample_size=64)
        rate = keras.optimizers.schedules.CosineDecay(0.01, train_steps)
        fit.compile(keras.optimizers.Adam(rate))
        fit.fit(train_steps, verbose=0, seed=0)
        print(name, fit.importance_sampling())
        plain = tfp.mcmc.NoUTurnSampler(model.log_prob, 0.1, max_tree_depth=7)
        through = inference.neutra(model, surrogate, step_size=0.1, max_tree_depth=7)
        for kind, kernel in {"NUTS": plain, "NeuTra": through}.items():
            found[name, kind] = nuts(f"{name}, {kind}", kernel, start, steps)
    return found


if __name__ == "__main__":
    main()
