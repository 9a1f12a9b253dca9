"""Small instances of the ready flows and what looks at them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import tfp_flows
from tests.support import perturb
from tfp_flows import flows
from tfp_flows.bijectors import Chain


@dataclasses.dataclass(frozen=True)
class Small:
    """A ready flow with small networks.

    Attributes:
      build: one of `tfp_flows.flows`.
      arguments: its arguments.
      high: data lie in (0, high) if given, else anywhere.
      gentle: factor of how far it is moved from its start, below 1 where steps of a
        solver are exact only for slow velocities.
    """

    build: Callable[..., tfp_flows.Flow]
    arguments: dict[str, Any]
    high: float | None = None
    gentle: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.arguments["event_shape"]

    def make(self, perturbed: float = 0.2, **others) -> tfp_flows.Flow:
        """The flow, moved away from the special point at which it starts."""
        flow = self.build(**{"seed": 0, **self.arguments, **others})
        if perturbed:
            perturb(flow, self.gentle * perturbed)
        return flow

    def data(self, batch: int = 4, dtype: str = "float64", seed: int = 0) -> tf.Tensor:
        draw = np.random.default_rng(seed)
        shape = (batch, *self.shape)
        if self.high is None:
            return tf.constant(draw.standard_normal(shape), dtype)
        margin = 0.1 * self.high
        return tf.constant(draw.uniform(margin, self.high - margin, shape), dtype)


def members(chain) -> list:
    """The bijectors of a chain and of the chains in it, as data meet them."""
    found = []
    for b in chain.bijectors:
        found += members(b) if isinstance(b, Chain) else [b]
    return found


MLP = {"width": 8}
SMALL = {
    "nice": Small(flows.nice, {"event_shape": (4,), "depth": 1, **MLP}),
    "nice_odd_reverse": Small(
        flows.nice,
        {
            "event_shape": (5,),
            "depth": 2,
            "order": "reverse",
            "base": "diagonal",
            **MLP,
        },
    ),
    "nice_image_logit": Small(
        flows.nice,
        {
            "event_shape": (2, 2, 1),
            "depth": 1,
            "bounds": (0, 256),
            "logit_margin": 0.05,
            "base": "normal",
            **MLP,
        },
        256.0,
    ),
    "real_nvp": Small(flows.real_nvp, {"event_shape": (3,), "layers": 3, **MLP}),
    "real_nvp_random": Small(
        flows.real_nvp,
        {
            "event_shape": (4,),
            "layers": 2,
            "order": "random",
            "batch_norm": True,
            "scale": "exp",
            "max_log_scale": 1.5,
            "bounds": (0, 16),
            **MLP,
        },
        16.0,
    ),
    "real_nvp_image": Small(
        flows.real_nvp,
        {
            "event_shape": (4, 4, 1),
            "layers": 2,
            "depth": 1,
            "levels": 2,
            "width": 4,
            "bounds": (0, 256),
            "logit_margin": 0.05,
        },
        256.0,
    ),
    # A mixture of one logistic starts as the identity; larger ones start near it.
    "flow_plus_plus": Small(
        flows.flow_plus_plus,
        {
            "event_shape": (4,),
            "layers": 2,
            "components": 1,
            "depth": 1,
            **MLP,
        },
    ),
    "flow_plus_plus_image": Small(
        flows.flow_plus_plus,
        {
            "event_shape": (4, 4, 1),
            "layers": (1, 1, 0),
            "components": 1,
            "width": 4,
            "depth": 1,
            "heads": 2,
            "bounds": (0, 256),
        },
        256.0,
    ),
    "maf": Small(flows.maf, {"event_shape": (3,), "layers": 2, **MLP}),
    "maf_image": Small(
        flows.maf,
        {
            "event_shape": (2, 2, 1),
            "layers": 2,
            "residual": True,
            "order": "random",
            "batch_norm": True,
            "scale": "exp",
            "bounds": (0, 16),
            "logit_margin": 0.05,
            **MLP,
        },
        16.0,
    ),
    # A mixture of one logistic, as above.
    "naf": Small(
        flows.naf,
        {"event_shape": (3,), "layers": 2, "components": 1, "depth": 1, **MLP},
    ),
    "bnaf": Small(flows.bnaf, {"event_shape": (3,), "layers": 2, "width": 3}),
    "iaf": Small(flows.iaf, {"event_shape": (3,), "layers": 2, "depth": 1, **MLP}),
    "gaussianization": Small(
        flows.gaussianization, {"event_shape": (3,), "layers": 2, "components": 1}
    ),
    "neural_spline_flow": Small(
        flows.neural_spline_flow,
        {"event_shape": (3,), "layers": 2, "bins": 4, "depth": 1, **MLP},
    ),
    "neural_spline_flow_autoregressive": Small(
        flows.neural_spline_flow,
        {
            "event_shape": (3,),
            "autoregressive": True,
            "layers": 2,
            "bins": 3,
            "linear": "qr",
            "depth": 1,
            **MLP,
        },
    ),
    "planar": Small(flows.planar, {"event_shape": (3,), "layers": 2}),
    "planar_sampling": Small(
        flows.planar,
        {
            "event_shape": (2,),
            "layers": 2,
            "activation": "leaky_relu",
            "explicit": "sampling",
            "bounds": (0, 16),
        },
        16.0,
    ),
    "radial": Small(flows.radial, {"event_shape": (3,), "layers": 2}),
    "sylvester": Small(
        flows.sylvester, {"event_shape": (3,), "layers": 2, "columns": 2}
    ),
    "sylvester_triangular": Small(
        flows.sylvester,
        {
            "event_shape": (3,),
            "layers": 2,
            "parametrization": "triangular",
            "explicit": "sampling",
        },
    ),
    "residual_flow": Small(
        flows.residual_flow, {"event_shape": (3,), "layers": 2, "depth": 1, **MLP}
    ),
    "residual_flow_image": Small(
        flows.residual_flow,
        {
            "event_shape": (4, 4, 1),
            "layers": 1,
            "depth": 1,
            "levels": 2,
            "width": 4,
            "activation": "elu",
            "bounds": (0, 16),
        },
        16.0,
    ),
    "tarflow": Small(
        flows.tarflow, {"event_shape": (3,), "layers": 2, "depth": 1, **MLP}
    ),
    "tarflow_image": Small(
        flows.tarflow,
        {
            "event_shape": (4, 6, 1),
            "layers": 2,
            "depth": (1, 2),
            "heads": 2,
            "bounds": (0, 16),
            **MLP,
        },
        16.0,
    ),
    "ffjord": Small(
        flows.ffjord,
        {"event_shape": (3,), "depth": 1, "steps": 2, **MLP},
        gentle=0.01,
    ),
    "ffjord_image_adjoint": Small(
        flows.ffjord,
        {
            "event_shape": (2, 2, 1),
            "depth": 1,
            "steps": 2,
            "gradients": "adjoint",
            "bounds": (0, 16),
            **MLP,
        },
        16.0,
        0.01,
    ),
    "jet": Small(
        flows.jet,
        {
            "event_shape": (4, 4, 2),
            "layers": 3,
            "depth": 1,
            "patch": 1,
            "spatial_every": 2,
            **MLP,
        },
    ),
    "jet_image": Small(
        flows.jet,
        {
            "event_shape": (4, 8, 1),
            "layers": 1,
            "depth": 1,
            "heads": 2,
            "bounds": (0, 16),
            "logit_margin": 0.05,
            **MLP,
        },
        16.0,
    ),
    "glow": Small(
        flows.glow,
        {"event_shape": (4, 4, 2), "steps": 2, "levels": 2, "width": 4},
    ),
    "glow_dense": Small(
        flows.glow,
        {
            "event_shape": (4, 4, 1),
            "steps": 1,
            "width": 4,
            "conv1x1": "dense",
            "scale": "tanh",
            "base": "logistic",
            "bounds": (0, 256),
        },
        256.0,
    ),
}


# The first of each; later ones are variants.
ONE_OF_EACH = {s.build.__name__: s for s in reversed(SMALL.values())}


class OnSurface(Small):
    """A ready flow of data on a surface, `[batch, D]`."""

    def data(self, batch: int = 4, dtype: str = "float64", seed: int = 0) -> tf.Tensor:
        x = np.random.default_rng(seed).standard_normal((batch, *self.shape))
        if self.build is flows.sphere:
            x /= np.linalg.norm(x, axis=1, keepdims=True)
        if self.build is flows.simplex:
            x = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        return tf.constant(x, dtype)


TINY = {"layers": 2, "bins": 4, "depth": 1, **MLP}
SURFACES = {
    "torus": OnSurface(flows.torus, {"event_shape": (3,), **TINY}),
    "torus_one": OnSurface(flows.torus, {"event_shape": (1,), "bins": 4}),
    "sphere": OnSurface(flows.sphere, {"event_shape": (3,), **TINY}),
    "simplex": OnSurface(flows.simplex, {"event_shape": (4,), **TINY}),
    "simplex_two": OnSurface(flows.simplex, {"event_shape": (2,), **TINY}),
}


def gradients(flow: tfp_flows.Flow, x, **keywords) -> list:
    """Of the loss, for each trainable variable."""
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(flow.log_prob(x, **keywords))
    return tape.gradient(loss, flow.trainable_variables)
