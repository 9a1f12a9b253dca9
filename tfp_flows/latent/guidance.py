"""Samples that follow their context more than the flow does."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_flows.bijectors import MaskedAutoregressive
from tfp_flows.bijectors.chain import members
from tfp_flows.core.arguments import check_number
from tfp_flows.core.seeds import new_seed
from tfp_flows.distributions import Flow
from tfp_flows.distributions.contexts import nan_unless
from tfp_flows.ready.contexts import OneHot
from tfp_flows.transformers import Transformer

__all__ = ["guided_sample"]


def guided_sample(
    flow: Flow,
    context: Any,
    weight: float,
    *,
    against: Any = None,
    temperature: float = 1.0,
    seed: int | None = None,
) -> tf.Tensor:
    r"""Draws from an autoregressive flow, pushed from no context towards one.

    Each entry gets, in place of the parameters $\theta_c$ of its context,

    $$ \theta_c + w\, (\theta_c - \theta_u) , $$

    with those of another context $u$, which stands for none (classifier-free guidance,
    Ho & Salimans 2022; of flows Zhai et al. 2024, section 3.4). A flow with
    `scale="exp"` is guided in shifts and log-scales, as theirs is; others before the
    bound of the scale. Of labels, $u$ is the mean of all classes, which a flow knows
    that was trained with `class_drop`. What comes out has no known density, and for
    $w = 0$ is `flow.sample`. It costs two samples.

    Example:
      >>> from tfp_flows import flows, latent
      >>> flow = flows.tarflow(
      ...     (4, 4, 1), layers=2, depth=1, width=8, num_classes=3, class_drop=0.1)
      >>> latent.guided_sample(flow, [0, 1, 2, 2], weight=1.0, seed=0).shape
      TensorShape([4, 4, 4, 1])

    Args:
      flow: a flow all of whose contexts go to `MaskedAutoregressive` layers, such as
        `tarflow`, `maf` and `naf`.
      context: labels `[n]`, or contexts `[n, *context_shape]`, one for each sample.
      weight: $w$, 0 or more.
      against: the context $u$, `[*context_shape]`, or one for each sample; for a flow
        of `num_classes` the mean of all by default.
      temperature: scale of the noise, see `Flow.sample`.
      seed: integer seed.

    Returns:
      Tensor `[n, *event_shape]`.

    Raises:
      TypeError: if `weight` is no number.
      ValueError: if it is negative, other bijectors of the flow take the context, or
        there is no `against` where it is needed.
    """
    weight = check_number("weight", weight, at_least=0.0)
    layers = list(members(flow.bijector))
    takers = [b for b in layers if "context" in getattr(b, "keywords", ())]
    others = [b.name for b in takers if not isinstance(b, MaskedAutoregressive)]
    if not takers or others:
        raise ValueError(
            "flow must take its context in MaskedAutoregressive layers alone, as a "
            f"conditional tarflow, maf or naf does; in {flow.name} "
            + (f"{others[0]} takes it." if others else "none does.")
        )
    x, given = flow._sample_noise(
        [], new_seed(seed), temperature=temperature, context=context
    )
    c = given.bijector["context"]
    u = tf.broadcast_to(_without(flow, against, c), tf.shape(c))
    x, both = tf.concat([x, x], 0), tf.concat([c, u], 0)
    for b in reversed(layers):
        if "context" in getattr(b, "keywords", ()):
            b = b.copy(transformer=_Guided(b.transformer, weight))
            x = b.forward(x, context=both)
        else:
            x = b.forward(x)
    return nan_unless(given.valid, tf.split(x, 2)[0], flow.event_shape.rank)


def _without(flow, against, context):
    """What stands for no context where the bijectors take it."""
    if against is not None:
        return flow._keywords({"context": against})["context"]
    if isinstance(flow._context_encoder, OneHot):
        classes = flow._context_encoder.num_classes
        return tf.fill([classes], tf.constant(1.0 / classes, context.dtype))
    raise ValueError(
        "against must be given for a flow without num_classes: the context that stands "
        "for none."
    )


class _Guided(Transformer):
    """A transformer whose parameters the second half of a batch pushes off.

    Both halves hold the same numbers, and get the same parameters.
    """

    def __init__(self, transformer: Transformer, weight: float):
        self.transformer, self.weight = transformer, weight
        self.num_parameters = transformer.num_parameters

    def forward_and_log_det(self, x, parameters):
        return self.transformer.forward_and_log_det(x, self._guided(parameters))

    def inverse_and_log_det(self, y, parameters):
        return self.transformer.inverse_and_log_det(y, self._guided(parameters))

    def _guided(self, parameters):
        # Of numbers `[batch]` or `[batch, D]`: parameters are the last axis but one.
        axis = 1 if parameters.shape.rank == 2 else 0
        c, u = tf.split(parameters, 2, axis)
        pushed = c + self.weight * (c - u)
        return tf.concat([pushed, pushed], axis)

    def __repr__(self):
        return f"Guided({self.transformer!r}, {self.weight})"
