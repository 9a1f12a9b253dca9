"""Free-form flows (Draxler et al. 2024): two networks without a constraint, on the two
moons, whose density is known.

    python examples/free_form_flow.py
"""

import time

import keras
import numpy as np

from tfp_flows import datasets, models, networks


def network(seed, width=64, depth=3):
    """A residual network that starts as the identity."""
    x = keras.Input((2,))
    inner = networks.ResidualMLP(2, width, depth, activation="silu", seed=seed)
    return keras.Model(x, keras.layers.Add()([x, inner(x)]))


def main(weights=(10.0, 30.0, 100.0), epochs=80):
    toy = datasets.TOYS["moons"]
    x, test = toy.sample(10_000, seed=0), toy.sample(5_000, seed=1)
    true = toy.log_prob(test)
    print(f"true density: {-true.mean():.3f} nats")
    # Cells of a grid, in which the density has to add up to one.
    side = np.linspace(-6.0, 6.0, 301, dtype="float32")
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    found = {}
    for weight in weights:
        keras.utils.set_random_seed(0)
        start = time.process_time()
        model = models.FreeFormFlow(network(0), network(1), (2,), weight)
        rate = keras.optimizers.schedules.CosineDecay(2e-3, epochs * 40)
        model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0))
        model.fit(x, batch_size=256, epochs=epochs, verbose=0)
        seconds = time.process_time() - start
        scores = model.evaluate(test, verbose=0, return_dict=True)
        density = model.predict(grid, batch_size=10_000, verbose=0)
        total = np.exp(density).sum() * (side[1] - side[0]) ** 2
        # How likely samples of the decoder are in truth.
        sampled = toy.log_prob(model.sample(5_000, seed=0)).mean()
        found[weight] = {**scores, "total": total, "sampled": sampled}
        print(
            f"weight {weight:g}: {scores['nll']:.3f} nats, density adds up to "
            f"{total:.3f}, reconstruction {scores['reconstruction']:.1e}; true density "
            f"of samples {-sampled:.3f} nats; {seconds:.0f} s"
        )
    return found


if __name__ == "__main__":
    main()
