"""A continuous flow on two moons, by likelihood and by flow matching, in the same time.

python examples/flow_matching.py
"""

import time

import keras
import numpy as np

from tfp_flows import FlowModel, datasets, flows
from tfp_flows.training import FlowMatching

MATCHING, PAIRED = "flow matching", "flow matching, paired"
STRAIGHT = {"kinetic_energy": 0.01, "jacobian_norm": 0.01}
WAYS = {"likelihood": {}, "likelihood, adjoint": {"gradients": "adjoint"}}
WAYS |= {"likelihood, straight paths": STRAIGHT, MATCHING: {}, PAIRED: {}}


class Within(keras.callbacks.Callback):
    """Trains for some seconds of the processor; the learning rate falls to zero."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.steps = seconds, 0

    def on_train_batch_end(self, batch, logs=None):
        if self.steps == 0:  # It was traced.
            self.start = time.process_time()
        self.steps += 1
        done = min((time.process_time() - self.start) / self.seconds, 1.0)
        self.model.optimizer.learning_rate = 1e-3 * (1 + np.cos(np.pi * done))
        self.model.stop_training = done == 1.0


def main(seconds=60.0, ways=tuple(WAYS), **options):
    toy = datasets.TOYS["moons"]
    x, test = toy.sample(100_000, seed=0), toy.sample(5000, seed=1)
    print(f"truth: {-np.mean(toy.log_prob(test)):.3f} nats")
    found = {}
    for way in ways:
        keras.utils.set_random_seed(0)
        flow = flows.ffjord((2,), seed=0, **options, **WAYS[way])
        pairing = "optimal_transport" if way == PAIRED else "independent"
        matches = way in (MATCHING, PAIRED)
        model = FlowMatching(flow, pairing) if matches else FlowModel(flow)
        model.compile(keras.optimizers.Adam(2e-3))
        within = Within(seconds)
        model.fit(x, batch_size=256, epochs=1000, callbacks=[within], verbose=0)
        nats = -np.mean(flow.log_prob(test))
        error = np.abs(flow.decode(flow.encode(test)) - test).max()
        print(
            f"{way}: {within.steps} steps, {nats:.3f} nats, there and back {error:.1e}"
        )
        found[way] = within.steps, nats, error
    return found


if __name__ == "__main__":
    main()
