"""Errors, ranks, wins and pictures of a comparison, by numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.tables.picture import cliques, critical_difference, draw
from benchmarks.tables.report import compare, comparisons, labelled, report, summarise


def rows(errors, **more):
    """Of {set: {model: errors by split}}."""
    found = [
        {"data": data, "model": model, "split": split, "error": error}
        for data, by_model in errors.items()
        for model, of_splits in by_model.items()
        for split, error in enumerate(of_splits)
    ]
    frame = pd.DataFrame(found).assign(
        settings="", device="cpu", constant=2.0, accuracy=np.nan, fit_seconds=1.0, fit_cpu=0.5,
        predict_seconds=0.1, parameters=np.nan, memory=400.0, memory_before=300.0, version="1",
        processor="P", device_name="CPU", torch="2",
    )  # fmt: skip
    return frame.assign(**more)


ERRORS = {
    "uci_yacht": {"mlp": [1.0, 3.0], "kan": [0.5, 0.7]},
    "uci_energy": {"mlp": [1.0, 1.0], "kan": [1.0, 1.0]},
    "uci_power": {"mlp": [0.1, 0.1], "kan": [0.2, 0.6]},
}


def test_means_and_standard_errors():
    compared = compare(labelled(rows(ERRORS)))
    assert compared.means.loc["uci_yacht"].to_dict() == pytest.approx({"mlp": 2.0, "kan": 0.6})
    # of 1 and 3: deviation sqrt(2), over sqrt(2)
    assert compared.deviations.loc["uci_yacht", "mlp"] == pytest.approx(1.0)
    assert compared.deviations.loc["uci_yacht", "kan"] == pytest.approx(0.1)


def test_ranks_and_wins():
    compared = compare(labelled(rows(ERRORS)))
    ranks = compared.ranks()
    assert ranks.loc["uci_energy"].tolist() == [1.5, 1.5]
    assert ranks.mean().to_dict() == pytest.approx({"mlp": 1.5, "kan": 1.5})
    assert compared.wins().to_dict() == {"mlp": {"mlp": 0, "kan": 1}, "kan": {"mlp": 1, "kan": 0}}


def test_only_what_all_have_is_compared():
    """Splits within a set, sets between models."""
    few = ERRORS | {"uci_yacht": {"mlp": [1.0, 3.0], "kan": [0.5]}, "uci_naval": {"mlp": [1.0]}}
    compared = compare(labelled(rows(few)))
    assert compared.means.loc["uci_yacht"].to_dict() == {"mlp": 1.0, "kan": 0.5}
    assert sorted(compared.complete) == ["uci_energy", "uci_power", "uci_yacht"]
    assert compared.wins().loc["mlp", "kan"] == 1 and compared.wins().loc["kan", "mlp"] == 1
    apart = compare(labelled(rows({"uci_yacht": {"mlp": [1.0]}})))
    assert apart.complete == ["uci_yacht"]


def test_a_summary_of_models():
    frame = labelled(rows(ERRORS))
    frame.loc[frame["model"] == "kan", ["fit_seconds", "memory", "parameters"]] = [4.0, 450.0, 70.0]
    found = summarise(compare(frame))
    assert found.loc["kan", ["to_mlp", "cpu_to_mlp", "added", "fewest"]].tolist() == [
        4.0,
        1.0,
        150.0,
        70.0,
    ]
    # shares of the constant's error, 2
    assert found.loc["mlp", "share"] == pytest.approx((1.0 * 0.5 * 0.05) ** (1 / 3))
    assert found.loc["kan", "share"] == pytest.approx((0.3 * 0.5 * 0.2) ** (1 / 3))


def test_settings_and_devices_of_one_name_are_told_apart():
    frame = rows({"uci_yacht": {"kan": [1.0, 2.0], "mlp": [1.0]}})
    assert labelled(frame)["label"].tolist() == ["kan", "kan", "mlp"]
    frame["device"] = ["cpu", "cuda", "cpu"]
    assert labelled(frame)["label"].tolist() == ["kan on cpu", "kan on cuda", "mlp"]
    frame["settings"], frame["device"] = ['{"a": 1}', '{"a": 2}', ""], "cpu"
    assert labelled(frame)["label"].tolist() == ['kan {"a": 1}', 'kan {"a": 2}', "mlp"]


def test_the_text():
    frame = rows(ERRORS | {"phoneme": {"mlp": [0.4], "kan-a.b {x}": [0.3]}})
    frame.loc[frame["data"] == "phoneme", "accuracy"] = [0.8, 0.9]
    text = "\n\n".join(report(labelled(frame)))
    assert "| set | splits | mlp | kan |" in text
    assert "| uci_yacht | 2 | 2 ± 1 | **0.6** ± 0.1 |" in text
    assert "| uci_energy | 2 | **1** ± 0 | **1** ± 0 |" in text
    assert (
        "| set | splits | mlp | kan-a.b {x} |\n|---|---|---|---|\n| phoneme | 1 | 0.4 | **0.3** |"
        in text
    )
    assert "| phoneme | 1 | 0.8 | **0.9** |" in text
    assert "No set has a result of every model." in text  # of all: three models, never together
    assert text.index("uci_yacht") < text.index("uci_energy") < text.index("uci_power")


def test_sets_stand_in_the_order_of_their_group():
    backwards = labelled(rows({name: ERRORS[name] for name in reversed(ERRORS)}))
    found = comparisons(backwards)
    assert [*found] == ["uci"] and [*found["uci"].means.index] == [*ERRORS]


@pytest.mark.parametrize(
    ("n_models", "n_sets", "expected"),
    # q of Demšar's table 5: 1.960, 2.343, 3.164
    [(2, 6, 1.960 * (1 / 6) ** 0.5), (3, 8, 2.343 * 0.5), (10, 9, 3.164 * (110 / 54) ** 0.5)],
)
def test_critical_differences(n_models, n_sets, expected):
    assert critical_difference(n_models, n_sets) == pytest.approx(expected, rel=1e-3)


def test_cliques_are_the_longest_runs():
    ranks = pd.Series({"c": 3.0, "a": 1.0, "b": 1.5, "d": 5.0})
    assert cliques(ranks, 0.4) == []
    assert cliques(ranks, 1.6) == [(1.0, 1.5), (1.5, 3.0)]
    assert cliques(ranks, 2.0) == [(1.0, 3.0), (3.0, 5.0)]
    assert cliques(ranks, 9.0) == [(1.0, 5.0)]


def test_a_picture_of_ranks(tmp_path):
    ranks = compare(labelled(rows(ERRORS))).ranks()
    path = tmp_path / "deep" / "ranks.png"
    assert draw({"uci": ranks, "one": ranks[:1]}, path) and path.stat().st_size > 5000
    assert not draw({"one": ranks[:1], "alone": ranks[["mlp"]]}, tmp_path / "no.png")
    assert not (tmp_path / "no.png").exists()
