"""What benchmarks share: ledgers, tables, goals, loaders of data."""

from types import SimpleNamespace
from typing import NamedTuple

import pandas as pd
import pytest
import torch

from benchmarks.common import data
from benchmarks.common.ledger import Ledger
from benchmarks.common.measure import PeakMemory, describe, seconds, spread, timed
from benchmarks.common.report import Goal, constants, goals, publish, table


class Trial(NamedTuple):
    name: str
    rate: float | None = None
    seed: int = 0


def open_ledger(path, results=("error", "note"), **options):
    return Ledger(path, Trial, results, SimpleNamespace(**options), "{error:.2f}")


def test_ledger_finds_rows_by_their_settings(tmp_path):
    path = tmp_path / "deep" / "rows.csv"
    ledger = open_ledger(path)
    row = ledger.add(Trial("a, b", 0.1), {"error": 0.25, "note": ""})
    assert (row["rate"], row["error"], row["device_name"]) == ("0.1", 0.25, "CPU")
    ledger.add(Trial("None"), {"error": 1, "note": "well"})
    for each in (ledger, open_ledger(path)):
        assert Trial("a, b", 0.1) in each and Trial("None") in each
        assert Trial("a, b") not in each and each.find(Trial("a, b", 0.1, 1)) is None
        assert each.find(Trial("a, b", 0.1))["error"] == 0.25
    rows = ledger.rows()
    assert rows["name"].tolist() == ["a, b", "None"] and rows["rate"].tolist() == ["0.1", ""]
    assert rows["error"].tolist() == [0.25, 1] and rows["note"].isna().tolist() == [True, False]
    assert rows["torch"].notna().all()


def test_ledger_of_something_else_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    open_ledger(path)
    with pytest.raises(ValueError, match="of another version"):
        open_ledger(path, ("loss",))


def test_ledger_drops_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "rows.csv"
    ledger = open_ledger(path)
    for name in "ab":
        ledger.add(Trial(name), {"error": 0.5, "note": ""})
    path.write_text(path.read_text()[:-3])
    assert open_ledger(path).rows()["name"].tolist() == ["a"]


def test_trials_are_finished_once(tmp_path, capsys):
    ledger, held = open_ledger(tmp_path / "rows.csv"), []

    def hold(trial):
        held.append(trial.name)
        if trial.name == "b":
            raise RuntimeError("the card is full")
        return {"error": 0.5, "note": ""}

    trials = [Trial(name) for name in "abc"]
    ledger.finish(trials, hold)
    assert held == ["a", "b", "c"] and "the card is full" in capsys.readouterr().out
    ledger.finish(trials, hold)
    assert held == ["a", "b", "c", "b"]


def test_no_trial_starts_when_time_is_up(tmp_path, capsys):
    ledger = open_ledger(tmp_path / "rows.csv", minutes=0)
    ledger.finish([Trial("a")], None)
    assert ledger.rows().empty and "Time is up" in capsys.readouterr().out


def test_table_leaves_out_what_is_missing():
    rows = pd.DataFrame({"a": [1.0, None], "b": [0.25, 0.5], "c": [None, None]})
    columns = {"A": "{a:.0f} of {b:.2f}", "B": "{b:.1%}", "C": "{c}", "D": "{d}"}
    text = "| A | B |\n|---|---|\n| 1 of 0.25 | 25.0% |\n|  | 50.0% |"
    assert table(rows, columns) == text


@pytest.mark.parametrize(
    ("measured", "limit", "least", "verdict"),
    [
        (0.9, 1.0, False, "reached"),
        (1.5, 1.0, False, "SHORT by 50%"),
        (5.0, 1.0, False, "SHORT by a factor 5"),
        (0.8, 1.0, True, "SHORT by 25%"),
        (1.0, 1.0, True, "reached"),
        (None, 1.0, False, "not measured"),
        (float("nan"), 1.0, True, "not measured"),
    ],
)
def test_verdicts(measured, limit, least, verdict):
    goal = Goal("what", measured, limit, least)
    assert goal.verdict == verdict
    assert f"at {'least' if least else 'most'} 1 | {verdict} |" in goals([goal])


def test_what_rows_have_in_common():
    rows = pd.DataFrame({"a": [1, 1], "b": [1, 2], "note": [None, None]})
    assert constants(rows, ["a", "b", "note"]) == "a 1; b 1/2"


def test_publish_writes_and_prints(tmp_path, capsys):
    publish(["one", "two"], tmp_path / "deep" / "text.md")
    assert (tmp_path / "deep" / "text.md").read_text() == "one\n\ntwo\n"
    assert capsys.readouterr().out == "one\n\ntwo\n"


def test_measures_on_a_cpu():
    cpu, calls = torch.device("cpu"), []
    assert len(timed(lambda: calls.append(0), 3, cpu)) == 3
    assert len(calls) == 4 and seconds(calls.clear) >= 0
    assert PeakMemory(cpu).megabytes() is None
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == {"median": 3.5, "p20": 2.0, "p80": 5.0}
    assert {"torch", "triton", "cuda", "date", "command"} < set(describe(cpu))


def test_missing_tables_are_named(tmp_path):
    with pytest.raises(data.MissingData, match=r"uci_yacht.*data.npz is missing"):
        data.load_table("uci_yacht", tmp_path)
    with pytest.raises(ValueError, match="no table 'uci_yatch'"):
        data.load_table("uci_yatch", tmp_path)


def test_tables_of_text(tmp_path):
    (tmp_path / "adult").mkdir()
    for part, incomes in (("train", ["<=50K", ">50K"]), ("test", ["<=50K"])):
        frame = pd.DataFrame({"job": ["NA", ""][: len(incomes)], "income": incomes})
        frame.to_csv(tmp_path / "adult" / f"{part}.csv.gz", index=False)
    X, y, task = data.load_table("adult", tmp_path)
    assert X["job"].tolist()[0] == "NA" and X["job"].isna().tolist() == [False, True, False]
    assert (y.tolist(), task) == (["<=50K", ">50K", "<=50K"], "classification")
