"""Parts of a model that are not trained."""

from __future__ import annotations

from typing import Any

from tfp_flows.core.keras_internals import storage

__all__ = ["freeze"]


def freeze(model: Any, part: Any, trainable: bool = False) -> None:
    """Keeps a part of a model's flow as it is: its base, a bijector.

    Like `layer.trainable = False` in Keras, it takes effect at the next `compile`.

    Example:
      >>> import tfp_flows
      >>> base = tfp_flows.flows.nice((2,), width=4, seed=0)
      >>> top = tfp_flows.flows.real_nvp((2,), width=4, seed=1)
      >>> model = tfp_flows.FlowModel(tfp_flows.latent.on_flow(top, base))
      >>> freeze(model, base)
      >>> model.compile("adam")
      >>> len(model.trainable_variables) == len(top.trainable_variables)
      True

    Args:
      model: a `FlowModel`.
      part: a distribution or bijector within `model.flow`.
      trainable: whether it is to be trained after all.

    Raises:
      ValueError: if `part` has no variables, or not all of them are in the model.
    """
    inside = {v.ref() for v in part.variables}
    rows = [
        row
        for row in model.rows
        if row.variables and all(storage(v).ref() in inside for v in row.variables)
    ]
    if not inside or inside != {storage(v).ref() for r in rows for v in r.variables}:
        raise ValueError(
            f"part must be a distribution or bijector of {model.flow.name} that owns "
            f"variables, got {part.name}."
        )
    for row in rows:
        row.trainable = trainable
