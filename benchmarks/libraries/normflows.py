"""normflows (PyTorch)."""

from __future__ import annotations

import normflows as nf
import numpy as np
import torch

from libraries import Contender, NotOffered
from libraries.on_torch import MLP, contender, set_threads
from libraries.workloads import BOUND, Workload

PACKAGES = ("normflows", "torch")


def build(workload: Workload, data: np.ndarray, threads: int) -> Contender:
    set_threads(threads)
    if workload.name == "glow":
        return _glow(workload, data)
    x = torch.from_numpy(data)
    # In the order in which samples meet them.
    layers = list(_layers(workload))[::-1]
    base = nf.distributions.DiagGaussian(workload.size, trainable=False)
    flow = nf.NormalizingFlow(base, layers)

    def normalize_spectra():
        nf.utils.update_lipschitz(flow, 5)

    options = {}
    if workload.name == "residual":
        # Not used with geometric chances, but a parameter all the same.
        for name, parameter in flow.named_parameters():
            if name.endswith(("geom_p", "lamb")):
                parameter.requires_grad_(False)
        options["after_step"] = normalize_spectra
        options["note"] = (
            "five power iterations after each step, and slopes of activations to learn"
        )
    return contender(
        flow,
        x,
        flow.log_prob,
        lambda: flow.sample(workload.batch)[0],
        flow.inverse,
        flow.forward,
        **options,
    )


def _layers(workload):
    """Bijectors in the order in which data meet them."""
    size, half, hidden = workload.size, workload.size // 2, workload.hidden
    for i in range(workload.layers):
        if workload.name in ("nice", "real_nvp"):
            affine = workload.name == "real_nvp"
            network = MLP(half, hidden, (1 + affine) * (size - half))
            yield nf.flows.AffineCouplingBlock(
                network, scale=affine, split_mode=("channel", "channel_inv")[i % 2]
            )
        elif workload.name == "spline":
            yield nf.flows.Reverse(
                nf.flows.neural_spline.coupling.PiecewiseRationalQuadraticCoupling(
                    torch.tensor([(j + i) % 2 for j in range(size)]),
                    lambda inputs, outputs: MLP(inputs, hidden, outputs),
                    num_bins=workload.bins,
                    tails="linear",
                    tail_bound=BOUND,
                )
            )
        elif workload.name == "maf":
            # As it is, a density takes a pass for each entry and a sample one pass.
            yield nf.flows.Reverse(
                nf.flows.MaskedAffineAutoregressive(
                    size,
                    hidden[0],
                    # The first hidden layer is not one of the blocks.
                    num_blocks=len(hidden) - 1,
                    use_residual_blocks=False,
                )
            )
            yield nf.flows.Permute(size)
        elif workload.name == "residual":
            network = nf.nets.LipschitzMLP([size, *hidden, size])
            yield nf.flows.Residual(network)
        else:
            raise NotOffered(f"no {workload.flow}")
    if workload.name == "nice":
        yield nf.flows.AffineConstFlow((size,), shift=False)


def _glow(workload, data):
    x = torch.from_numpy(data).permute(0, 3, 1, 2).contiguous()
    height, width, channels = workload.event_shape
    bases, levels, merges = [], [], []
    for level in range(workload.levels):
        height, width, channels = height // 2, width // 2, 4 * channels
        steps = [
            nf.flows.GlowBlock(channels, workload.hidden[0])
            for _ in range(workload.layers)
        ]
        levels.append([*steps, nf.flows.Squeeze()])
        last = level == workload.levels - 1
        left = channels if last else channels // 2
        bases.append(nf.distributions.DiagGaussian((left, height, width), False))
        if not last:
            merges.append(nf.flows.Merge())
            channels //= 2
    # It counts levels in the order in which samples meet them.
    flow = nf.MultiscaleFlow(bases[::-1], levels[::-1], merges[::-1], class_cond=False)
    return contender(
        flow,
        x,
        lambda x: flow.log_prob(x, None),
        lambda: flow.sample(workload.batch)[0],
        lambda x: flow.inverse_and_log_det(x)[0],
        lambda z: flow.forward_and_log_det(z)[0],
        note=(
            "no learned prior of what leaves a level; triangular factors stored as "
            "whole matrices"
        ),
    )
