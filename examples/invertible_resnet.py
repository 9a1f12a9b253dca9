"""An invertible ResNet that classifies and generates (Behrmann et al. 2019).

A residual flow is a ResNet whose blocks can be inverted. Its feature maps feed a linear
classifier, while the change of variables gives the density of the images: one network
is trained for both, on scikit-learn's digits.

    python examples/invertible_resnet.py
"""

import keras
import numpy as np

from tfp_flows import datasets, distributions, flows, models


def main(epochs=20, blocks=2, width=32):
    """Trains; returns the model, test accuracy and test bits per dimension."""
    keras.utils.set_random_seed(0)
    source = datasets.load("digits")
    flow = flows.residual_flow(
        (8, 8, 1), levels=2, layers=blocks, width=width, bounds=(0, 17), seed=0
    )
    # Bits per dimension and nats for the class, as 1 / (64 log 2) weighs nats.
    model = models.HybridModel(flow, 10, 1 / (64 * np.log(2)), dequantize=True)
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(*source.arrays("train"), batch_size=100, epochs=epochs, verbose=2)
    test, labels = source.arrays("test")
    result = model.evaluate(test, labels, batch_size=297, verbose=0, return_dict=True)
    print(f"test accuracy      {result['accuracy']:.3f}")
    noisy = test[:64] + np.random.default_rng(0).uniform(size=(64, 8, 8, 1))
    log_prob, error = distributions.log_prob_and_standard_error(flow, noisy, draws=8)
    bits = -np.mean(log_prob) / (64 * np.log(2))
    error = np.sqrt(np.sum(np.square(error))) / len(error) / (64 * np.log(2))
    print(f"test bits/dim      {result['bits_per_dim']:.4f}")
    print(f"64 test images     {bits:.4f}, estimated to {error:.4f}")
    return model, result["accuracy"], result["bits_per_dim"]


if __name__ == "__main__":
    main()
