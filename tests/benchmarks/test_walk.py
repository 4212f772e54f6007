"""Counting calls on the way from fit to the first sum over edges."""

import sys

import pytest

from benchmarks import walk
from sklearn_metakan import KANRegressor


def test_a_walk_ends_at_the_first_sum_over_edges():
    for calls in walk.walks().values():
        functions = [function for _, function in calls]
        ends = [place for place, name in enumerate(functions) if name in walk.ENDS]
        assert ends == [len(functions) - 1]
        assert all(file.endswith(".py") and "/" in file for file, _ in calls)
    assert sys.getprofile() is None


def test_a_way_that_does_not_get_there_is_an_error():
    with pytest.raises(LookupError, match=r"edge_sum.* was called"):
        walk.walk(KANRegressor)
    assert sys.getprofile() is None


def test_counts():
    calls = [("a.py", "f"), ("a.py", "g"), ("b.py", "f"), ("a.py", "f")]
    assert walk.count(calls) == {"calls": 4, "functions": 3, "files": 2, "switches": 2}
    rows = walk.by_file(calls)
    assert rows.loc["a.py"].to_dict() == {"calls": 3, "functions": 2, "entered": 2}
    assert rows.loc["b.py"].to_dict() == {"calls": 1, "functions": 1, "entered": 1}


def test_it_prints_counts_and_calls(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["walk", "-v"])
    walk.main()
    printed = capsys.readouterr().out
    assert "| way | calls | functions | files | switches |" in printed
    assert "| file | calls | functions | entered |" in printed
    assert printed.rstrip().endswith("edge_sum")
