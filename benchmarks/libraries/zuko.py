"""zuko (PyTorch)."""

from __future__ import annotations

import numpy as np
import torch
import zuko
from zuko.transforms import (
    AdditiveTransform,
    DependentTransform,
    MonotonicAffineTransform,
    MonotonicRQSTransform,
)

from libraries import Contender, NotOffered
from libraries.on_torch import contender, set_threads
from libraries.workloads import BOUND, DEGREES, Workload

PACKAGES = ("zuko", "torch")
NOTES = {
    "sum_of_squares": "three polynomials for each entry, where there are two here",
    "gaussianization": "components have equal weights",
    "continuous": "adaptive steps, with tolerances of 1e-6 and 1e-5; waves of time as "
    "inputs",
}


def build(workload: Workload, data: np.ndarray, threads: int) -> Contender:
    set_threads(threads)
    x = torch.from_numpy(data)
    flow = _flow(workload)
    if workload.name == "nice":
        scaling = zuko.lazy.UnconditionalTransform(_scale, torch.zeros(workload.size))
        flow.transform.transforms.append(scaling)

    def transform():
        return flow().transform

    return contender(
        flow,
        x,
        lambda x: flow().log_prob(x),
        lambda: flow().sample((workload.batch,)),
        lambda x: transform()(x),
        lambda z: transform().inv(z),
        note=NOTES.get(workload.name, ""),
    )


def _flow(workload):
    options = {
        "features": workload.size,
        "transforms": workload.layers,
        "hidden_features": workload.hidden,
    }
    if workload.name == "sum_of_squares":
        return zuko.flows.SOSPF(degree=DEGREES[workload.name], **options)
    if workload.name == "bernstein":
        return zuko.flows.BPF(degree=DEGREES[workload.name], **options)
    if workload.name == "gaussianization":
        del options["hidden_features"]
        return zuko.flows.GF(components=workload.bins, **options)
    if workload.name == "continuous":
        del options["transforms"]
        return zuko.flows.CNF(activation=torch.nn.Tanh, **options)
    if workload.name == "nice":
        return zuko.flows.NICE(univariate=AdditiveTransform, shapes=[()], **options)
    if workload.name == "real_nvp":
        return zuko.flows.RealNVP(**options)
    if workload.name == "maf":
        return zuko.flows.MAF(**options)
    if workload.name == "spline":
        bins = workload.bins
        return zuko.flows.NICE(
            univariate=_spline, shapes=[(bins,), (bins,), (bins - 1,)], **options
        )
    raise NotOffered(f"no {workload.flow}")


def _scale(log_scale):
    affine = MonotonicAffineTransform(torch.zeros_like(log_scale), log_scale)
    return DependentTransform(affine, 1)


def _spline(*parameters):
    return MonotonicRQSTransform(*parameters, bound=BOUND)
