"""Data-dependent initialisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_flows.bijectors import JointBijector
from tfp_flows.core.from_tfp import adapt
from tfp_flows.distributions.inputs import as_data
from tfp_flows.training.data_checks import START_NUMBERS, START_ROWS, Data

__all__ = ["initialize", "needs_initialization", "start_of"]


def needs_initialization(flow: tf.Module) -> bool:
    """Whether a flow has parts that `initialize` still has to set from data.

    Args:
      flow: a `Flow`, or another TFP distribution.

    Returns:
      A bool.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import flows
      >>> flow = flows.glow((4, 4, 1), levels=1, steps=1, width=4, seed=0)
      >>> needs_initialization(flow)
      True
      >>> z = initialize(flow, np.random.default_rng(0).normal(size=[8, 4, 4, 1]))
      >>> needs_initialization(flow)
      False
    """
    own = getattr(flow, "needs_initialization", None)
    if own is not None:
        return bool(own)
    bijectors = (m for m in flow.submodules if isinstance(m, JointBijector))
    parts = (*bijectors, getattr(flow, "distribution", None))
    return any(getattr(part, "needs_initialization", False) for part in parts)


def initialize(flow: Any, batch: Any, context: Any = None) -> tf.Tensor:
    """Passes data through a flow and sets the parts that start from data.

    Each `ActNorm` takes the mean and standard deviation of its input (Kingma & Dhariwal
    2018, section 3.1), each `Scaling` with `data_dependent=True` the deviations, each
    `MarginalGaussianization` the quantiles. Parts that were initialised before, or
    restored from a file, stay as they are. The more data, the better: `FlowModel.fit`
    takes up to 10,000 examples.

    Example:
      >>> import numpy as np
      >>> from tfp_flows import flows
      >>> flow = flows.glow((4, 4, 1), levels=1, steps=1, width=4, seed=0)
      >>> initialize(flow, np.random.default_rng(0).normal(size=[8, 4, 4, 1])).shape
      TensorShape([8, 16])

    Args:
      flow: a `Flow`, or another TFP distribution with a `bijector`.
      batch: data `[*batch, *event_shape]`; a `LowerBound` first draws what its flow
        takes.
      context: `[*batch, *context_shape]` for a flow with a context.

    Returns:
      The noise of the batch, `[*batch, *distribution.event_shape]`.

    Raises:
      ValueError: on an empty batch, a wrong shape or a missing context.
      TypeError: on what holds no real numbers, or masked entries.
    """
    batch = tf.cast(as_data(batch, flow.dtype, "batch"), flow.dtype)
    if hasattr(flow, "initialize"):
        return flow.initialize(batch, context=context)
    keywords = {} if context is None else {"context": context}
    if hasattr(flow, "_keywords"):
        keywords = flow._keywords(keywords)
    z = adapt(flow.bijector).initialize(batch, **keywords)
    if getattr(flow.distribution, "needs_initialization", False):
        flow.distribution.initialize(z)
    return z


def start_of(data: Data) -> Data:
    """The examples that a flow is initialised from: all, or a random choice.

    There are at most 10,000 of them, and fewer if they would hold more than 2^19
    numbers. The choice does not depend on any seed.
    """
    n = len(data.x)
    rows = max(min(START_ROWS, START_NUMBERS // max(data.x[0].size, 1)), 32)
    if n <= rows:
        return data
    chosen = np.sort(np.random.default_rng(0).choice(n, rows, replace=False))
    return data.map(lambda part: part[chosen])
