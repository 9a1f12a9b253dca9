"""What is measured: flows, sizes and data."""

from __future__ import annotations

import dataclasses

import numpy as np

__all__ = ["DEGREES", "QUICK", "WORKLOADS", "Workload"]

LEARNING_RATE = 1e-4
# Added to every parameter before the round trip, since a new flow is the identity.
SPREAD = 0.01
BOUND = 3.0
# Of polynomials.
DEGREES = {"sum_of_squares": 3, "bernstein": 16}


@dataclasses.dataclass(frozen=True)
class Workload:
    """One flow and one batch.

    Attributes:
      name: name on the command line.
      title: heading of its table.
      event_shape: `(D,)`, or `(H, W, C)` of images.
      layers: couplings, transforms or blocks; of Glow, steps in each level.
      hidden: widths of the hidden layers of each network; of Glow, its channels.
      batch: examples in a batch.
      levels: levels of Glow.
      bins: bins of the splines.
      libraries: rows of its table; none: all.
    """

    name: str
    title: str
    event_shape: tuple[int, ...]
    layers: int
    hidden: tuple[int, ...]
    batch: int
    levels: int = 0
    bins: int = 0
    libraries: tuple[str, ...] = ()

    @property
    def flow(self) -> str:
        """What the flow is called."""
        return self.title.split(":")[0]

    @property
    def size(self) -> int:
        """Number of entries of an event."""
        return int(np.prod(self.event_shape))

    @property
    def num_parameters(self) -> int:
        """Parameters of each entry that the networks compute."""
        return {"nice": 1, "spline": 3 * self.bins - 1}.get(self.name, 2)

    def data(self) -> np.ndarray:
        """A batch of standard Gaussians, `[batch, *event_shape]`."""
        draw = np.random.default_rng(0)
        return draw.normal(size=(self.batch, *self.event_shape)).astype(np.float32)


# Rows of the tables of what few libraries have.
OURS = ("tfp_flows", "tfp_flows-xla", "tfp_flows-fit")


def _polynomials(name, flow):
    return Workload(
        name,
        f"{flow}: D=16, three autoregressions, 2x128, batch 512",
        (16,),
        layers=3,
        hidden=(128, 128),
        batch=512,
        libraries=(*OURS, "zuko"),
    )


def _workloads(*entries):
    return {w.name: w for w in entries}


WORKLOADS = _workloads(
    Workload(
        "nice",
        "NICE: D=784, four additive couplings, five hidden layers of 1000, batch 200",
        (784,),
        layers=4,
        hidden=(1000,) * 5,
        batch=200,
    ),
    Workload(
        "real_nvp",
        "RealNVP: D=64, eight affine couplings, 2x256, batch 1024",
        (64,),
        layers=8,
        hidden=(256, 256),
        batch=1024,
    ),
    Workload(
        "glow",
        "Glow: 32x32x3, 3 levels of 8 steps, width 128, batch 16",
        (32, 32, 3),
        layers=8,
        hidden=(128, 128),
        batch=16,
        levels=3,
    ),
    Workload(
        "spline",
        "spline couplings: D=64, eight layers, 8 bins, 2x256, batch 512",
        (64,),
        layers=8,
        hidden=(256, 256),
        batch=512,
        bins=8,
    ),
    Workload(
        "maf",
        "MAF: D=64, five layers, 2x256, batch 1024",
        (64,),
        layers=5,
        hidden=(256, 256),
        batch=1024,
    ),
    Workload(
        "residual",
        "residual flow: D=16, eight blocks of 2x128, batch 512",
        (16,),
        layers=8,
        hidden=(128, 128),
        batch=512,
    ),
    _polynomials("sum_of_squares", "sums of squares of polynomials"),
    _polynomials("bernstein", "Bernstein polynomials"),
    Workload(
        "gaussianization",
        "Gaussianization: D=16, six layers of 16 components, batch 512",
        (16,),
        layers=6,
        hidden=(),
        batch=512,
        bins=16,
        libraries=(*OURS, "zuko"),
    ),
    Workload(
        "continuous",
        "continuous flow: D=8, 3x64, exact trace, batch 256",
        (8,),
        layers=1,
        hidden=(64,) * 3,
        batch=256,
        libraries=(*OURS, "tfp", "zuko"),
    ),
)


def _small(w: Workload) -> Workload:
    image = len(w.event_shape) == 3
    return dataclasses.replace(
        w,
        title=f"{w.flow}: a tiny one",
        event_shape=(8, 8, 1) if image else (6,),
        layers=2,
        hidden=(8, 8),
        batch=8,
        levels=2 if image else 0,
        bins=4 if w.bins else 0,
    )


QUICK = {name: _small(w) for name, w in WORKLOADS.items()}
