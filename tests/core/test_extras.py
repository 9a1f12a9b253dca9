"""What is missing is named, with the extra that brings it."""

from __future__ import annotations

import pytest

from tfp_flows.core.extras import needs


def test_what_is_there():
    with needs("plots"):
        from json import decoder
    assert decoder.JSONDecoder


def test_what_is_missing():
    with (
        pytest.raises(ImportError, match=r'no_such_thing .* "tfp_flows\[data\]"'),
        needs("data"),
    ):
        import no_such_thing  # noqa: F401


def test_what_another_package_misses(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text("import absent_helper")
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        pytest.raises(ImportError, match="absent_helper is not installed") as error,
        needs("data"),
    ):
        import needy  # noqa: F401
    assert error.value.name == "absent_helper"


def test_other_errors_are_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ZeroDivisionError), needs("data"):
        import broken  # noqa: F401
