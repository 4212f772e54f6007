"""The benchmark of large tables, on small ones."""

import pytest

from benchmarks.speed import large


@pytest.mark.parametrize("mapped", [False, True])
def test_memory_of_a_fit(mapped):
    assert 0 < large.fit("MetaKAN", 20_000, mapped) < 40  # tables of 1.6 MB


def test_memory_of_levels(monkeypatch):
    monkeypatch.setattr(large, "OF_LEVELS", (6_000, 3))
    assert 0 < large.fit_levels("KAN", 0) < 200
    assert 0 < large.fit_levels("MetaKAN", 500) < 200


def test_times_are_compared_in_one_table(monkeypatch, capsys):
    monkeypatch.setattr(large, "SHAPES", [(60, 3, 0, 1), (60, 3, 2, 1), (60, 1_000, 0, 1)])
    large.main(["time"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("|")[1:5] == [" rows ", " columns ", " classes ", " passes "]
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["60"] * 3
    assert "at 1,000 columns" in lines[-1]
