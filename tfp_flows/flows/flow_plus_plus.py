"""Flow++ (Ho et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow_probability as tfp

from tfp_flows import masks
from tfp_flows.bijectors import (
    PLU,
    ActNorm,
    Chain,
    Coupling,
    InvertibleConv1x1,
    Squeeze,
)
from tfp_flows.distributions import Flow, VariationalDequantization, standard_logistic
from tfp_flows.flows.building import (
    assemble,
    layer_seeds,
    network_dtype,
    preprocess,
    ready,
    resolve_context,
)
from tfp_flows.networks import GatedResidualConvNet, ResidualMLP
from tfp_flows.transformers import Inverted, LogisticMixture

tfb = tfp.bijectors

__all__ = ["flow_plus_plus"]


@ready
def flow_plus_plus(
    event_shape: Sequence[int],
    *,
    couplings: int | Sequence[int] | None = None,
    components: int = 32,
    width: int | None = None,
    blocks: int | None = None,
    heads: int = 4,
    dequantization: str | None = None,
    noise_couplings: int = 4,
    noise_width: int | None = None,
    noise_blocks: int = 2,
    samples: int = 1,
    base: str | Mapping[str, Any] = "normal",
    bounds: Sequence[float] | None = None,
    alpha: float | None = None,
    normalize: bool = False,
    context_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    context_encoder: keras.layers.Layer | None = None,
    context_mode: str = "concat",
    conditioner_dtype: str | None = None,
    recompute_gradients: bool = False,
    seed: int | None = None,
    dtype: Any = "float32",
) -> Flow | VariationalDequantization:
    """Couplings by mixtures of logistics, attention, and learned dequantisation.

    Ho et al. 2019, "Flow++: Improving Flow-Based Generative Models with Variational
    Dequantization and Architecture Design". Each coupling stands behind an activation
    normalisation and a linear layer, and moves an entry by the cumulative distribution
    function of a mixture of logistics.

    On images: couplings with a checkerboard mask, a squeeze, couplings with a channel
    mask and again with a checkerboard, by networks of gated residual blocks with
    self-attention. Nothing leaves on the way. The defaults are those of their 32x32
    models. On vectors: couplings whose masks take turns, by residual networks.

    The activation normalisation is set from the first batch: by `FlowModel.fit`, or
    by `tfp_flows.training.initialize`.

    Args:
      event_shape: `(D,)` or `(H, W, C)`.
      couplings: vectors: number of couplings (8). Images: how many with a checkerboard,
        with a channel mask, and again with a checkerboard (4, 2, 3); or one number for
        each.
      components: logistics in each mixture.
      width: hidden channels (96) or units (256) of the networks.
      blocks: residual blocks (10 on images, 2 on vectors) of each network.
      heads: heads of the self-attention on images, which divide `width` and
        `noise_width`; 0 for none.
      dequantization: what data are. `None`: real numbers, or integers with noise added
        already. `"variational"`: integers from 0 to K - 1; the result is a
        `VariationalDequantization`, whose noise flow starts nearly uniform.
        `"uniform"`: the same with uniform noise.
      noise_couplings: number of couplings of the noise flow.
      noise_width: hidden channels (32) or units (`width`) of its networks.
      noise_blocks: residual blocks of each of its networks.
      samples: how many times noise is drawn for each density.
      base: distribution of the noise, see `tfp_flows.flows.real_nvp`.
      bounds: `(low, high)` of the data, scaled to [-0.5, 0.5]; `(0, K)` with a
        `dequantization`, `(0, 256)` for 8-bit pixels.
      alpha: if given, the logit of the scaled data with this margin is modelled.
      normalize: whether an `ActNorm` meets the data first. Not with `bounds`.
      context_shape: shape of one context, or `None`. The noise flow is given the data
        alone.
      num_classes: instead of `context_shape`: the context is an integer label.
      context_encoder: a Keras layer or model that contexts of `context_shape` go
        through first, trained with the flow.
      context_mode: how networks take the context, `"concat"` or `"film"`.
      conditioner_dtype: `"bfloat16"` or `"float16"` for networks that compute in half
        precision, with float32 variables, log-determinants and base; the two
        directions are then inverses of each other to two or three digits. `"float32"`
        for none. By default Keras's global policy if that is a mixed one.
      recompute_gradients: whether gradients rebuild activations instead of keeping
        them: memory does not grow with depth, a step takes about a third longer. See
        `tfp_flows.bijectors.Chain`.
      seed: integer seed of the initial weights and rotations.
      dtype: `"float32"` or `"float64"`.

    Returns:
      A `Flow` over `event_shape`, or a `VariationalDequantization` of one.

    Raises:
      ValueError: if the sides of images are not even, or below 4; on another
        `dequantization`, or one without `bounds=(0, K)`; on a number of `couplings`
        that is not positive.
    """
    levels = _check_dequantization(dequantization, bounds)
    next_seed = layer_seeds(seed)
    policy = network_dtype(dtype, conditioner_dtype)
    context, encoder = resolve_context(
        context_shape, num_classes, dtype, context_encoder
    )
    is_image = len(event_shape) == 3
    width = width or (96 if is_image else 256)
    blocks = (10 if is_image else 2) if blocks is None else blocks

    def coupling(mask, shape, transformer, width, blocks, context, name, **options):
        changed = shape[-1] if mask.shape[-1] == 1 else int((~mask).sum())
        outputs = transformer.num_parameters * changed
        options = {"seed": next_seed(), "dtype": policy, **options}
        network = (
            GatedResidualConvNet(outputs, width, blocks, heads, **options)
            if is_image
            else ResidualMLP(outputs, width, blocks, **options)
        )
        return Coupling(
            mask, network, transformer, shape, context, dtype=dtype, name=name
        )

    members = preprocess(event_shape, bounds, alpha, normalize, center=0.5, dtype=dtype)
    for shape, mask, name in _layout(event_shape, couplings):
        if mask is None:
            members.append(tfb.Invert(Squeeze(2)))
            continue
        members.append(ActNorm(shape, dtype=dtype, name=f"actnorm_{name}"))
        if shape[-1] > 1:
            linear = InvertibleConv1x1 if is_image else PLU
            members.append(
                linear(shape, seed=next_seed(), dtype=dtype, name=f"linear_{name}")
            )
        members.append(
            coupling(
                mask,
                shape,
                # Densities take the closed form, samples find a root.
                Inverted(LogisticMixture(components)),
                width,
                blocks,
                context,
                f"coupling_{name}",
                context_mode=context_mode,
            )
        )
    flow = assemble(
        members,
        event_shape,
        base,
        encoder,
        dtype,
        "flow_plus_plus",
        seed=next_seed(),
        recompute_gradients=recompute_gradients,
    )
    if dequantization is None:
        return flow
    noise_flow = None
    if dequantization == "variational":
        # Nearly uniform at first: logistic noise through a sigmoid is.
        members = [
            coupling(
                _alternating(event_shape, i),
                event_shape,
                # Noise is only drawn, by the closed form.
                LogisticMixture(components),
                noise_width or (32 if is_image else width),
                noise_blocks,
                event_shape,
                f"noise_coupling_{i}",
            )
            for i in range(noise_couplings)
        ]
        noise_flow = Flow(
            standard_logistic(event_shape, dtype),
            Chain(
                [tfb.Sigmoid(), *members],
                name="noise_chain",
                recompute_gradients=recompute_gradients,
            ),
            name="noise_flow",
        )
    return VariationalDequantization(flow, noise_flow, levels, samples)


def _layout(event_shape, couplings):
    """`(shape, mask, name)` of each coupling; the mask is `None` for a squeeze."""
    if len(event_shape) == 1:
        if couplings is None:
            couplings = 8
        if not isinstance(couplings, int) or couplings < 1:
            raise ValueError(
                f"couplings must be a positive number for vectors, got {couplings}."
            )
        for i in range(couplings):
            yield event_shape, _alternating(event_shape, i), str(i)
        return
    height, width, channels = event_shape
    for side, size in (("height", height), ("width", width)):
        if size % 2 or size < 4:
            raise ValueError(
                f"flow_plus_plus needs a {side} that is even and at least 4, got "
                f"{size}. Pad or crop the images."
            )
    if couplings is None:
        couplings = (4, 2, 3)
    counts = [couplings] * 3 if isinstance(couplings, int) else list(couplings)
    if len(counts) != 3 or min(counts) < 0 or not sum(counts):
        raise ValueError(
            "couplings must be three numbers of couplings for images (checkerboard, "
            f"channels, checkerboard), or one for each, got {couplings}."
        )
    squeezed = (height // 2, width // 2, 4 * channels)
    for i in range(counts[0]):
        yield event_shape, _alternating(event_shape, i), f"0_{i}"
    yield squeezed, None, "squeeze"
    mask = masks.channel(squeezed[2])
    for i in range(counts[1]):
        yield squeezed, mask if i % 2 == 0 else ~mask, f"1_{i}"
    for i in range(counts[2]):
        yield squeezed, _alternating(squeezed, i), f"2_{i}"


def _alternating(shape, i):
    """The mask of coupling `i` of those that take turns."""
    mask = (
        masks.alternating(shape[0])
        if len(shape) == 1
        else masks.checkerboard(*shape[:2])
    )
    return mask if i % 2 == 0 else ~mask


def _check_dequantization(dequantization, bounds) -> int | None:
    """The number of integers that data take, if they are to be dequantised."""
    if dequantization is None:
        return None
    if dequantization not in ("uniform", "variational"):
        raise ValueError(
            'dequantization must be "uniform", "variational" or None, got '
            f"{dequantization!r}."
        )
    if bounds is None or bounds[0] != 0 or int(bounds[1]) != bounds[1]:
        raise ValueError(
            f"dequantization={dequantization!r} is for integers from 0 to K - 1: give "
            f"bounds=(0, K); got bounds={bounds}."
        )
    return int(bounds[1])
