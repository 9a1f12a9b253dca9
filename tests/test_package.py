"""The package as a whole: what importing it costs, and what it is made of."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tfp_flows

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent


def run(code: str) -> None:
    """Runs code in a new process."""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
def test_importing_is_cheap_and_sets_nothing():
    # Keras itself imports matplotlib and scikit-learn where they are installed.
    run(
        """
import sys, keras, tensorflow_probability
before = set(sys.modules)
import tfp_flows, tfp_flows.flows
new = set(sys.modules) - before
# Threads and devices are left to the user.
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
(cpu,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
assert len(tf.config.list_logical_devices("CPU")) == 2
heavy = {"tensorflow_datasets", "matplotlib", "sklearn", "scipy", "PIL"}
assert not heavy & {name.partition(".")[0] for name in new}
lazy = {"tfp_flows.datasets", "tfp_flows.diagnostics", "tfp_flows.plots"}
assert not lazy & new
assert {"datasets", "plots", "bijectors", "__version__"} <= set(dir(tfp_flows))
assert "tfp_flows.plots" not in sys.modules
assert tfp_flows.datasets.load("moons").event_shape == (2,)
assert tfp_flows.plots.curves([1], {"a": [2]}).axes
assert "tensorflow_datasets" not in sys.modules
try:
    tfp_flows.plot
except AttributeError as error:
    assert "'tfp_flows' has no attribute 'plot'" in str(error)
else:
    raise AssertionError("plot")
"""
    )


@pytest.mark.slow
def test_bijectors_need_no_extra():
    run(
        """
import sys
for name in ("matplotlib", "PIL", "sklearn", "tensorflow_datasets"):
    sys.modules[name] = None
import tfp_flows
from tfp_flows import datasets
assert tfp_flows.flows.nice((2,)).sample(3).shape == (3, 2)
assert datasets.load("moons").sizes["train"] > 0
try:
    tfp_flows.plots
except ImportError as error:
    assert 'pip install "tfp_flows[plots]"' in str(error)
else:
    raise AssertionError("plots")
assert "plots" in dir(tfp_flows)
"""
    )


def test_public_names_exist():
    for module in (
        tfp_flows,
        tfp_flows.bijectors,
        tfp_flows.datasets,
        tfp_flows.detection,
        tfp_flows.diagnostics,
        tfp_flows.distributions,
        tfp_flows.flows,
        tfp_flows.inference,
        tfp_flows.models,
        tfp_flows.latent,
        tfp_flows.masks,
        tfp_flows.networks,
        tfp_flows.plots,
        tfp_flows.training,
        tfp_flows.transformers,
    ):
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            value = getattr(module, name)
            # What is no constant says what it is.
            if callable(value) or inspect.ismodule(value):
                assert value.__doc__, f"{module.__name__}.{name}"


def test_requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert extras["all"] == ["tfp_flows[data,plots]"]
    ranges = dict(
        re.fullmatch(r"([\w-]+)(.*)", requirement).groups()
        for requirement in project["dependencies"]
    )
    # Their private parts are used: only versions that were tested will do.
    for name in ("tensorflow", "tensorflow-probability", "tf-keras", "keras"):
        assert re.fullmatch(r">=[\d.]+,<[\d.]+", ranges[name]), name
    assert not {"matplotlib", "tensorflow-datasets", "scikit-learn"} & set(ranges)


def test_contributing_names_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`([\w./-]+(?:/|\.\w+))`", text)
    assert "tfp_flows/datasets/toys.py" in paths and "tests/flows/" in paths
    missing = [p for p in paths if "/" in p and not (ROOT / p).exists()]
    assert not missing
    assert len(text.splitlines()) <= 110


def test_citation():
    text = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {tfp_flows.__version__}\n" in text
