"""TensorFlow traces a step once, whatever the batches: a trace takes seconds."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import tfp_flows
from tests.training.support import contexts, points, vector
from tfp_flows import datasets


class Counted(tfp_flows.FlowModel):
    """Counts how often its steps are traced; they run far more often."""

    def __init__(self, flow):
        super().__init__(flow)
        self.traces = {"train": 0, "test": 0, "predict": 0}

    def train_step(self, data):
        self.traces["train"] += 1
        return super().train_step(data)

    def test_step(self, data):
        self.traces["test"] += 1
        return super().test_step(data)

    def predict_step(self, data):
        self.traces["predict"] += 1
        return super().predict_step(data)


def counted(**options) -> Counted:
    return Counted(vector(layers=1, depth=1, **options))


# Batches of 8 and a last one of 4, for validation of 8 and 3.
X, HELD_OUT = points(20), points(11, seed=1)


def batches(*arrays):
    data = arrays if len(arrays) > 1 else arrays[0]
    return tf.data.Dataset.from_tensor_slices(data).batch(8)


def source():
    found = datasets.load(X, validation=0, test=0)
    return {
        "x": found.dataset("train", 8, shuffle=True, epochs=4),
        "steps_per_epoch": found.steps("train", 8),
    }


CASES = {
    "arrays": lambda: {"x": X, "batch_size": 8},
    "weights": lambda: {"x": X, "sample_weight": np.ones(20), "batch_size": 8},
    "dataset": lambda: {"x": batches(X), "validation_data": batches(HELD_OUT)},
    "source": source,
    "context": lambda: {
        "x": X,
        "y": contexts(20),
        "batch_size": 8,
        "validation_data": (HELD_OUT, contexts(11)),
    },
}


@pytest.mark.parametrize(
    ("case", "jit_compile"),
    [
        *((case, False) for case in CASES),
        pytest.param("dataset", True, marks=pytest.mark.slow),
    ],
)
def test_fit_traces_once(case, jit_compile):
    model = counted(context_shape=(3,) if case == "context" else None)
    model.compile("adam", jit_compile=jit_compile)
    arguments = CASES[case]()
    for _ in range(2):
        model.fit(epochs=2, verbose=0, **arguments)
    validated = int("validation_data" in arguments)
    assert model.traces == {"train": 1, "test": validated, "predict": 0}


def test_evaluate_and_predict_trace_at_most_twice():
    """Batches of arrays have a fixed size, a second one of which sets it free."""
    model = counted()
    model.compile("adam")
    for x in (HELD_OUT, X, HELD_OUT[:5]):
        model.evaluate(x, batch_size=8, verbose=0)
        model.predict(x, batch_size=8, verbose=0)
    assert model.traces["train"] == 0
    assert model.traces["test"] == 1
    assert model.traces["predict"] <= 2


def test_a_number_of_samples_is_no_reason_to_trace():
    flow = vector(layers=1, depth=1)
    traces = []

    @tf.function
    def sample(n, seed):
        traces.append(n)
        return flow.sample(n, seed=seed)

    drawn = [sample(tf.constant(n), tf.constant([0, n])) for n in (3, 5, 4)]
    assert len(traces) == 1
    assert [x.shape for x in drawn] == [(3, 2), (5, 2), (4, 2)]
    assert (drawn[0] != drawn[1][:3]).numpy().all()
