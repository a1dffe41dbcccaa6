"""What a report says of arms and pairs: sentences, tables, methods, references, pictures. No file is read."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seqmnist_tf.compare import Comparison
from seqmnist_tf.compare.pictures import draw_comparison, draw_curves, draw_differences, draw_disagreements
from seqmnist_tf.compare.report import REFERENCES, latex_rows, markdown_rows, methods_paragraph, report_text, tables
from seqmnist_tf.compare.statistics import seeds_needed
from tests.compare.runs import TOTAL, compared, seeded
from tests.conftest import assert_fits

ACCURACIES = {0: 20, 1: 21, 2: 19, 3: 22, 4: 20, 5: 18}


def report_of(comparison: Comparison) -> str:
    return report_text(replace(comparison, markdown=tables(comparison)), [])


def test_the_tables_and_pictures_of_a_report_keep_the_sides_apart(toy: None) -> None:
    a, b = seeded("a", {0: 20, 1: 20}), seeded("b", {0: 21, 1: 20}, first=3, optimizer__lr=0.5)
    comparison = compared(a, b)
    for row in (
        "| 0 | 66.67 | 70.00 | +1 | 3 | 4 | 1.0000 |",
        "| 1 | 66.67 | 66.67 | 0 | 3 | 3 | 1.0000 |",
        "| `b` against `a` | 2 | +1.67 | -19.51 to +22.84 | Student's t | 1.0000 |  | 1.0000 |",
    ):
        assert row in tables(comparison).splitlines()
    assert [part.get_suptitle() for part in draw_disagreements(comparison).subfigs] == [
        "only a is right, b is wrong (in 2 seeds: 3 digits)",
        "only b is right, a is wrong (in 2 seeds: 4 digits)",
    ]
    (differences,), (curves,) = draw_differences(comparison).axes, draw_curves(comparison).axes
    drawn = [np.array(line.get_xdata()) for line in differences.lines[:3]]
    for values, expected in zip(drawn, ([10 / 3, 0], [-19.51, 22.84], [5 / 3]), strict=True):
        assert values == pytest.approx(expected, abs=0.01)
    means = [np.array(line.get_ydata())[-1] for line in curves.lines]
    assert means == pytest.approx([100 * 10 / 30, 100 * 9.5 / 30])
    assert np.array(curves.collections[1].get_paths()[0].vertices)[:, 1].min() == pytest.approx(100 * 9 / 30)


def test_the_pictures_fit(toy: None) -> None:
    names = ("a", "an-arm-whose-name-is-long", "c", "d")
    arms = [seeded(name, {0: 20 + n, 1: 21}, first=n, optimizer__lr=0.1 + n) for n, name in enumerate(names)]
    pictures = draw_comparison(compared(*arms))
    assert list(pictures) == ["curves.png", "differences.png", "disagreements.png"]
    for figure in pictures.values():
        assert_fits(figure)
    assert list(draw_comparison(compared(arms[0]))) == ["curves.png"]


def test_an_interval_of_a_mean_ends_at_all_and_at_none() -> None:
    assert seeded("a", {0: 30, 1: 20}).ci_95 == (0.0, 1.0)


@pytest.mark.parametrize(
    ("changed", "computed"),
    [
        ({"kernel": "native-avx2"}, "a: keras on toy; b: native-avx2 on toy"),
        ({"machine": {"processor": "another"}}, "a: keras on toy; b: keras on another"),
        ({"threads": 2}, "a: keras on toy; b: keras on toy with 2 threads"),
        ({"device": "GPU x"}, "a: keras on toy; b: keras on toy with GPU x"),
        (
            {"resumed": [{"kernel": "native-amx", "machine": {"processor": "other"}, "threads": 1}]},
            "a: keras on toy; b: keras, native-amx on other with 1 thread, toy",
        ),
    ],
)
def test_seconds_of_other_kernels_or_machines_are_said_not_to_compare(changed: dict[str, Any], computed: str) -> None:
    a, b = (seeded(name, {0: 20, 1: 21}) for name in "ab")
    assert "Seconds per epoch do not compare" not in tables(compared(a, b))
    note = f"- Seconds per epoch do not compare the layers: they were measured with {computed}."
    assert note in report_of(compared(a, seeded("b", {0: 20, 1: 21}, environment=changed))).splitlines()


def test_five_seeds_cannot_show_a_difference() -> None:
    five = {seed: number for seed, number in ACCURACIES.items() if seed < 5}
    comparison = compared(seeded("a", five), seeded("b", dict.fromkeys(five, 3)))
    assert comparison.pairs[0].sign_flip_p == 0.0625
    assert (
        "With 5 seeds the p of this test cannot be below 0.0625: it decides nothing, also where the "
        "interval excludes 0; with 6 seeds" in str(comparison.statements)
    )
    report = report_of(comparison)
    assert "better" not in report and "worse" not in report
    assert "tarone1990" not in report  # there is one pair, and no correction


def test_holm_corrects_over_the_pairs() -> None:
    arms = [
        seeded(name, {seed: number + more for seed, number in ACCURACIES.items()})
        for name, more in (("a", 0), ("b", 3), ("c", -3), ("d", 1))
    ]
    comparison = compared(*arms)
    assert [(pair.b, pair.sign_flip_p, pair.holm_p) for pair in comparison.pairs] == [
        (name, 0.03125, 0.09375) for name in "bcd"
    ]
    assert seeds_needed(3) == 7
    assert "with 7 seeds in each pair it can" in comparison.statements[-1]
    report = report_of(comparison)
    assert "better" not in report and "worse" not in report and "Holm's correction over 3 pairs" in report
    assert "@article{holm1979" in report


def test_holm_corrects_over_the_pairs_that_are_tested() -> None:
    a, b = seeded("a", dict.fromkeys(range(9), 20)), seeded("b", {seed: 20 + (-1) ** seed for seed in range(6)})
    comparison = compared(a, b, seeded("c", {0: 22}))
    assert comparison.pairs[1].sign_flip_p is None
    assert comparison.statements[3].endswith("sign-flip p = 1.0000. No difference is shown at the 5 % level.")
    report = report_of(comparison)
    assert "Holm" not in report.split("## Methods")[1] and "fewer than 5 pairs" not in report
    comparison = compared(a, b, seeded("d", dict.fromkeys(range(9), 19)))
    assert comparison.pairs[0].holm_p == 1.0 and comparison.pairs[1].holm_p == 4 / 2**9
    # 0.0312 stays possible beside d
    assert comparison.statements[3].endswith("No difference is shown at the 5 % level.")
    assert comparison.statements[4].endswith("d is worse than a on this task.")


def test_the_smallest_p_of_a_pair_is_not_below_that_of_a_surer_one() -> None:
    """Holm's corrected p values never fall: four pairs of seven seeds hold up the one of six."""
    arms = [seeded(name, {seed: 20 + (-1) ** seed for seed in range(7)}) for name in "bcde"]
    six = seeded("f", {seed: 20 + (-1) ** seed for seed in range(6)})
    comparison = compared(seeded("a", dict.fromkeys(range(7), 20)), *arms, six)
    assert "With 6 seeds and 5 pairs the corrected p of this test cannot be below 0.0781" in comparison.statements[-1]


def test_pairs_that_can_show_nothing_take_nothing_from_the_others() -> None:
    a, b = (seeded(name, dict.fromkeys(range(6), number)) for name, number in (("a", 20), ("b", 22)))
    c, d = seeded("c", dict.fromkeys(range(5), 22)), seeded("d", dict.fromkeys(range(2), 12))
    comparison = compared(a, b, c, d, seeded("e", {0: 20, **dict.fromkeys(range(1, 6), 22)}))
    assert [pair.sign_flip_p for pair in comparison.pairs] == [0.03125, 0.0625, 0.5, 0.0625]
    assert [pair.holm_p for pair in comparison.pairs] == [0.03125, None, None, None]
    assert comparison.statements[5].endswith("sign-flip p = 0.0312. b is better than a on this task.")
    assert comparison.statements[6].endswith(
        "sign-flip p = 0.0625. With 5 seeds the p of this test cannot be below 0.0625: it decides nothing, also "
        "where the interval excludes 0; with 8 seeds in each pair it can."  # all four are tested: 4 / 2**7 < 0.05
    )
    assert "With 6 seeds, 1 of them equal, the p of this test cannot be below 0.0625" in comparison.statements[8]
    assert comparison.statements[8].endswith("with 8 unequal seeds in each pair it can.")
    statements = compared(a, c, seeded("f", {0: 22})).statements
    assert "with 7 seeds in each pair it can." in statements[3]  # the pair of one seed is tested too when it has more
    report = report_of(comparison)
    assert "@article{tarone1990" in report and "@article{student1908" in report
    left_out = "Pairs where it is not below 0.05 are left out of Holm's correction."
    assert left_out in report and left_out not in tables(compared(a, b))
    assert comparison.pairs[2].to_json()["holm_p"] is None


def test_the_methods_name_every_setting_that_is_changed() -> None:
    values: dict[str, Any] = {
        "optimizer__rho": 0.99,
        "optimizer__epsilon": 1e-8,
        "optimizer__epsilon_placement": "outside",
        "optimizer__bias_rate": 2.0,
        "optimizer__momentum": 0.5,
        "optimizer__ema_momentum": 0.999,
        "model__initializer": "torch",
        "model__forget_bias": 3.0,
        "task__normalization": "unit",
    }
    adam: dict[str, Any] = {"optimizer__name": "Adam", "optimizer__beta_2": 0.99, "task__normalization": "unit"}
    text = methods_paragraph(compared(seeded("a", {0: 20}, **values), seeded("b", {0: 20}, **adam)))
    for part in (
        "rho 0.99",
        "epsilon 1e-08 outside the root",
        "momentum 0.5",
        "2 times the learning rate for the LSTM's bias",
        "an exponential moving average of the weights with momentum 0.999",
        "initial forget bias 3",
        "PyTorch's initial weights",
        "pixels from 0 to 1",
        "betas 0.9 and 0.99",
    ):
        assert part in text, part
    assert "the preset strong" not in text
    strong: dict[str, Any] = {"name": "Adam", "schedule": "cosine", "grad_clip_value": None, "grad_clip_norm": 0.1}
    keys: dict[str, Any] = {f"optimizer__{key}": value for key, value in strong.items()}
    known = seeded("b", {0: 20}, **keys)
    text = methods_paragraph(compared(seeded("a", {0: 20}), known))
    assert " The preset strong has the same Adam, schedule and clip by the norm; there they were" in text


def test_the_methods_say_how_each_number_of_pairs_is_tested() -> None:
    a, b, c = (seeded(name, dict.fromkeys(range(n), 20 + n % 2)) for name, n in (("a", 21), ("b", 22), ("c", 6)))
    both = methods_paragraph(compared(a, b, c))
    assert "(999,999 random sign flips; up to 20 pairs all sign flips, enumerated)" in both
    assert "(all sign flips, enumerated)" in methods_paragraph(compared(a, c))


def test_the_methods_name_the_defaults_that_papers_leave_out() -> None:
    names = {"a": "RMSProp", "b": "Adam", "c": "SGD"}
    text = methods_paragraph(compared(*(seeded(arm, {0: 20}, optimizer__name=name) for arm, name in names.items())))
    assert "Only for a: RMSProp, learning rate 0.001, rho 0.9, epsilon 1e-07 inside the root." in text
    assert "Only for b: Adam, learning rate 0.001, betas 0.9 and 0.999, epsilon 1e-07 outside the root." in text
    assert "Only for c: SGD, learning rate 0.001." in text and "initial forget bias 1." in text


def test_the_methods_say_which_arms_share_a_part() -> None:
    decay: dict[str, Any] = {"optimizer__weight_decay": 0.1}
    batches: dict[str, Any] = {"train__batch_size": 5}
    arms = [seeded("a", {0: 20}, **decay), seeded("b", {0: 20}, **decay, **batches), seeded("c", {0: 20}, **batches)]
    text = methods_paragraph(compared(*arms))
    assert (
        "Only for a: batches of 100. Only for a and b: decoupled weight decay 0.1 (of matrices only). Only for " in text
    )


def test_the_methods_say_where_code_was_not_committed() -> None:
    resumed = {"resumed": [{"git": {"commit": "c0ffee", "dirty": True}, "sources": 64 * "a"}]}
    text = methods_paragraph(compared(seeded("a", {0: 20}, environment=resumed)))
    assert text.endswith("Code: seqmnist_tf, commits c0ffee, c0ffee with uncommitted changes (sources aaaaaaaaaaaa).")


def test_the_methods_claim_nothing_of_a_layer_that_they_do_not_know() -> None:
    stock = methods_paragraph(compared(seeded("a", {0: 20}), seeded("b", {0: 20}, model__layer="GRU")))
    assert "reads the 784 pixels of an MNIST image one at a time, row by row" in stock and "its last state" in stock
    assert "outputs follows the recurrent layer: " in stock
    own = methods_paragraph(compared(seeded("a", {0: 20}), seeded("b", {0: 20}, model__layer="own.py:Conv")))
    assert "reads the 784 pixels of an MNIST image as one sequence, row by row" in own
    assert "classifies the digit from the output of its layer (60,000 training images; 30 test images)" in own
    assert "recurrent" not in own and "one at a time" not in own and "outputs follows the layer: " in own


def test_the_constants_of_a_layer_are_in_tables_rows_and_methods() -> None:
    own: dict[str, Any] = {"model__layer": "lem.py:LEM", "model__layer_options": {"dt": 0.2, "mode": "a|b"}}
    comparison = compared(seeded("a", {0: 20}), seeded("b", {0: 20}, **own))
    assert r"| LEM(4, dt=0.2, mode=a\|b) (own layer) `b` | sMNIST" in markdown_rows(comparison.arms)
    assert "b (LEM with dt=0.2, mode=a|b, 4 units, 146 parameters)" in methods_paragraph(comparison)
    text = tables(comparison)
    assert "| arm | constants | units |" in text and r"| `b` | dt=0.2, mode=a\|b | 4 |" in re.sub(" +", " ", text)
    assert r'| `model.layer_options` | `{}` | `{"dt": 0.2, "mode": "a\|b"}` |' in re.sub(" +", " ", text)
    assert "constants" not in tables(compared(seeded("a", {0: 20})))


def test_a_row_says_which_part_of_the_images_was_used() -> None:
    part = seeded("a", {0: 20}, task__limit_train=600, train__n_epochs=1)
    assert r" & sMNIST, 600 training images, 30 test images & 146 & RMSProp, 1 epoch & " in latex_rows([part])
    held_out = seeded("a", {0: 20}, task__validation_size=5_000, task__permutation="bit_reversal")
    assert "| psMNIST (bit_reversal), 30 test images | 146 |" in markdown_rows([held_out])  # it has all that are left


@pytest.mark.parametrize(
    ("correct", "errors"), [({0: 22, 1: 22}, 2), ({0: 29, 1: 5}, 2), ({0: 21, 1: 23}, 2), ({0: 30, 1: 3}, 3)]
)
def test_the_axes_of_the_curves_have_numbers(correct: dict[int, int], errors: int) -> None:
    (axes,) = draw_curves(compared(seeded("a", correct))).axes
    low, high = axes.get_ylim()
    shown = [float(tick.get_text()) for tick in axes.get_yticklabels()]
    assert len(shown) >= errors and all(low <= error <= high for error in shown)
    assert [epoch for epoch in axes.get_xticks() if 0.9 < epoch < 2.1] == [1, 2]
    short = seeded("a", correct, train__n_epochs=1)
    for run in short.runs:
        del run.history[1:]
    (axes,) = draw_curves(compared(short)).axes
    assert [epoch for epoch in axes.get_xticks() if 0.9 < epoch < 1.1] == [1]


def test_every_reference_can_be_needed_and_is_whole() -> None:
    chrono: dict[str, Any] = {
        "model__forget_bias": "chrono",
        "optimizer__schedule": "cosine",
        "task__permutation": "urnn92916",
    }
    gru: dict[str, Any] = {"model__layer": "GRU", "optimizer__name": "Adam", "optimizer__ema_momentum": 0.9}
    clipped: dict[str, Any] = {"optimizer__weight_decay": 0.1, "optimizer__grad_clip_norm": 1.0}
    clipped["optimizer__grad_clip_value"] = None
    arms = [
        seeded("a", ACCURACIES, **chrono),
        replace(seeded("b", ACCURACIES, **gru), noise=0.1),
        seeded("c", {0: 20, 1: 22}, model__layer="SimpleRNN", **clipped),
        seeded("d", dict.fromkeys(range(6), 10), task__permutation="bit_reversal"),
        seeded("e", dict.fromkeys(range(6), 2)),
    ]
    shown = report_of(compared(*arms)).split("```bibtex\n")[1].removesuffix("\n```\n")
    assert shown == REFERENCES.read_text().rstrip("\n")
    assert shown.count("{") == shown.count("}")


def test_one_seed_is_a_report_without_tests() -> None:
    a, b = seeded("a", {3: 20}), seeded("b", {3: 25})
    assert (a.std, a.ci_95) == (None, None)
    (pair,) = compared(a, b).pairs
    assert (pair.ci_95, pair.sign_flip_p, pair.holm_p) == (None, None, None)
    assert pair.to_json()["mcnemar"] == [{"seed": 3, "only_a_right": 0, "only_b_right": 5, "p": None}]
    report = report_of(compared(a, b))
    assert "One seed allows no test" in report and "better" not in report and "mcnemar1947" not in report


def test_arms_without_a_common_seed() -> None:
    comparison = compared(seeded("a", {0: 20, 1: 21}), seeded("b", {2: 25}))
    assert comparison.pairs == () and "no seed in common" in comparison.statements[-1]


def test_the_epoch_that_validation_chose() -> None:
    arm = seeded("a", {0: 20, 1: 20}, task__validation_size=30)
    for epoch, run in enumerate(arm.runs, start=1):
        run.summary["best"] = {"epoch": epoch}
    assert arm.chosen == [(1, 10 / TOTAL), (2, 20 / TOTAL)]
    assert "| 1 to 2 | 50.00 |" in tables(compared(arm))


def test_layers_of_one_name_are_told_apart_by_their_code() -> None:
    arms = [seeded(name, {0: 20}, model__layer="m:Own", environment={"layer_code": name * 64}) for name in "ab"]
    assert f"| SHA-256 of the layer's code | `{'a' * 12}` | `{'b' * 12}` |" in tables(compared(*arms))
    same = [replace(arms[0], name=name) for name in "ab"]
    assert "SHA-256" not in tables(compared(*same))
