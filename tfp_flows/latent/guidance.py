"""Samples that are pushed off what the flow makes of less."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_flows.bijectors import MaskedAutoregressive
from tfp_flows.bijectors.chain import members
from tfp_flows.core.arguments import check_integer, check_number
from tfp_flows.core.seeds import new_seed
from tfp_flows.distributions import Flow
from tfp_flows.distributions.contexts import nan_unless
from tfp_flows.networks import CausalTransformer
from tfp_flows.ready.contexts import OneHot
from tfp_flows.transformers import Transformer

__all__ = ["guided_sample"]


def guided_sample(
    flow: Flow,
    context: Any = None,
    weight: float = 1.0,
    *,
    n: int | None = None,
    against: Any = None,
    attention_temperature: float = 1.0,
    temperature: float = 1.0,
    seed: int | None = None,
) -> tf.Tensor:
    r"""Draws from an autoregressive flow, pushed off what it makes of less.

    Each entry gets, in place of the parameters $\theta_c$ that the flow has for it,

    $$ \theta_c + w\, (\theta_c - \theta_u) , $$

    with worse ones $\theta_u$ (classifier-free guidance, Ho & Salimans 2022; of flows
    Zhai et al. 2024, section 3.4). There are two ways to get worse, alone or together:

    - **Less context.** $\theta_u$ is of another context $u$, which stands for none. Of
      labels it is the mean of all classes, which a flow knows that was trained with
      `class_drop`. Samples are more like their class.
    - **Less attention.** Where conditioners are causal transformers, the products of
      queries and keys are divided by `attention_temperature`. Above 1, tokens attend
      more evenly. This needs no context.

    A flow with `scale="exp"` is guided in shifts and log-scales, as theirs is; others
    before the bound of the scale. What comes out has no known density, and for $w = 0$
    is `flow.sample`. It costs two samples.

    Example:
      >>> from tfp_flows import flows, latent
      >>> size = {"layers": 2, "depth": 1, "width": 8}
      >>> flow = flows.tarflow((4, 4, 1), num_classes=3, class_drop=0.1, **size)
      >>> latent.guided_sample(flow, [0, 1, 2, 2], weight=1.0, seed=0).shape
      TensorShape([4, 4, 4, 1])
      >>> flow = flows.tarflow((4, 4, 1), **size)
      >>> latent.guided_sample(flow, n=5, attention_temperature=2.0, seed=0).shape
      TensorShape([5, 4, 4, 1])

    Args:
      flow: a flow of `MaskedAutoregressive` layers that take all of its contexts, such
        as `tarflow`, `maf` and `naf`.
      context: labels `[n]`, or contexts `[n, *context_shape]`, one for each sample;
        `None` for a flow without.
      weight: $w$, 0 or more.
      n: number of samples, for a flow without context.
      against: the context $u$, `[*context_shape]`, or one for each sample; for a flow
        of `num_classes` the mean of all by default.
      attention_temperature: above 0; other than 1 for a `tarflow` alone.
      temperature: scale of the noise, see `Flow.sample`.
      seed: integer seed.

    Returns:
      Tensor `[n, *event_shape]`.

    Raises:
      TypeError: if a number is none.
      ValueError: if a number is out of range, other bijectors of the flow take the
        context, there is no `against` where it is needed, `n` is missing or not wanted,
        or nothing would push: neither a context nor an `attention_temperature`.
    """
    weight = check_number("weight", weight, at_least=0.0)
    softer = check_number("attention_temperature", attention_temperature, above=0.0)
    layers = list(members(flow.bijector))
    is_guided = _which_are_guided(flow, layers, softer)
    if flow.context_shape is None:
        if n is None or context is not None:
            raise ValueError(f"{flow.name} takes no context: give n alone.")
        count, given_context = [check_integer("n", n, at_least=0)], {}
    else:
        if n is not None:
            raise ValueError("n is for flows without context: give a context for each.")
        count, given_context = [], {"context": context}
    x, given = flow._sample_noise(
        count, new_seed(seed), temperature=temperature, **given_context
    )
    x, both = tf.concat([x, x], 0), {}
    # A context may be of the base alone.
    c = given.bijector.get("context")
    if c is not None:
        u = tf.broadcast_to(_without(flow, against, c), tf.shape(c))
        both["context"] = tf.concat([c, u], 0)
    for b in reversed(layers):
        if not is_guided(b):
            x = b.forward(x)
            continue
        changes: dict[str, Any] = {"transformer": _Guided(b.transformer, weight)}
        if softer != 1.0:
            changes["conditioner"] = _Softer(b.conditioner, softer)
        x = b.copy(**changes).forward(x, **both)
    return nan_unless(given.valid, tf.split(x, 2)[0], flow.event_shape.rank)


def _takes_context(b):
    return "context" in getattr(b, "keywords", ())


def _attends(b):
    of_entries = isinstance(b, MaskedAutoregressive)
    return of_entries and isinstance(b.conditioner, CausalTransformer)


def _which_are_guided(flow, layers, softer):
    """Whether a layer is: those that take the context, or without one that attend."""
    takers = [b for b in layers if _takes_context(b)]
    softens = softer != 1.0
    if softens and not (any(map(_attends, layers)) and all(map(_attends, takers))):
        raise ValueError(
            f"attention_temperature={softer} is for a flow whose conditioners are "
            f"causal transformers, such as tarflow; {flow.name} has others."
        )
    others = [b.name for b in takers if not isinstance(b, MaskedAutoregressive)]
    if others or not (takers or softens):
        raise ValueError(
            "flow must take its context in MaskedAutoregressive layers alone, as a "
            f"conditional tarflow, maf or naf does; in {flow.name} "
            + (f"{others[0]} takes it." if others else "none does.")
            + " A tarflow without context takes an attention_temperature."
        )
    return _takes_context if takers else _attends


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


class _Softer:
    """A causal transformer that attends more evenly for the second half of a batch."""

    def __init__(self, network: CausalTransformer, temperature: float):
        self.network, self.temperature = network, temperature
        self.event_shape, self.tokens = network.event_shape, network.tokens

    def __call__(self, x, context=None):
        return self.network(x, context, attention_temperature=self._of(x))

    def generate(self, step, z, context=None, indexed=False):
        return self.network.generate(step, z, context, indexed, self._of(z))

    def _of(self, x):
        half = tf.shape(x)[0] // 2
        second = tf.range(tf.shape(x)[0]) >= half
        return tf.where(second, tf.constant(self.temperature, x.dtype), 1.0)
