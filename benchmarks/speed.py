"""Speed and memory of flows, here and in other libraries.

    python -m pip install -e ".[benchmark]" && python benchmarks/speed.py

prints a table for each workload and writes `benchmarks/results/speed.md` and
`speed.json`, where workloads that are not measured (`--workloads`) stay as they were.
With some of the libraries only, nothing is written but where `--output` says.

A row is a library in a process of its own; what is not installed gets a row that says
so. Each gets its fair best: `tf.function` (and XLA as a second row),
PyTorch's eager mode, `jax.jit`; data in memory; the batch, the networks and Adam the
same for all (each library's own: `tfp_flows.training.FusedAdam`, also for the bare
networks; Keras's for TFP).

* **Training step**: log-density, gradient, Adam. The row `fit` is the step that
  `FlowModel.fit` takes, metrics included.
* **log_prob**, **sample**: of a batch, without gradients.
* The processes take turns, A B C A B C, each for `--turn` seconds and three steps at
  least, so that the machine's drift hits all alike; they are stopped between their
  turns, and each has the same `--threads` processors. A turn counts by the median of
  its steps; times are medians over the turns, with quartiles. Ratios are medians of
  those within a round.
* **First call**: of each operation in turn, with tracing and compilation, imports and
  building left out.
* **Memory**: the most that the process held during training steps after the first,
  less what it held after imports and building: optimiser state, gradients,
  activations, and what compilation left behind.
* **Parameters**: the same architecture has as many. What deviates from tfp_flows by
  more than 1 % is marked, and explained below the table.
* **Round trip**: largest error of the batch after going to noise and back, in float32,
  by a new flow with Gaussian noise of 0.01 on every parameter: without the noise it
  would be the identity, and trained on one batch for long too steep for float32.

All processes keep the memory that they free, as `tfp-flows` does by
`tfp_flows.training.keep_freed_memory`: a step with large tensors would wait for new
pages from the system each time, with XLA most of all.

The bare networks are the limit: `libraries/bare.py` says what they do.

Libraries may live in other environments: `--interpreter distrax=/some/venv/bin/python`.
distrax needs one of its own, since it brings a nightly TensorFlow Probability whose
files overwrite those of the stable one:

    python -m venv distrax && distrax/bin/python -m pip install distrax optax
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from libraries import LABELS, OPERATIONS, NotOffered
from libraries.machine import first_line, forget_peak, processor, resident

RESULTS = Path(__file__).parent / "results"
# What `tfp_flows.training.keep_freed_memory` sets, for processes without tfp_flows too.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}
SAME = 0.01
MEMORY_STEPS = 3
LEAST_STEPS = 3


# The worker: one library, one workload.


def work(row: str, name: str, quick: bool, threads: int) -> None:
    """Answers the parent's requests, one line of JSON each, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    # What libraries print is no answer.
    os.dup2(2, 1)
    contender = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "import":
                module, options = _load(row, threads)
                answer = {"versions": _versions(module.PACKAGES)}
            elif request["do"] == "build":
                contender, answer = _build(module, options, name, quick, threads)
            elif request["do"] == "run":
                operation = getattr(contender, request["operation"])
                answer = {"seconds": _seconds(operation, request["steps"])}
            else:
                answer = {"round_trip": contender.round_trip and contender.round_trip()}
        except ImportError as error:
            answer = {"missing": f"not installed: {error}"}
        except NotOffered as error:
            answer = {"missing": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": first_line(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _load(row, threads):
    library, _, mode = row.partition("-")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    module = importlib.import_module(f"libraries.{library}")
    return module, {{"xla": "jit", "fit": "fit"}[mode]: True} if mode else {}


def _build(module, options, name, quick, threads):
    from libraries.workloads import QUICK, WORKLOADS

    workload = (QUICK if quick else WORKLOADS)[name]
    start = time.perf_counter()
    contender = module.build(workload, workload.data(), threads, **options)
    answer = {
        "building": time.perf_counter() - start,
        "parameters": contender.parameters,
        "note": contender.note,
        "first": {},
        "steps": {},
        "errors": {},
    }
    before = resident()
    for operation in OPERATIONS:
        function = getattr(contender, operation)
        if function is None:
            continue
        try:
            answer["first"][operation] = _seconds(function, 1)
            if operation == "train":
                answer["memory"] = _peak(function, before)
            answer["steps"][operation] = _seconds(function, 1)
        except Exception as error:
            traceback.print_exc()
            answer["errors"][operation] = first_line(error)
    return contender, answer


def _seconds(function, steps):
    """The median over the steps, since other programs lengthen some of them."""
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _peak(function, before):
    """Bytes held at most during some steps, more than `before`."""
    forget_peak()
    _seconds(function, MEMORY_STEPS)
    return max(0, resident(peak=True) - before)


def _versions(packages):
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


# The parent.


class Worker:
    """A process that waits, stopped, until it is asked for something."""

    def __init__(self, row: str, workload: str, arguments: argparse.Namespace):
        self.row = row
        library = row.partition("-")[0]
        command = [
            arguments.interpreters.get(library, sys.executable),
            str(Path(__file__).resolve()),
            *("--worker", row, workload),
            *("--threads", str(arguments.threads)),
            *(["--quick"] if arguments.quick else []),
        ]
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "OMP_NUM_THREADS": str(arguments.threads),
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
            **KEEP_FREED_MEMORY,
        }
        # A file, since a full pipe would stop a talkative worker for ever.
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )

    def ask(self, **request) -> dict:
        """The answer to a request; the process is stopped again after it."""
        self.post(**request)
        return self.collect()

    def post(self, **request) -> None:
        """Sends a request without waiting for the answer."""
        self._signal("SIGCONT")
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def collect(self) -> dict:
        """The answer to the request that was sent."""
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            said = self.log.read().strip().splitlines()[-1:]
            code = self.process.wait()
            return {"error": f"ended with code {code}: {' '.join(said)}"[:200]}
        self._signal("SIGSTOP")
        return json.loads(line)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()

    def _signal(self, name):
        if hasattr(signal, name) and self.process.poll() is None:
            self.process.send_signal(getattr(signal, name))


def measure(workload: str, arguments: argparse.Namespace) -> dict[str, dict]:
    """A dictionary for each row of a workload's table."""
    from libraries.workloads import WORKLOADS

    offered = WORKLOADS[workload].libraries or LABELS
    rows = {row: {} for row in arguments.libraries if row in offered}
    with contextlib.ExitStack() as stack:
        workers = {}
        for row in rows:
            worker = workers[row] = Worker(row, workload, arguments)
            stack.callback(worker.end)
            worker.post(do="import")
        # Imports may overlap, which nothing else does.
        for row, worker in workers.items():
            rows[row].update(worker.collect())
        for row, worker in workers.items():
            if not _gone(rows[row]):
                rows[row].update(worker.ask(do="build"))
                _say(f"  {LABELS[row]}: {_summary(rows[row])}")
        workers = {r: w for r, w in workers.items() if not _gone(rows[r])}
        for row in workers:
            rows[row]["seconds"] = {operation: [] for operation in rows[row]["steps"]}
        for _ in range(arguments.rounds):
            for operation in OPERATIONS:
                for row, worker in workers.items():
                    _turn(worker, rows[row], operation, arguments.turn)
        for row, worker in workers.items():
            if not _gone(rows[row]):
                answer = worker.ask(do="finish")
                rows[row]["round_trip"] = answer.get("round_trip")
                if "error" in answer:
                    rows[row]["errors"]["round trip"] = answer["error"]
    return rows


def _gone(row):
    return "missing" in row or "error" in row


def _turn(worker, row, operation, turn):
    if _gone(row) or operation in row["errors"] or operation not in row["steps"]:
        return
    steps = round(turn / max(row["steps"][operation], 1e-6))
    steps = max(LEAST_STEPS if turn else 1, steps)
    answer = worker.ask(do="run", operation=operation, steps=steps)
    if "error" in answer:
        row["errors"][operation] = answer["error"]
        return
    row["seconds"][operation].append(answer["seconds"])
    # The first estimate may be far off; a turn is to take about as long as it should.
    row["steps"][operation] = statistics.median(row["seconds"][operation])


def _summary(row):
    if _gone(row):
        return row.get("missing") or row["error"]
    first = ", ".join(f"{o} {s:.1f} s" for o, s in row["first"].items())
    failed = "".join(f"; {o} fails: {e}" for o, e in row["errors"].items())
    return f"{row['parameters']:,} parameters; first calls: {first}{failed}"


def _say(text):
    print(text, file=sys.stderr, flush=True)


# The table.


def table(title: str, rows: dict[str, dict]) -> str:
    """A workload's table in Markdown, with what there is to say about its rows."""
    head = [""]
    for operation in ("training step", "log_prob", "sample"):
        head += [f"{operation}, ms", "x bare", "x tfp_flows"]
    head += ["first calls, s", "memory, MB", "parameters", "round trip"]
    lines = [
        f"## {_capital(title)}",
        "",
        _line(head),
        _line(["---"] * len(head)),
    ]
    notes = []
    for name, row in rows.items():
        label = LABELS[name]
        if _gone(row):
            said = row.get("missing") or f"fails: {row['error']}"
            lines.append(_line([label, said] + [""] * (len(head) - 2)))
            continue
        cells = [label]
        for operation in OPERATIONS:
            seconds = row["seconds"].get(operation)
            if operation in row["errors"]:
                cells += ["fails", "", ""]
                notes.append(f"{label}: {operation} fails, {row['errors'][operation]}")
            elif not seconds:
                cells += ["-", "", ""]
            else:
                low, middle, high = (1e3 * s for s in quartiles(seconds))
                cells.append(f"{middle:.3g} ({low:.3g} to {high:.3g})")
                for other in ("bare", "tfp_flows"):
                    cells.append(_ratio(seconds, rows.get(other, {}), operation))
        cells.append(" / ".join(_first(row, operation) for operation in OPERATIONS))
        cells.append(f"{row['memory'] / 1e6:,.0f}" if "memory" in row else "-")
        cells.append(_parameters(name, row, rows))
        error = row.get("round_trip")
        if "round trip" in row["errors"]:
            notes.append(f"{label}: round trip fails, {row['errors']['round trip']}")
        cells.append("-" if error is None else f"{error:.1e}")
        lines.append(_line(cells))
        if row["note"]:
            notes.append(f"{label}: {row['note']}")
    return "\n".join([*lines, "", *(f"* {note}." for note in dict.fromkeys(notes))])


def _capital(title):
    return title[0].upper() + title[1:]


def _line(cells):
    return f"| {' | '.join(cells)} |"


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _ratio(seconds, other, operation):
    others = _measured(other, operation)
    if not others:
        return ""
    pairs = zip(seconds, others, strict=False)
    return f"{statistics.median(a / b for a, b in pairs):.2f}"


def _first(row, operation):
    return f"{row['first'][operation]:.2g}" if operation in row["first"] else "-"


def _parameters(name, row, rows):
    count = row["parameters"]
    deviation = parameter_deviation(row, rows.get("tfp_flows", {}))
    if deviation is None or deviation == 0:
        return f"{count:,}"
    sign = f"{100 * deviation:+.1f} %" if abs(deviation) > SAME else "~"
    return f"{count:,} ({sign})"


def parameter_deviation(row: dict, ours: dict) -> float | None:
    """By how much a row has more parameters than tfp_flows, as a share of them."""
    if "parameters" not in ours:
        return None
    return row["parameters"] / ours["parameters"] - 1


def conditions(arguments: argparse.Namespace) -> dict:
    """The machine and the settings."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "processor": processor(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": arguments.threads,
        "freed_memory": "kept",
        "rounds": arguments.rounds,
        "turn": arguments.turn,
        "load_at_start": _load_average(),
    }


def _load_average():
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def summary(workloads: dict) -> str:
    """One line for each workload: tfp_flows, the limit, the fastest of the others."""
    head = [""]
    for operation in ("training step", "log_prob", "sample"):
        head += [f"{operation}, ms", "x bare", "fastest other"]
    lines = [_line(head), _line(["---"] * len(head))]
    for workload in workloads.values():
        rows, cells = workload["rows"], [_capital(workload["title"].split(":")[0])]
        for operation in OPERATIONS:
            ours = _measured(rows.get("tfp_flows", {}), operation)
            if not ours:
                cells += ["-", "", ""]
                continue
            cells.append(f"{1e3 * statistics.median(ours):.3g}")
            cells.append(_ratio(ours, rows.get("bare", {}), operation))
            cells.append(_fastest_other(rows, operation))
        lines.append(_line(cells))
    return "\n".join(lines)


def _fastest_other(rows, operation):
    """The other library that is fastest, and how many times as long it takes.

    XLA counts where it is faster, there and here.
    """
    ours = [
        n
        for n in ("tfp_flows", "tfp_flows-xla")
        if _measured(rows.get(n, {}), operation)
    ]
    ours = min(ours, key=lambda n: statistics.median(_measured(rows[n], operation)))
    ratios = {
        name: float(_ratio(_measured(row, operation), rows[ours], operation))
        for name, row in rows.items()
        if name.partition("-")[0] not in ("bare", "tfp_flows")
        and _measured(row, operation)
    }
    if not ratios:
        return "none"
    name = min(ratios, key=ratios.get)
    here = "; here XLA" if ours == "tfp_flows-xla" else ""
    return f"{ratios[name]:.2f} ({LABELS[name]}{here})"


def _measured(row, operation):
    return row.get("seconds", {}).get(operation, [])


def report(workloads: dict) -> str:
    """The whole report in Markdown."""
    versions = {
        package: version
        for workload in workloads.values()
        for row in workload["rows"].values()
        for package, version in row.get("versions", {}).items()
    }
    lines = [
        "# Speed",
        "",
        "By `python benchmarks/speed.py`; its first lines say what each column means.",
        "",
        ", ".join(f"{package} {version}" for package, version in versions.items())
        + ".",
        "",
        "Milliseconds of tfp_flows without XLA, how many times as long as the bare "
        "networks it takes, and how many times as long the fastest of the other "
        "libraries takes, with or without XLA, as tfp_flows with or without XLA, "
        "whichever is faster.",
        "",
        summary(workloads),
    ]
    for workload in workloads.values():
        lines += ["", table(workload["title"], workload["rows"]).rstrip()]
        lines += ["", _circumstances(workload["conditions"])]
    return "\n".join(lines) + "\n"


def _circumstances(where):
    return (
        f"{where['processor']}, {where['processors']} processors, {where['system']}; "
        f"{where['threads']} threads for each process (TensorFlow: as many within an "
        f"operation and operations at a time); freed memory "
        f"{where.get('freed_memory', 'as by default')}; "
        f"{where['rounds']} rounds of turns of {where['turn']:g} s; "
        f"{where['date']} UTC; load average "
        f"{where['load_at_start']} before and {where['load_at_end']} after it."
    )


def parse(argv=None) -> argparse.Namespace:
    from libraries.workloads import WORKLOADS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS)
    )
    parser.add_argument("--libraries", nargs="+", choices=LABELS, default=list(LABELS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", type=float, default=0.3, help="seconds of a turn")
    parser.add_argument(
        "--threads", type=int, default=2, help="threads of each process"
    )
    parser.add_argument(
        "--interpreter",
        action="append",
        default=[],
        metavar="LIBRARY=PYTHON",
        help="the Python of a library that lives in another environment (repeatable)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, one round: a trial of all"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder to write; by default the results, if all libraries are measured",
    )
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    arguments.interpreters = {}
    for entry in arguments.interpreter:
        library, _, path = entry.partition("=")
        known = sorted({row.partition("-")[0] for row in LABELS})
        if library not in known or not shutil.which(path):
            parser.error(
                "--interpreter takes LIBRARY=PYTHON, an executable for one of "
                f"{', '.join(known)}; got {entry!r}"
            )
        arguments.interpreters[library] = path
    if min(arguments.rounds, arguments.threads) < 1:
        parser.error("--rounds and --threads must be at least 1")
    in_full = arguments.libraries == list(LABELS) and not arguments.quick
    if arguments.output is None and in_full:
        arguments.output = RESULTS
    if arguments.quick:
        arguments.rounds, arguments.turn = 1, 0.0
    return arguments


def main(argv=None) -> None:
    arguments = parse(argv)
    if arguments.worker:
        work(*arguments.worker, arguments.quick, arguments.threads)
        return
    from libraries.workloads import QUICK, WORKLOADS

    start = time.perf_counter()
    load = _load_average()
    if load and load > 0.5:
        _say(f"The machine is busy, load average {load}: waiting threads cost most.")
    known = {}
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        file = arguments.output / "speed.json"
        known = json.loads(file.read_text()) if file.exists() else {}
    for name in arguments.workloads:
        title = (QUICK if arguments.quick else WORKLOADS)[name].title
        _say(title)
        where = conditions(arguments)
        rows = measure(name, arguments)
        where["load_at_end"] = _load_average()
        known[name] = {"title": title, "conditions": where, "rows": rows}
        _say(f"  {time.perf_counter() - start:.0f} s since the start\n")
        print(table(title, rows), flush=True)
        if arguments.output:
            # In the order of the workloads, whichever was measured last.
            known = {name: known[name] for name in WORKLOADS if name in known}
            file.write_text(json.dumps(known, indent=1) + "\n")
            (arguments.output / "speed.md").write_text(report(known))


if __name__ == "__main__":
    main()
