"""Every bijector in the variants that matter. A new one is tested by adding a line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tests.support import perturb
from tfp_flows import bijectors as B
from tfp_flows import masks, networks, transformers

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


def mlp(outputs, dtype, **kwargs):
    return networks.MLP(outputs, (8,), activation="tanh", seed=1, dtype=dtype, **kwargs)


GLOROT = keras.initializers.GlorotUniform(seed=0)


def dense(shape, dtype):
    """A network of the context alone, with an output of any shape."""
    return keras.Sequential(
        [
            keras.layers.Dense(
                int(np.prod(shape)), dtype=dtype, kernel_initializer=GLOROT
            ),
            keras.layers.Reshape(shape, dtype=dtype),
        ]
    )


def conv(outputs, dtype, **kwargs):
    return networks.ConvNet(
        outputs, 6, activation="tanh", seed=1, dtype=dtype, **kwargs
    )


def standardize(shape, dtype):
    bijector = B.Standardize(shape, dtype=dtype)
    data = np.random.default_rng(5).standard_normal((20, *shape))
    if tf.executing_eagerly():
        # Data are looked at in NumPy.
        bijector.initialize(tf.constant(5 + 3 * data, dtype))
    return bijector


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


def made(size, dtype, parameters=2, **kwargs):
    options = {"hidden_units": (8, 8), "activation": "tanh", "seed": 1, "dtype": dtype}
    return networks.MADE(size, parameters, **{**options, **kwargs})


def transformer(dtype, **kwargs):
    options = {"width": 8, "depth": 1, "heads": 2, "seed": 0, "dtype": dtype}
    return networks.CausalTransformer(3, 2, 2, **{**options, **kwargs})


class StrictlyLower(tf.Module):
    """An autoregressive conditioner that is no MADE."""

    def __init__(self, size, dtype):
        super().__init__()
        self.kernel = tf.Variable(tf.ones([size, 2 * size], dtype))
        self.bias = tf.Variable(tf.zeros([2 * size], dtype))
        self._mask = np.tile(np.triu(np.ones((size, size)), 1), (1, 2))

    def __call__(self, x):
        return tf.tanh(x @ (self.kernel * self._mask) + self.bias)


def residual(dtype, activation="lipswish", event_shape=(3,), **kwargs):
    options = {"activation": activation, "coefficient": 0.9, "seed": 0, "dtype": dtype}
    if len(event_shape) == 1:
        network = networks.LipschitzMLP(event_shape[-1], (6,), **options)
    else:
        network = networks.LipschitzConvNet(event_shape[-1], 4, (3,), **options)
    return B.ResidualFlow(network, event_shape, dtype=dtype, **kwargs)


def continuous(dtype, **kwargs):
    """Slow enough for two steps to be as good as exact."""
    network = mlp(3, dtype, output_scale=0.01)
    return B.ContinuousFlow(network, (3,), steps=2, dtype=dtype, **kwargs)


class Contraction(tf.Module):
    """A contraction that is no Lipschitz network of this package."""

    def __init__(self, dtype):
        super().__init__()
        self.kernel = tf.Variable(tf.fill([3, 3], tf.constant(0.2, dtype)))

    def __call__(self, x):
        return 0.5 * tf.sin(x @ (self.kernel / (1e-3 + tf.norm(self.kernel))))


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


AFFINE, SPLINE = transformers.Affine("exp"), transformers.RationalQuadratic(3)
LINES = transformers.PerEntry([SPLINE, AFFINE, AFFINE, SPLINE])
TWO = [AFFINE, transformers.Affine("tanh")]
LINES_OF_SIX = transformers.PerEntry([TWO[i % 2] for i in range(6)])


def unit(dtype):
    return [
        affine(masks.half(4), dtype),
        B.Permutation("reverse", 4),
        B.ActNorm([4], dtype=dtype),
    ]


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
        lambda d: affine(masks.half(3), d, scale="exp", max_log_scale=0.8),
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
            transformers.Affine("exp"),
            event_shape=(3, 4),
            dtype=d,
        ),
        (3, 4),
    ),
    Case("scaling", lambda d: B.Scaling([4], dtype=d), (4,)),
    Case(
        "scaling_from_data",
        lambda d: B.Scaling(
            [4], data_dependent=True, learning_rate_multiplier=5.0, dtype=d
        ),
        (4,),
    ),
    Case("scaling_image", lambda d: B.Scaling([2, 3, 1], dtype=d), (2, 3, 1)),
    Case("actnorm", lambda d: B.ActNorm([4], dtype=d), (4,)),
    Case("actnorm_image", lambda d: B.ActNorm([3, 2, 4], dtype=d), (3, 2, 4)),
    Case("standardize", lambda d: standardize([4], d), (4,), trainable=False),
    Case(
        "standardize_image",
        lambda d: standardize([2, 3, 2], d),
        (2, 3, 2),
        trainable=False,
    ),
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
    Case("plu", lambda d: B.PLU(4, seed=0, dtype=d), (4,)),
    Case("qr", lambda d: B.QR(4, seed=0, dtype=d), (4,)),
    Case("qr_few", lambda d: B.QR([5], reflections=2, seed=0, dtype=d), (5,)),
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
        "haar",
        lambda d: B.Haar(),
        (2, 1, 8),
        noise_shape=(4, 2, 2),
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
        lambda d: B.Logit(0.05, 0.0, 256.0, dtype=d),
        (3,),
        bounds=(0.0, 256.0),
        trainable=False,
    ),
    Case(
        "spline_coupling",
        lambda d: B.Coupling(
            masks.half(4),
            mlp(22, d),
            transformers.RationalQuadratic(4, bound=2.0),
            dtype=d,
        ),
        (4,),
    ),
    Case(
        "spline_autoregressive_context",
        lambda d: B.MaskedAutoregressive(
            made(3, d, 8),
            transformers.RationalQuadratic(3, bound=2.0),
            context_shape=(2,),
            dtype=d,
        ),
        (3,),
        context_shape=(2,),
    ),
    Case(
        "spline_on_a_circle",
        lambda d: B.Elementwise(
            transformers.RationalQuadratic(4, circular=True), (3,), dtype=d
        ),
        (3,),
        bounds=(-math.pi, math.pi),
    ),
    Case(
        "spline_coupling_on_a_circle",
        lambda d: B.Coupling(
            masks.half(4),
            mlp(26, d),
            transformers.RationalQuadratic(4, circular=True),
            dtype=d,
        ),
        (4,),
        bounds=(-math.pi, math.pi),
    ),
    Case(
        "spline_inverse_autoregressive",
        lambda d: B.InverseAutoregressive(
            made(3, d, 8, order="random", seed=5),
            transformers.Inverted(transformers.RationalQuadratic(3, bound=2.0)),
            dtype=d,
        ),
        (3,),
    ),
    Case(
        "logistic_mixture_coupling",
        lambda d: B.Coupling(
            masks.alternating(4), mlp(22, d), transformers.LogisticMixture(3), dtype=d
        ),
        (4,),
    ),
    Case(
        "logistic_mixture_inverted",
        lambda d: B.MaskedAutoregressive(
            made(3, d, 8),
            transformers.Inverted(transformers.LogisticMixture(2)),
            dtype=d,
        ),
        (3,),
    ),
    *(
        Case(
            f"{name}_coupling",
            lambda d, t=transformer: B.Coupling(
                masks.half(4), mlp(2 * t.num_parameters, d), t, dtype=d
            ),
            (4,),
        )
        for name, transformer in {
            "sum_of_squares": transformers.Inverted(transformers.SumOfSquares(2, 2)),
        }.items()
    ),
    Case(
        "per_entry_autoregressive",
        lambda d: B.MaskedAutoregressive(
            made(4, d, 8, order="reverse"), LINES, dtype=d
        ),
        (4,),
    ),
    Case(
        "per_entry_coupling_with_angles",
        lambda d: B.Coupling(
            masks.half(4),
            mlp(20, d),
            transformers.PerEntry(
                [
                    transformers.RationalQuadratic(3, circular=True),
                    transformers.Affine("exp"),
                ]
            ),
            dtype=d,
        ),
        (4,),
        bounds=(-math.pi, math.pi),
    ),
    Case(
        "elementwise_context",
        lambda d: B.Elementwise(
            transformers.LogisticMixture(2), (2, 3), dense((2, 24), d), (2,), dtype=d
        ),
        (2, 3),
        context_shape=(2,),
    ),
    Case(
        "masked_autoregressive",
        lambda d: B.MaskedAutoregressive(made(4, d), dtype=d),
        (4,),
    ),
    Case(
        "masked_autoregressive_chunks",
        lambda d: B.MaskedAutoregressive(
            made(10, d, residual=True, order="random"),
            transformers.Affine("exp", 1.0),
            dtype=d,
        ),
        (10,),
    ),
    Case(
        "masked_autoregressive_context",
        lambda d: B.MaskedAutoregressive(
            made(3, d, order="reverse"), context_shape=(2,), dtype=d
        ),
        (3,),
        context_shape=(2,),
    ),
    Case(
        "masked_autoregressive_film",
        lambda d: B.MaskedAutoregressive(
            made(3, d, context_mode="film"), context_shape=(2,), dtype=d
        ),
        (3,),
        context_shape=(2,),
    ),
    Case(
        "masked_autoregressive_one_entry",
        lambda d: B.MaskedAutoregressive(made(1, d), context_shape=(2,), dtype=d),
        (1,),
        context_shape=(2,),
    ),
    Case(
        "masked_autoregressive_any_conditioner",
        lambda d: B.MaskedAutoregressive(StrictlyLower(4, d), event_shape=4, dtype=d),
        (4,),
    ),
    Case(
        "masked_autoregressive_transformer",
        lambda d: B.MaskedAutoregressive(transformer(d), dtype=d),
        (6,),
    ),
    Case(
        "masked_autoregressive_transformer_context",
        lambda d: B.MaskedAutoregressive(
            transformer(d, order="reverse"), LINES_OF_SIX, context_shape=(2,), dtype=d
        ),
        (6,),
        context_shape=(2,),
    ),
    Case(
        "masked_autoregressive_jacobi",
        lambda d: B.MaskedAutoregressive(made(4, d), jacobi_tolerance=0.0, dtype=d),
        (4,),
    ),
    Case(
        "inverse_autoregressive",
        lambda d: B.InverseAutoregressive(made(4, d), dtype=d),
        (4,),
    ),
    Case(
        "inverse_autoregressive_context",
        lambda d: B.InverseAutoregressive(
            made(3, d, residual=True), context_shape=(2,), dtype=d
        ),
        (3,),
        context_shape=(2,),
    ),
    Case(
        "block_autoregressive",
        lambda d: B.BlockAutoregressive(3, 2, 2, seed=0, dtype=d),
        (3,),
    ),
    Case(
        "block_autoregressive_context",
        lambda d: B.BlockAutoregressive(2, 3, context_shape=(2,), seed=0, dtype=d),
        (2,),
        context_shape=(2,),
    ),
    Case(
        "marginal_gaussianization",
        lambda d: B.MarginalGaussianization((2, 3), 2, dtype=d),
        (2, 3),
    ),
    Case(
        "marginal_gaussianization_context",
        lambda d: B.MarginalGaussianization((3,), 2, dense((24,), d), (2,), dtype=d),
        (3,),
        context_shape=(2,),
    ),
    Case("multiscale", multiscale, (4, 4, 2), noise_shape=(32,)),
    Case(
        "multiscale_context",
        lambda d: multiscale(d, (2,)),
        (4, 4, 2),
        noise_shape=(32,),
        context_shape=(2,),
    ),
    Case("planar", lambda d: B.Planar(3, seed=0, dtype=d), (3,)),
    Case("planar_leaky", lambda d: B.Planar(3, "leaky_relu", seed=0, dtype=d), (3,)),
    Case(
        "planar_amortized",
        lambda d: B.Planar(
            3, conditioner=mlp(7, d), context_shape=(2,), seed=0, dtype=d
        ),
        (3,),
        context_shape=(2,),
    ),
    Case("radial", lambda d: B.Radial(3, seed=0, dtype=d), (3,)),
    Case(
        "radial_amortized",
        lambda d: B.Radial(
            3, conditioner=mlp(5, d), context_shape=(2,), seed=0, dtype=d
        ),
        (3,),
        context_shape=(2,),
    ),
    Case("sylvester_orthogonal", lambda d: B.Sylvester(4, 2, seed=0, dtype=d), (4,)),
    Case(
        "sylvester_triangular_leaky",
        lambda d: B.Sylvester(
            3, parametrization="triangular", activation="leaky_relu", seed=0, dtype=d
        ),
        (3,),
    ),
    *(
        Case(
            f"sylvester_{form}_amortized",
            lambda d, form=form, columns=columns: B.Sylvester(
                3,
                columns,
                form,
                conditioner=mlp(B.Sylvester.num_parameters(3, columns, form), d),
                context_shape=(2,),
                seed=0,
                dtype=d,
            ),
            (3,),
            context_shape=(2,),
        )
        for form, columns in (("orthogonal", 2), ("householder", 2))
    ),
    Case("residual", residual, (3,)),
    Case(
        "residual_elu_context",
        lambda d: residual(d, "elu", context_shape=(2,)),
        (3,),
        context_shape=(2,),
    ),
    Case(
        "residual_conv_sine_context",
        lambda d: residual(d, "sine", (3, 2, 2), context_shape=(2,)),
        (3, 2, 2),
        context_shape=(2,),
    ),
    Case(
        "residual_any_contraction",
        lambda d: B.ResidualFlow(Contraction(d), (3,), dtype=d),
        (3,),
    ),
    Case("continuous", continuous, (3,)),
    Case("chain", chain, (4,)),
    Case("chain_context", lambda d: chain(d, (3,)), (4,), context_shape=(3,)),
    Case("repeat", lambda d: B.Repeat(lambda: unit(d), 2), (4,)),
]
