"""The dimension of data: a bent plane in five dimensions, by three methods.

NICE's scales, singular values of a Jacobian, and how densities fall with noise.

    python examples/intrinsic_dimension.py
"""

import keras
import numpy as np

import tfp_flows
from tfp_flows import latent


def surface(count, seed):
    draw = np.random.default_rng(seed)
    u, v = draw.normal(size=(2, count))
    flat = np.stack([2 * u, v, 0.3 * u**2, 0.2 * u * v, 0 * u], 1)
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    return flat @ axes, draw


def fit(flow, x, context, epochs):
    model = tfp_flows.FlowModel(flow)
    steps = epochs * -(-len(x) // 256)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, steps)
    model.compile(keras.optimizers.Adam(rate))
    model.fit(x, context, batch_size=256, epochs=epochs, verbose=0)


def main(count=8_000, epochs=30, noise=0.02):
    keras.utils.set_random_seed(0)
    clean, draw = surface(count, seed=1)
    test = surface(200, seed=2)[0]
    x = clean + noise * draw.normal(size=clean.shape)
    nice = tfp_flows.flows.nice(
        (5,), layers=6, width=64, base="normal", normalize=False, seed=0
    )
    fit(nice, x, None, epochs)
    scales = latent.scale_spectrum(nice)
    values = latent.jacobian_singular_values(nice, test)
    # One flow for all levels of noise, whose logarithm is the context.
    logs = draw.uniform(np.log(0.02), np.log(0.2), size=(count, 1))
    flow = tfp_flows.flows.real_nvp(
        (5,), layers=6, width=64, context_shape=(1,), normalize=False, seed=0
    )
    fit(flow, clean + np.exp(logs) * draw.normal(size=clean.shape), logs, epochs)
    at = np.geomspace(0.03, 0.12, 5)
    log_prob = [flow.log_prob(test, context=[[np.log(level)]]) for level in at]
    slope = latent.dimension_from_noise(log_prob, at, 5)
    found = [latent.dimension_from_spectrum(s) for s in (scales, values)]
    print(f"NICE's scales   {scales.round(3)}: {found[0]}")
    print(f"singular values {np.exp(np.log(values).mean(0)).round(3)}: {found[1]}")
    print(f"slope in noise  {np.median(slope):.2f} +- {slope.std():.2f}")
    return *found, np.median(slope)


if __name__ == "__main__":
    main()
