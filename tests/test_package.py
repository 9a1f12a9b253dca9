"""The package as a whole: what importing it costs, and what its README says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tfp_flows
import tfp_flows.plots

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_importing_is_cheap():
    # Keras itself imports matplotlib and scikit-learn where they are installed.
    code = (
        "import sys, keras, tensorflow_probability; before = set(sys.modules);"
        "import tfp_flows, tfp_flows.datasets, tfp_flows.plots;"
        "new = {m.split('.')[0] for m in set(sys.modules) - before};"
        "heavy = new & {'tensorflow_datasets', 'matplotlib', 'sklearn', 'scipy'};"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_public_names_exist():
    for module in (
        tfp_flows,
        tfp_flows.bijectors,
        tfp_flows.distributions,
        tfp_flows.flows,
        tfp_flows.latent,
        tfp_flows.masks,
        tfp_flows.networks,
        tfp_flows.plots,
        tfp_flows.training,
    ):
        assert sorted(module.__all__, key=str) and len(set(module.__all__)) == len(
            module.__all__
        )
        for name in module.__all__:
            assert getattr(module, name).__doc__, f"{module.__name__}.{name}"


@pytest.mark.parametrize(
    "block",
    re.findall(r"```python\n(.*?)```", README, flags=re.S),
    ids=["drop-in", "fit", "memory", "conditional"],
)
def test_readme_examples_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    exec(compile(block, "README.md", "exec"), {})


def test_readme_lists_every_bijector():
    for name in tfp_flows.bijectors.__all__:
        if name not in ("JointBijector", "Transformer"):
            assert f"| `{name}` |" in README
