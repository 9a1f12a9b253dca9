"""Text for a terminal."""

from __future__ import annotations

from tfp_flows.command import text


def test_printable():
    word = "a\x1b[31mred\x07\u202eb\nline é"
    assert text.printable(word) == "a\\x1b[31mred\\x07\\u202eb\nline é"
