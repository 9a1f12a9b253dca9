"""Bayesian logistic regression on breast cancer data, with a learned prior scale.

python examples/logistic_regression.py
"""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.datasets import load_breast_cancer

from tfp_flows import inference

tfd = tfp.distributions


def make_model(x):
    @tfd.JointDistributionCoroutineAutoBatched
    def model():
        scale = yield tfd.HalfNormal(1.0, name="scale")
        weights = yield tfd.Normal(tf.zeros(x.shape[1]), scale, name="weights")
        yield tfd.Bernoulli(logits=tf.linalg.matvec(x, weights), name="y")

    return model


def main(steps=2000, features=10):
    keras.utils.set_random_seed(0)
    x, y = load_breast_cancer(return_X_y=True)
    x = x[:, :features]
    x = np.c_[np.ones(len(x)), (x - x.mean(0)) / x.std(0)].astype("float32")
    train, test = slice(0, 400), slice(400, None)
    pinned = make_model(x[train]).experimental_pin(y=y[train])
    build, found = tfp.experimental.vi, {}
    support = pinned.experimental_default_event_space_bijector()
    shapes = {"event_shape": pinned.event_shape, "bijector": support}
    normal = build.build_affine_surrogate_posterior(operators="tril", **shapes)
    for name, rate, q in [
        ("mean field", 0.05, build.build_factored_surrogate_posterior(**shapes)),
        ("normal", 0.05, normal),
        ("flow", 0.01, inference.surrogate_posterior(pinned, seed=0)),
    ]:
        fit = inference.VariationalModel(pinned, q, path_gradient=name == "flow")
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
        fit.compile(keras.optimizers.Adam(rate))
        fit.fit(steps, verbose=0, seed=0)
        found[name] = fit.importance_sampling()
        logits = tf.linalg.matmul(
            found[name].samples.weights, x[test], transpose_b=True
        )
        p = np.mean(tf.sigmoid(logits), 0)
        nats = -np.mean(np.log(np.where(y[test], p, 1 - p)))
        accuracy = np.mean((p > 0.5) == y[test])
        print(f"{name}: {found[name]}")
        print(f"    test accuracy {accuracy:.3f}, {nats:.3f} nats")
    return found


if __name__ == "__main__":
    main()
