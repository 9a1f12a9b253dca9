"""A flow on top of another one."""

from __future__ import annotations

from tfp_flows.distributions import Flow

__all__ = ["on_flow"]


def on_flow(flow: Flow, base: Flow) -> Flow:
    r"""A flow whose noise is data of another flow.

    $x = f(y)$ with $y$ from `base`. With a trained `base`, which
    `tfp_flows.training.freeze` keeps as it is, maximum likelihood on other data makes
    `flow` a map between the two sets: `encode` turns $x$ into $y$, `decode` $y$ into
    $x$ (Klein et al. 2022, "Flows for flows"). If `flow` starts as the identity, it
    moves data no farther than it has to, where `translate` between two flows that were
    trained apart pairs data at will.

    Example:
      >>> import tfp_flows
      >>> base = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> flow = on_flow(tfp_flows.flows.real_nvp((2,), width=4, seed=1), base)
      >>> flow.encode(flow.sample(3, seed=0)).shape
      TensorShape([3, 2])

    Args:
      flow: the flow that is laid on top; its own base is not used.
      base: the flow of $y$. If both take a context, it is the same one.

    Returns:
      A `Flow` with the variables of both.

    Raises:
      TypeError: if one of them is not a `Flow`.
      ValueError: if the events of `base` are not like the noise of `flow`, in shape and
        dtype.
    """
    for name, value in (("flow", flow), ("base", base)):
        if not isinstance(value, Flow):
            raise TypeError(f"{name} must be a Flow, got {type(value).__name__}.")
    wanted, found = flow.distribution.event_shape, base.event_shape
    if (wanted, flow.dtype) != (found, base.dtype):
        raise ValueError(
            f"the events of base have shape {found} and dtype {base.dtype.name}, the "
            f"noise of flow {wanted} and {flow.dtype.name}: they must be the same."
        )
    return flow.copy(distribution=base)
