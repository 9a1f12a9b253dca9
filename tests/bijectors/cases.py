"""Every bijector in the variants that matter. A new one is tested by adding a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import bijectors as B
from tfp_flows import masks, networks

tfb = tfp.bijectors


@dataclasses.dataclass(frozen=True)
class Case:
    """How to build a bijector, and what it takes.

    Attributes:
      name: name of the test.
      build: `(dtype) -> bijector`.
      data_shape: event shape on the data side.
      noise_shape: event shape on the noise side; the same unless given.
      context_shape: shape of a context, or None.
      bounds: interval of the data, for a bijector with a bounded range.
      trainable: whether it has variables to train.
    """

    name: str
    build: Callable[[str], B.JointBijector]
    data_shape: tuple[int, ...]
    noise_shape: tuple[int, ...] | None = None
    context_shape: tuple[int, ...] | None = None
    bounds: tuple[float, float] | None = None
    trainable: bool = True

    def __str__(self):
        return self.name

    def make(self, dtype: str = "float64", perturbed: bool = True) -> B.JointBijector:
        """The bijector, moved away from the special point at which it starts."""
        bijector = self.build(dtype)
        if perturbed:
            perturb(bijector)
        return bijector

    def data(self, batch=(5,), dtype="float64", seed=0):
        draw = np.random.default_rng(seed)
        shape = (*batch, *self.data_shape)
        if self.bounds is None:
            return tf.constant(draw.standard_normal(shape), dtype)
        low, high = self.bounds
        margin = 0.1 * (high - low)
        return tf.constant(draw.uniform(low + margin, high - margin, shape), dtype)

    def noise(self, batch=(5,), dtype="float64", seed=1):
        shape = (*batch, *(self.noise_shape or self.data_shape))
        return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)

    def keywords(self, batch=(5,), dtype="float64", seed=2):
        if self.context_shape is None:
            return {}
        shape = (*batch, *self.context_shape)
        values = np.random.default_rng(seed).standard_normal(shape)
        return {"context": tf.constant(values, dtype)}


def perturb(module: tf.Module, scale: float = 0.2, seed: int = 7) -> None:
    """Adds noise to all trainable variables."""
    draw = np.random.default_rng(seed)
    for v in module.trainable_variables:
        v.assign_add(tf.constant(scale * draw.standard_normal(v.shape), v.dtype))


def mlp(outputs, dtype, **kwargs):
    return networks.MLP(outputs, (8,), activation="tanh", seed=1, dtype=dtype, **kwargs)


def conv(outputs, dtype, **kwargs):
    return networks.ConvNet(
        outputs, 6, activation="tanh", seed=1, dtype=dtype, **kwargs
    )


def affine(mask, dtype, **kwargs):
    changed = int((~mask).sum())
    return B.AffineCoupling(mask, mlp(2 * changed, dtype), dtype=dtype, **kwargs)


def multiscale(dtype, context_shape=None):
    def level(shape):
        return B.Chain(
            [
                tfb.Invert(B.Squeeze(2)),
                B.ActNorm(shape, dtype=dtype),
                B.InvertibleConv1x1(shape, seed=3, dtype=dtype),
                B.AffineCoupling(
                    masks.channel(shape[-1]),
                    conv(shape[-1], dtype),
                    event_shape=shape,
                    context_shape=context_shape,
                    dtype=dtype,
                ),
            ]
        )

    return B.MultiScale(
        [level((2, 2, 8)), level((1, 1, 16))],
        (4, 4, 2),
        [conv(8, dtype)],
        context_shape=context_shape,
        dtype=dtype,
    )


def chain(dtype, context_shape=None):
    return B.Chain(
        [
            tfb.Shift(tf.constant(0.3, dtype)),
            affine(masks.alternating(4), dtype, context_shape=context_shape),
            B.Permutation("random", 4, seed=0),
            B.ActNorm([4], dtype=dtype),
            tfb.Invert(affine(masks.half(4), dtype, context_shape=context_shape)),
            B.Scaling([4], dtype=dtype),
        ]
    )


GLOROT = keras.initializers.GlorotUniform(seed=0)

CASES = [
    Case(
        "additive_half",
        lambda d: B.AdditiveCoupling(masks.half(4), mlp(2, d), dtype=d),
        (4,),
    ),
    Case(
        "additive_alternating_odd",
        lambda d: B.AdditiveCoupling(~masks.alternating(5), mlp(3, d), dtype=d),
        (5,),
    ),
    Case("affine_exp", lambda d: affine(masks.half(4), d, scale="exp"), (4,)),
    Case("affine_tanh", lambda d: affine(~masks.alternating(4), d), (4,)),
    Case("affine_sigmoid", lambda d: affine(~masks.half(5), d, scale="sigmoid"), (5,)),
    Case(
        "affine_clamp",
        lambda d: affine(masks.half(3), d, scale="exp", clamp=0.8),
        (3,),
    ),
    Case(
        "affine_given_mask",
        lambda d: affine(np.array([True, False, False, True, True, False]), d),
        (6,),
    ),
    Case(
        "affine_context",
        lambda d: affine(masks.half(4), d, context_shape=(3,)),
        (4,),
        context_shape=(3,),
    ),
    Case(
        "affine_film",
        lambda d: B.AffineCoupling(
            masks.half(4),
            mlp(4, d, context_mode="film"),
            context_shape=(3,),
            dtype=d,
        ),
        (4,),
        context_shape=(3,),
    ),
    Case(
        "affine_checkerboard",
        lambda d: B.AffineCoupling(
            masks.checkerboard(3, 4), conv(4, d), event_shape=(3, 4, 2), dtype=d
        ),
        (3, 4, 2),
    ),
    Case(
        "affine_channel_context",
        lambda d: B.AffineCoupling(
            ~masks.channel(3),
            conv(4, d),
            event_shape=(2, 3, 3),
            context_shape=(2,),
            dtype=d,
        ),
        (2, 3, 3),
        context_shape=(2,),
    ),
    Case(
        "additive_copy_channel",
        lambda d: B.AdditiveCoupling(
            masks.copy_channel(3, 1), conv(2, d), event_shape=(2, 2, 3), dtype=d
        ),
        (2, 2, 3),
    ),
    Case(
        "coupling_rows_of_a_matrix",
        lambda d: B.Coupling(
            np.array([[True], [False], [True]]),
            keras.Sequential(
                [
                    keras.layers.Flatten(dtype=d),
                    keras.layers.Dense(8, "tanh", dtype=d, kernel_initializer=GLOROT),
                    keras.layers.Reshape((1, 8), dtype=d),
                ]
            ),
            B.Affine("exp"),
            event_shape=(3, 4),
            dtype=d,
        ),
        (3, 4),
    ),
    Case("scaling", lambda d: B.Scaling([4], dtype=d), (4,)),
    Case(
        "scaling_from_data",
        lambda d: B.Scaling([4], from_data=True, factor=5.0, dtype=d),
        (4,),
    ),
    Case("scaling_image", lambda d: B.Scaling([2, 3, 1], dtype=d), (2, 3, 1)),
    Case("actnorm", lambda d: B.ActNorm([4], dtype=d), (4,)),
    Case("actnorm_image", lambda d: B.ActNorm([3, 2, 4], dtype=d), (3, 2, 4)),
    Case("batch_norm", lambda d: B.BatchNorm([4], dtype=d), (4,)),
    Case("batch_norm_image", lambda d: B.BatchNorm([2, 2, 3], dtype=d), (2, 2, 3)),
    Case(
        "conv1x1_plu",
        lambda d: B.InvertibleConv1x1([2, 3, 4], seed=0, dtype=d),
        (2, 3, 4),
    ),
    Case(
        "conv1x1_dense",
        lambda d: B.InvertibleConv1x1([2, 3, 4], "dense", seed=0, dtype=d),
        (2, 3, 4),
    ),
    Case(
        "squeeze",
        lambda d: B.Squeeze(2),
        (2, 1, 8),
        noise_shape=(4, 2, 2),
        trainable=False,
    ),
    Case(
        "squeeze_3",
        lambda d: B.Squeeze(3),
        (1, 2, 9),
        noise_shape=(3, 6, 1),
        trainable=False,
    ),
    Case(
        "permutation_reverse",
        lambda d: B.Permutation("reverse", 5),
        (5,),
        trainable=False,
    ),
    Case(
        "permutation_random",
        lambda d: B.Permutation("random", 6, seed=3),
        (6,),
        trainable=False,
    ),
    Case(
        "permutation_of_rows",
        lambda d: B.Permutation([2, 0, 1], axis=-2),
        (3, 4),
        trainable=False,
    ),
    Case(
        "logit",
        lambda d: B.Logit(0.05, 0.0, 256.0),
        (3,),
        bounds=(0.0, 256.0),
        trainable=False,
    ),
    Case("multiscale", multiscale, (4, 4, 2), noise_shape=(32,)),
    Case(
        "multiscale_context",
        lambda d: multiscale(d, (2,)),
        (4, 4, 2),
        noise_shape=(32,),
        context_shape=(2,),
    ),
    Case("chain", chain, (4,)),
    Case("chain_context", lambda d: chain(d, (3,)), (4,), context_shape=(3,)),
]
