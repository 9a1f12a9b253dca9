"""nflows (PyTorch)."""

from __future__ import annotations

import numpy as np
import torch
from nflows import distributions, flows, transforms

from libraries import Contender, NotOffered
from libraries.on_torch import MLP, ConvNet, contender, set_threads
from libraries.workloads import BOUND, Workload

PACKAGES = ("nflows", "torch")


def build(workload: Workload, data: np.ndarray, threads: int) -> Contender:
    set_threads(threads)
    if workload.name == "residual":
        raise NotOffered(f"no {workload.flow}")
    glow = workload.name == "glow"
    x = torch.from_numpy(data)
    if glow:
        x = x.permute(0, 3, 1, 2).contiguous()
    transform = (_glow if glow else _vectors)(workload)
    flow = flows.Flow(transform, distributions.StandardNormal([workload.size]))
    note = {
        "nice": "the scaling has a shift too",
        "glow": "no learned prior of what leaves a level; a bias in each convolution",
    }.get(workload.name, "")
    return contender(
        flow,
        x,
        flow.log_prob,
        lambda: flow.sample(workload.batch),
        lambda x: transform(x)[0],
        lambda z: transform.inverse(z)[0],
        note=note,
    )


def _vectors(workload):
    size, hidden = workload.size, workload.hidden
    layers = []

    def network(inputs, outputs):
        return MLP(inputs, hidden, outputs)

    for i in range(workload.layers):
        mask = [(j + i) % 2 for j in range(size)]
        if workload.name == "nice":
            layers.append(transforms.AdditiveCouplingTransform(mask, network))
        elif workload.name == "real_nvp":
            layers.append(transforms.AffineCouplingTransform(mask, network))
        elif workload.name == "spline":
            layers.append(
                transforms.PiecewiseRationalQuadraticCouplingTransform(
                    mask, network, workload.bins, tails="linear", tail_bound=BOUND
                )
            )
        else:
            layers.append(
                transforms.MaskedAffineAutoregressiveTransform(
                    size,
                    hidden[0],
                    # The first hidden layer is not one of the blocks.
                    num_blocks=len(hidden) - 1,
                    use_residual_blocks=False,
                )
            )
            layers.append(transforms.ReversePermutation(size))
    if workload.name == "nice":
        layers.append(transforms.ActNorm(size))
    return transforms.CompositeTransform(layers)


def _glow(workload):
    height, width, channels = workload.event_shape
    glow = transforms.MultiscaleCompositeTransform(workload.levels)
    for _ in range(workload.levels):
        height, width, channels = height // 2, width // 2, 4 * channels
        layers = [transforms.SqueezeTransform()]
        for _ in range(workload.layers):
            mask = [int(j >= channels // 2) for j in range(channels)]
            layers += [
                transforms.ActNorm(channels),
                transforms.OneByOneConvolution(channels),
                transforms.AffineCouplingTransform(
                    mask,
                    lambda inputs, outputs: ConvNet(
                        inputs, workload.hidden[0], outputs
                    ),
                ),
            ]
        shape = (channels, height, width)
        glow.add_transform(transforms.CompositeTransform(layers), shape)
        channels //= 2
    return glow
