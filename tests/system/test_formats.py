"""How counts, times and tables are written."""

from seqmnist_tf.system import markdown_table


def test_a_heading_that_begins_with_an_angle_bracket_is_right_aligned_and_a_bar_stays_in_its_cell() -> None:
    assert markdown_table(["run", ">seeds", ""], [["`a`", 5, "x|y"], ["`b`", None, ""]]) == (
        "| run | seeds |  |\n|---|---:|---|\n| `a` | 5 | x\\|y |\n| `b` | None |  |"
    )
