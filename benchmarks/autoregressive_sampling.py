"""Density and sampling of MAF, here and in TFP, by the number of entries.

    python benchmarks/autoregressive_sampling.py

Five affine transforms with two hidden layers of 256 units, batch 1024, `tf.function`
without XLA. Runs are interleaved; the table shows medians in milliseconds, and the
ratio of sampling to density, which is what machines agree on.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_flows import flows

tfb = tfp.bijectors
tfd = tfp.distributions


def tfp_maf(size: int, transforms: int, width: int) -> tfd.Distribution:
    layers = []
    for i in range(transforms):
        network = tfb.AutoregressiveNetwork(
            params=2,
            event_shape=[size],
            hidden_units=[width, width],
            activation="relu",
            input_order="left-to-right" if i % 2 == 0 else "right-to-left",
        )
        network(tf.zeros([1, size]))
        layers.append(tfb.MaskedAutoregressiveFlow(shift_and_log_scale_fn=network))
    base = tfd.MultivariateNormalDiag(tf.zeros(size))
    return tfd.TransformedDistribution(base, tfb.Chain(layers))


def traced(distribution, x, jit: bool):
    batch = x.shape[0]
    return (
        tf.function(lambda x: distribution.log_prob(x), jit_compile=jit),
        tf.function(
            lambda _: distribution.sample(batch, seed=tf.constant([0, 1])),
            jit_compile=jit,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 32, 64, 128])
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    arguments = parser.parse_args()
    print(f"{'':>5}{'tfp_flows':^30}{'TFP':^30}")
    heads = "".join(f"{h:>10}" for h in ("density", "sample", "ratio")) * 2
    print(f"{'D':>5}{heads}{'sampling: TFP / tfp_flows':>28}")
    for size in arguments.sizes:
        x = tf.random.stateless_normal([arguments.batch, size], [0, 0])
        ours = flows.maf((size,), layers=5, width=256, depth=2, seed=0)
        functions = [
            *traced(ours, x, arguments.jit),
            *traced(tfp_maf(size, 5, 256), x, arguments.jit),
        ]
        times = [[] for _ in functions]
        for f in functions:
            f(x)
        for _ in range(arguments.repeats):
            for f, seconds in zip(functions, times, strict=True):
                start = time.perf_counter()
                f(x)
                seconds.append(time.perf_counter() - start)
        a, b, c, d = (1e3 * np.median(t) for t in times)
        print(
            f"{size:>5}{a:>10.1f}{b:>10.1f}{b / a:>10.1f}{c:>10.1f}{d:>10.1f}"
            f"{d / c:>10.1f}{d / b:>28.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
