"""benchmarks/sharing.py on a small table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def sharing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import sharing

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    folder = tmp_path / "uci_energy"
    folder.mkdir()
    rows = {"train_idx": [np.arange(40)], "test_idx": [np.arange(40, 60)]}
    np.savez(folder / "data.npz", X=X, y=X.sum(1), **rows)
    monkeypatch.setattr(sharing, "TABLES", ("uci_energy",))
    monkeypatch.setattr(sharing, "NETWORKS", {"4": (4,), "4-3-2": (4, 3, 2)})
    return sharing


def test_every_number_of_meta_learners_is_fitted_once(sharing, tmp_path, monkeypatch, capsys):
    arguments = ["sharing.py", "--data-dir", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*arguments, "--seeds", "0", "--jobs", "1", "--max-iter", "2"])
    sharing.main()
    path = tmp_path / "sharing.csv"
    rows = pd.read_csv(path)
    assert len(rows) == len(sharing.SOURCES) * (2 + 4)  # two layers cannot have three
    by_count = rows[(rows["network"] == "4-3-2") & (rows["source"] == "default")]
    parameters = by_count.set_index("n_meta_learners")["parameters"]
    learner = 2 * 32 + 33 * 9
    assert parameters.diff().dropna().tolist() == [learner, learner, learner]
    before = path.read_text()
    sharing.main()
    assert path.read_text() == before
    assert "| 4-3-2 | linear p=3 | 1 |" in capsys.readouterr().out


def test_a_missing_table_is_named(sharing, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sharing, "TABLES", ("uci_energy", "uci_power"))
    monkeypatch.setattr("sys.argv", ["sharing.py", "--data-dir", str(tmp_path)])
    with pytest.raises(SystemExit):
        sharing.main()
    assert "uci_power" in capsys.readouterr().err


def test_ratios_are_to_one_meta_learner(sharing):
    rows = [
        ["t", "4", "default", count, seed, 1 - error, 0.9, 10, 1.0]
        for count, errors in (("1", (0.2, 0.4)), ("layer", (0.1, 0.2)))
        for seed, error in enumerate(errors)
    ]
    text = sharing.report(pd.DataFrame(rows, columns=sharing.KEY + sharing.RESULTS))
    assert text[-1] == "| 4 | default | 2 |  |  | 0.50 ± 0.00 | 0.900 |"
