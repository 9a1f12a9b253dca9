"""Keras has to compute with TensorFlow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("where", ["environment", "file"])
def test_another_backend_is_an_error_at_import(where, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    if where == "environment":
        environment["KERAS_BACKEND"] = name = "jax"
    else:
        name = "numpy"
        (tmp_path / "keras.json").write_text(json.dumps({"backend": name}))
        environment["KERAS_HOME"] = str(tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", "import tfp_flows"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    assert "ImportError: tfp_flows needs Keras with TensorFlow" in found.stderr
    assert "KERAS_BACKEND=tensorflow" in found.stderr
    if where == "environment":
        assert f"its backend is {name!r}" in found.stderr
