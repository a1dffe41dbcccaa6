"""What commands print: JSON, Markdown tables, and untrusted text in them."""

from __future__ import annotations

import pytest

from seqmnist_tf.system import escape_markdown, markdown_table


def test_a_heading_that_begins_with_an_angle_bracket_is_right_aligned() -> None:
    assert markdown_table(["run", ">seeds", ""], [["`a`", 5, "x|y\\\\|z\\|"], ["`b`", None, ""]]) == (
        "| run | seeds |  |\n|---|---:|---|\n| `a` | 5 | x\\|y\\\\\\|z\\| |\n| `b` | None |  |"
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("AMD EPYC (family 26, model 2), native-avx512", "AMD EPYC (family 26, model 2), native-avx512"),
        ("x |\n<!-- end -->", "x \\| &lt;!-- end --&gt;"),
        ("`code` [a](b) *c*", "\\`code\\` \\[a\\](b) \\*c\\*"),
        ("a\\|b & c", "a\\\\\\|b &amp; c"),
        ("\x1b[31m\u202etext", "?\\[31m?text"),
    ],
)
def test_untrusted_text_stays_in_its_cell(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped
