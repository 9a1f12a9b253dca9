"""An invertible ResNet that classifies and generates (Behrmann et al. 2019).

A residual flow is a ResNet whose blocks can be inverted. Its feature maps feed a linear
classifier, while the change of variables gives the density of the images: one network
is trained for both, on scikit-learn's digits.

    python examples/invertible_resnet.py
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import tfp_flows


class InvertibleResNet(keras.Model):
    """Logits of the class; the loss adds `weight` times the bits per dimension."""

    def __init__(self, flow: tfp_flows.Flow, classes: int, weight: float):
        super().__init__()
        self.density = tfp_flows.FlowModel(flow)
        self.classifier = keras.layers.Dense(classes)
        self.weight = weight
        self.bits_per_dim = keras.metrics.Mean(name="bits_per_dim")

    def call(self, x, training=False):
        flow = self.density.flow
        # Features and log-determinant come from one pass.
        z, log_det = flow.bijector.inverse_and_log_det(x, training=bool(training))
        log_prob = flow.distribution.log_prob(z) + log_det
        bits = -log_prob / (flow.event_shape.num_elements() * np.log(2.0))
        self.add_loss(self.weight * tf.reduce_mean(bits))
        self.bits_per_dim.update_state(bits)
        return self.classifier(tf.reshape(z, [-1, z.shape[1:].num_elements()]))


def load(seed: int = 0):
    """Dequantised digits in (0, 17), 1,500 to train and 297 to test."""
    draw = np.random.default_rng(seed)
    images, labels = load_digits(return_X_y=True)
    order = draw.permutation(len(images))
    images = images[order].reshape(-1, 8, 8, 1) + draw.uniform(
        size=(len(order), 8, 8, 1)
    )
    images, labels = images.astype("float32"), labels[order]
    return (images[:1500], labels[:1500]), (images[1500:], labels[1500:])


def main(epochs: int = 20, blocks: int = 2, width: int = 32, weight: float = 1.0):
    """Trains; returns the model, test accuracy and test bits per dimension."""
    keras.utils.set_random_seed(0)
    train, test = load()
    flow = tfp_flows.flows.residual_flow(
        (8, 8, 1), levels=2, layers=blocks, width=width, bounds=(0, 17), seed=0
    )
    tfp_flows.training.initialize(flow, train[0][:256])
    model = InvertibleResNet(flow, classes=10, weight=weight)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(*train, batch_size=100, epochs=epochs, verbose=2)
    result = model.evaluate(*test, batch_size=297, verbose=0, return_dict=True)
    print(f"test accuracy      {result['accuracy']:.3f}")
    log_prob, error = tfp_flows.distributions.log_prob_and_standard_error(
        flow, test[0][:64], draws=8
    )
    bits = -np.mean(log_prob) / (64 * np.log(2.0))
    error = np.sqrt(np.sum(np.square(error))) / len(error) / (64 * np.log(2.0))
    print(f"test bits/dim      {result['bits_per_dim']:.4f}")
    print(f"64 test images     {bits:.4f}, estimated to {error:.4f}")
    return model, result["accuracy"], result["bits_per_dim"]


if __name__ == "__main__":
    main()
