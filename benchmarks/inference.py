"""Flows beside other surrogates, and chains through a flow, on three known targets.

    python benchmarks/inference.py
    python benchmarks/inference.py funnel seconds

fits TFP's mean field and multivariate normal surrogates and a flow to Neal's funnel, a
banana and a logistic regression (the targets of the examples), and compares bounds and
moments. Moments of the funnel and the banana are known, so that they need no NUTS; the
logistic regression has a long run. HMC, NeuTra and flow proposals, alone and in turn
with HMC, then sample the funnel and the banana. The part `double well` compares a flow
with steps of Markov chains between its layers, with the flow and with the steps alone,
at equal evaluations of the density. The part `seconds` times what a step of
`VariationalModel.fit` computes, with and without XLA. Writes
`benchmarks/results/inference.json` and the tables `inference_surrogates.md`,
`inference_chains.md`, `inference_paths.md` and `inference_seconds.md`; parts that are
not named keep their rows.
"""

from __future__ import annotations

import argparse
import json
import runpy
import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import report
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.datasets import load_breast_cancer

import tfp_flows
from tfp_flows import bijectors, distributions, flows, inference

RESULTS = Path(__file__).parent / "results"
EXAMPLES = Path(__file__).parent.parent / "examples"
HMC = tfp.mcmc.HamiltonianMonteCarlo
CHAINS, LEAPS, LEAPS_THROUGH = 32, 8, 4
HEADS = {
    "surrogates": [
        *("target", "surrogate", "bound, nats", "log evidence, nats"),
        *("effective samples", "Pareto k", "first moments", "narrowest", "s"),
    ],
    "chains": [
        *("target", "kernel", "evaluations a step", "accepted"),
        *("effective samples per 1,000", "deviation", "s"),
    ],
    "paths": [
        *("surrogate", "trained", "evaluations a sample", "bound, nats"),
        *("log evidence, nats", "effective samples per 1,000 evaluations"),
        *("Pareto k", "right well, %", "s"),
    ],
    "seconds": [
        *("32 samples of the logistic regression", "processor ms (ms passed)"),
        *("with XLA", "first call, processor s", "with XLA"),
    ],
}


class Case(NamedTuple):
    """A target, what is known of its moments, and how surrogates are trained.

    Attributes:
      target: a distribution, or a pinned one.
      shown: the entries whose moments are shown, by name.
      moments: means and deviations of all entries, or `None` where NUTS finds them.
      samples: samples in a step of training.
    """

    target: Any
    shown: dict[str, int]
    moments: tuple[Any, Any] | None
    samples: int


def case(name: str) -> Case:
    if name == "logistic regression":
        make = runpy.run_path(str(EXAMPLES / "logistic_regression.py"))["make_model"]
        x, y = load_breast_cancer(return_X_y=True)
        x = x[:, :10]
        x = np.c_[np.ones(len(x)), (x - x.mean(0)) / x.std(0)].astype("float32")
        pinned = make(x[:400]).experimental_pin(y=y[:400])
        return Case(pinned, {"scale": 0, "radius": 2}, None, 32)
    target = runpy.run_path(str(EXAMPLES / "neutra_funnel.py"))[name]
    shown = {"v": 0, "x": 1}
    if name == "funnel":
        # E[exp(v)] of v ~ N(0, 3^2) is exp(9/2).
        deviations = [3.0] + [np.exp(9 / 4)] * 9
        return Case(target, shown, (np.zeros(10), np.array(deviations)), 128)
    # Var[v^2] of v ~ N(0, 10^2) is 2 * 10^4.
    deviations = [10.0, np.sqrt(1 + 0.03**2 * 2e4)]
    return Case(target, shown, (np.zeros(2), np.array(deviations)), 128)


def surrogates(target: Any) -> dict[str, tuple[float, Any]]:
    """Learning rates and surrogates."""
    build = tfp.experimental.vi
    support = target.experimental_default_event_space_bijector()
    shapes = {"event_shape": target.event_shape, "bijector": support}
    normal = build.build_affine_surrogate_posterior(operators="tril", **shapes)
    return {
        "mean field (TFP)": (0.05, build.build_factored_surrogate_posterior(**shapes)),
        "multivariate normal (TFP)": (0.05, normal),
        "flow": (0.01, inference.surrogate_posterior(target, seed=0)),
    }


def variational(target, surrogate, name, rate, steps, samples=32):
    options = {"path_gradient": name == "flow", "sample_size": samples}
    fit = inference.VariationalModel(target, surrogate, **options)
    rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    fit.compile(keras.optimizers.Adam(rate))
    return fit


def entries(samples: Any) -> np.ndarray:
    """All numbers of a structure `[n, ...]`, as `[n, D]`."""
    parts = [np.asarray(part) for part in tf.nest.flatten(samples)]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], -1)


def nuts(pinned: Any, steps: int) -> tuple[np.ndarray, float, float]:
    """A run of the logistic regression: samples, effective ones, largest R-hat."""
    size = pinned.event_shape.weights[0]

    def log_prob(log_scale, effect):
        # Weights over their scale mix better; the last term is the Jacobian.
        scale = tf.exp(log_scale)
        value = pinned.unnormalized_log_prob(scale, scale[:, None] * effect)
        return value + (size + 1) * log_scale

    kernel = tfp.mcmc.NoUTurnSampler(log_prob, 0.02, max_tree_depth=7)
    burn = max(steps // 2, 2)
    kernel = tfp.mcmc.DualAveragingStepSizeAdaptation(kernel, int(0.8 * burn))
    start = [tf.zeros([16]), tf.zeros([16, size])]
    sample = tf.function(tfp.mcmc.sample_chain, jit_compile=True)
    log_scale, effect = sample(steps, start, None, kernel, burn, 0, None, seed=[0, 1])
    scale = tf.exp(log_scale)[..., None]
    x = tf.concat([scale, scale * effect], -1)
    r_hat = np.max(tfp.mcmc.potential_scale_reduction(x))
    return x.numpy().reshape(-1, size + 1), effective(x), float(r_hat)


def effective(states: tf.Tensor) -> float:
    """Effective samples of the worst entry of chains `[steps, chains, ...]`."""
    options = {"filter_beyond_positive_pairs": True, "cross_chain_dims": 1}
    return float(np.min(tfp.mcmc.effective_sample_size(states, **options)))


def moments(shown, mean, deviation) -> str:
    return ", ".join(
        f"{k}: {mean[i]:.2f} ± {deviation[i]:.2f}" for k, i in shown.items()
    )


def compare(name: str, steps: int, nuts_steps: int):
    """Rows of surrogates; and the flow."""
    target, shown, known, samples = case(name)
    rows, reference = [], None
    if known is None:
        start = time.perf_counter()
        x, worth, r_hat = nuts(target, nuts_steps)
        known = x.mean(0), x.std(0)
        label = f"NUTS, {len(x):,} samples, R-hat at most {r_hat:.3f}"
        seconds = f"{time.perf_counter() - start:.0f}"
        cells = ["", "", f"{worth:,.0f}", "", moments(shown, *known), "", seconds]
        reference = [name, label, *cells]
    else:
        cells = ["", "0", "", "", moments(shown, *known), "", ""]
        reference = [name, "exact", *cells]
    for kind, (rate, q) in surrogates(target).items():
        start = time.perf_counter()
        fit = variational(target, q, kind, rate, steps, samples)
        fit.fit(steps, verbose=0, seed=0)
        found = fit.importance_sampling()
        x = entries(found.samples)
        cells = [
            f"{found.bound:.3f} ± {found.bound_error:.3f}",
            f"{found.log_evidence:.3f} ± {found.log_evidence_error:.3f}",
            f"{found.effective_sample_size:,.0f}",
            f"{found.pareto_k:.2f}",
            moments(shown, x.mean(0), x.std(0)),
            f"{np.min(x.std(0) / known[1]):.2f}",
            f"{time.perf_counter() - start:.0f}",
        ]
        rows.append([name, kind, *cells])
        print(*rows[-1], sep=" | ", flush=True)
    rows.append(reference)
    print(*reference, sep=" | ", flush=True)
    return rows, q


def acceptance(results: Any) -> tf.Tensor:
    """The share of accepted states of a step, within whatever kernel."""
    while not hasattr(results, "is_accepted"):
        results = getattr(results, "inner_results", None) or results.results[-1]
    return tf.reduce_mean(tf.cast(results.is_accepted, tf.float32))


def chains(name: str, flow: Any, steps: int):
    """Rows of kernels, which start at samples of the target."""
    target, rows = case(name).target, []
    start = target.sample(CHAINS, seed=1)
    burn = max(steps // 5, 1)
    adapt = tfp.mcmc.DualAveragingStepSizeAdaptation
    through = {"step_size": 0.1, "num_leapfrog_steps": LEAPS_THROUGH}
    plain = adapt(HMC(target.log_prob, 0.1, LEAPS), burn)
    neutra = adapt(inference.neutra(target, flow, HMC, **through), burn)
    proposal = inference.flow_proposal(target, flow)

    def run(kind, kernel, evaluations, trace):
        begin = time.perf_counter()
        sample = tf.function(tfp.mcmc.sample_chain)
        state, (accepted, traced) = sample(
            *(steps, start, None, kernel, burn, 0),
            lambda _, results: (acceptance(results), trace(results)),
            seed=[0, 1],
        )
        v, x = state
        values = tf.concat([v[..., None], x, v[..., None] ** 2, x**2], -1)
        rate = 1000 * effective(values) / evaluations / np.size(v)
        cells = [
            str(evaluations),
            f"{np.mean(accepted):.2f}",
            f"{rate:.2f}",
            f"{np.std(v):.2f}",
            f"{time.perf_counter() - begin:.0f}",
        ]
        rows.append([name, kind, *cells])
        print(*rows[-1], sep=" | ", flush=True)
        return traced

    sizes = run("HMC", plain, LEAPS, lambda results: results.new_step_size)
    run("NeuTra, HMC", neutra, LEAPS_THROUGH, lambda results: tf.zeros([]))
    run("`flow_proposal`", proposal, 1, lambda results: tf.zeros([]))
    # Each turn evaluates the density at its start once more.
    local = HMC(target.log_prob, sizes[-1], LEAPS)
    kernel = inference.InTurn([local, proposal])
    label = "`InTurn`, HMC and proposal"
    run(label, kernel, LEAPS + 3, lambda results: tf.zeros([]))
    return rows


def double_well(x: tf.Tensor) -> tf.Tensor:
    """Two wells, of which the left one is much deeper (Noé et al. 2019)."""
    a, b = x[..., 0], x[..., 1]
    return 3.0 * a**2 - 0.25 * a**4 - a - 0.5 * b**2


def of_double_well() -> tuple[float, float]:
    """Its log-normaliser, and the share of the right well."""
    a = np.linspace(-7.0, 7.0, 20_001)
    density = np.exp(3.0 * a**2 - 0.25 * a**4 - a)
    area, right = density.sum(), density[a > 0].sum()
    return float(np.log(area * (a[1] - a[0]) * np.sqrt(2 * np.pi))), right / area


def paths(steps: int, evaluations: int = 200_000, repeats: int = 10):
    """Rows of surrogates of the double well, at equal evaluations of its density."""
    betas, walk = (0.25, 0.5, 0.75, 1.0), 10
    metropolis = {"new_state_fn": tfp.mcmc.random_walk_normal_fn(0.5)}
    # The first state and each step, and both ends once more for the weight.
    cost = {"": 1, "Metropolis": len(betas) * (walk + 3) + 1}
    log_z, share = of_double_well()
    rows = []
    for kind, options, layers, trained in (
        ("", {}, 8, "the flow"),
        ("Metropolis", metropolis, 0, "nothing"),
        ("Metropolis", metropolis, 8, "the flow"),
        ("Metropolis", metropolis, 8, "the path"),
    ):
        start = time.perf_counter()
        q = flow = tfp_flows.Flow(
            distributions.standard_normal((2,)), bijectors.Chain([])
        )
        if layers:
            options_of_flow = {"layers": layers, "width": 32, "normalize": False}
            q = flow = flows.real_nvp((2,), seed=0, **options_of_flow)
        if kind:
            q = inference.StochasticFlow(flow, double_well, betas, walk, **options)
        if layers:
            of_path = trained == "the path"
            count = 32 * cost["Metropolis"] // cost[kind if of_path else ""]
            trains = q if of_path else flow
            fit = variational(double_well, trains, "", 0.005, steps, count)
            fit.fit(steps, verbose=0, seed=0)
        size, found, shares = evaluations // cost[kind], [], []
        for seed in range(repeats):
            one = inference.importance_sampling(double_well, q, size, seed)
            weights = np.exp(one.log_weights - one.log_evidence)
            shares.append(np.mean(weights * (np.asarray(one.samples)[:, 0] > 0)))
            found.append(one)
        evidence = [one.log_evidence - log_z for one in found]
        ess = np.mean([one.effective_sample_size for one in found])
        name = ", ".join(filter(None, ["flow" if layers else "", kind]))
        cells = [
            trained,
            str(cost[kind]),
            f"{np.mean([one.bound for one in found]) - log_z:.2f}",
            f"{np.mean(evidence):.4f} ± {np.std(evidence):.4f}",
            f"{1000 * ess / evaluations:.1f}",
            f"{np.median([one.pareto_k for one in found]):.2f}",
            f"{100 * np.mean(shares):.2f} ± {100 * np.std(shares):.2f}",
            f"{time.perf_counter() - start:.0f}",
        ]
        rows.append([name, *cells])
        print(*rows[-1], sep=" | ", flush=True)
    known = ["", "", "0", "0", "", "", f"{100 * share:.2f}", ""]
    return [*rows, ["exact", *known]]


def seconds(calls: int):
    """Rows of times of a step's parts, without and with XLA."""
    target = case("logistic regression").target
    q = inference.surrogate_posterior(target, seed=0)
    sample = q.sample(32, seed=0)

    def density(_):
        with tf.GradientTape() as tape:
            tape.watch(sample)
            value = target.unnormalized_log_prob(sample)
        return tape.gradient(value, sample)

    def step(seed, path_gradient):
        with tf.GradientTape() as tape:
            options = {"path_gradient": path_gradient, "seed": seed}
            loss, _ = inference.reverse_kl(target, q, **options)
        return tape.gradient(loss, q.trainable_variables)

    rows = []
    for label, function in (
        ("gradient of the target alone", density),
        ("gradient of the bound", lambda seed: step(seed, False)),
        ("the same with the path gradient", lambda seed: step(seed, True)),
    ):
        first, cells = [], []
        for jit in (False, True):
            compiled = tf.function(function, jit_compile=jit, autograph=False)
            starts = time.process_time(), time.perf_counter()
            compiled(tf.constant([0, 0]))
            first.append(f"{time.process_time() - starts[0]:.1f}")
            starts = time.process_time(), time.perf_counter()
            # XLA may compile anew for each seed, which takes seconds.
            count = min(calls, 3) if jit else calls
            for i in range(count):
                compiled(tf.constant([1, i]))
            used = 1000 * (time.process_time() - starts[0]) / count
            passed = 1000 * (time.perf_counter() - starts[1]) / count
            cells.append(f"{used:.2f} ({passed:.2f})")
        rows.append([label, *cells, *first])
        print(*rows[-1], sep=" | ", flush=True)
    return rows


def measure(part: str, steps: int, nuts_steps: int, chain_steps: int, calls: int):
    """Rows of each table."""
    if part == "seconds":
        return {"seconds": seconds(calls)}
    if part == "double well":
        return {"paths": paths(max(steps // 4, 1))}
    rows, flow = compare(part, steps, nuts_steps)
    if part == "logistic regression":
        return {"surrogates": rows}
    return {"surrogates": rows, "chains": chains(part, flow, chain_steps)}


def main(argv: list[str] | None = None) -> None:
    parts = ["funnel", "banana", "logistic regression", "double well", "seconds"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    report.add_parts(parser, parts)
    parser.add_argument("--steps", type=int, default=2000, help="of training")
    parser.add_argument("--nuts-steps", type=int, default=1000)
    parser.add_argument("--chain-steps", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=50, help="of timing")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "inference.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    for part in options.parts or parts:
        keras.utils.set_random_seed(0)
        sizes = options.steps, options.nuts_steps, options.chain_steps, options.calls
        kept[part] = measure(part, *sizes)
        path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
        for kind, head in HEADS.items():
            rows = [r for p in parts for r in kept.get(p, {}).get(kind, [])]
            text = report.table(head, rows)
            (options.output / f"inference_{kind}.md").write_text(text)


if __name__ == "__main__":
    main()
