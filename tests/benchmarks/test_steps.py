"""The benchmark of small steps, on few of them."""

from benchmarks.speed import row, steps


def test_steps_are_compared(monkeypatch, capsys):
    monkeypatch.setattr(steps, "STEPS", 1)
    monkeypatch.setattr(steps, "ROWS", 40)
    monkeypatch.setattr(steps, "operations", lambda *args, **settings: 100)
    steps.main(["--rounds", "1"])
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if line.startswith("| 10-")]
    assert len(lines) == 6
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert all(float(cell) > 0 for cell in cells[2:5])
        is_small = cells[0] == "10-64-1"
        assert (float(cells[5]) > 0) if is_small else cells[5] == ""
        assert cells[6] == ("100" if is_small else "")
    assert "| default fit / MLP(100) |" in text


def test_one_row_is_compared(capsys):
    row.main(["--calls", "2"])
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if "KAN" in line]
    assert len(lines) == 8
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert all(float(cell) > 0 for cell in cells[2:])
    assert "| one row / scikit-learn's MLP |" in text
