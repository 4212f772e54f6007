"""The paper's functions, on tiny networks: what is chosen, tested, kept and reported."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.paper import feynman
from benchmarks.paper.__main__ import main
from benchmarks.paper.networks import settings
from sklearn_metakan.datasets import make_feynman
from sklearn_metakan.nn import build_network

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
CONTEST = feynman.Contest("widths", "I.12.5", "paper", 60, 5, "2", "linear-2", 0, 4, 0)


TINY = ["--functions", "I.12.5", "--samples", "60", "--max-iter", "3", "--tune-iter", "1"]
TINY += ["--grid-size", "5", "--seeds", "0", "1", "--widths", "2", "--models", "kan", "linear-2"]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """The folder of a run, and the arguments that made it."""
    folder = tmp_path_factory.mktemp("paper")
    arguments = ["feynman", *TINY, "--out", str(folder)]
    main(arguments)
    return folder, arguments


def test_run_leaves_a_row_for_every_contest(tiny_run):
    rows = pd.read_csv(tiny_run[0] / "feynman.csv")
    assert sorted(zip(rows["part"], rows["model"], rows["seed"], strict=True)) == [
        *(("published", "metakan", seed) for seed in (0, 1)),
        *(("widths", model, seed) for model in ("kan", "linear-2") for seed in (0, 1)),
    ]
    assert (rows["test_mse"] > 0).all()
    assert rows["iterations"].max() <= 3
    assert rows["parameters"][rows["part"] == "published"].max() <= 30


def test_run_goes_on_where_it_was_stopped(tiny_run, monkeypatch):
    folder, arguments = tiny_run
    path = folder / "feynman.csv"
    finished = path.read_text()
    held = []
    hold = feynman.hold
    monkeypatch.setattr(feynman, "hold", lambda contest: held.append(contest) or hold(contest))
    main(arguments)
    assert not held
    path.write_text(finished[: finished.rstrip("\n").rfind("\n") + 20])  # its last line torn
    main(arguments)
    assert len(held) == 1
    again, before = pd.read_csv(path), finished.splitlines()
    assert len(again) == len(before) - 1
    assert held[0].seed == 1


def test_report_stands_beside_the_published_number(tiny_run):
    text = (tiny_run[0] / "feynman.md").read_text()
    assert "| I.12.5 | 1.32e-03 (57) | 1.16e-04 (30) |" in text
    assert "### n-2-1, G = 5" in text
    assert "at most 3 iterations, seeds 0, 1." in text


@pytest.mark.parametrize("most", [30, 80, 218])
@pytest.mark.parametrize("n_inputs", [1, 4])
def test_small_networks_have_no_more_parameters(most, n_inputs):
    candidates = feynman.small_networks(n_inputs, 5, most)
    assert len({*candidates}) == len(candidates)
    for candidate in candidates:
        options = settings(candidate.model)
        network = build_network([n_inputs, *candidate.hidden, 1], **options)
        assert sum(p.numel() for p in network.parameters()) <= most


def test_two_functions_on_2_2_1_are_among_them():
    """Exactly the 30 numbers of the published network."""
    assert feynman.Candidate("linear-2", (2,)) in feynman.small_networks(2, 5, 30)


def test_every_source_fits():
    models = feynman.contestants([8])
    rows = {model: feynman.hold(CONTEST._replace(model=model)) for model in models}
    assert rows["kan"]["parameters"] == rows["kan"]["edge_numbers"] == 6 * 9
    for model, numbers in {"linear-2": 2, "linear-3-layer": 3, "paper-8": 1, "sin-8": 2}.items():
        assert rows[model]["edge_numbers"] == 6 * numbers
    assert rows["linear-3"]["parameters"] == 6 * 3 + 3 * 9
    assert rows["linear-3-layer"]["parameters"] == 6 * 3 + 2 * 3 * 9
    assert rows["relu-8"]["parameters"] == rows["paper-8"]["parameters"] == 6 + 2 * 8 + 9 * 9
    assert rows["relu-8"]["validation_mse"] != rows["paper-8"]["validation_mse"]


@pytest.mark.parametrize(
    ("option", "name"), [("--functions", "I.12.55"), ("--models", "cubic-3"), ("--models", "kan-2")]
)
def test_wrong_names_are_found_before_anything_runs(tmp_path, option, name):
    with pytest.raises(ValueError, match=name):
        main(["feynman", *TINY, option, name, "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_error_is_the_mean_square_in_units_of_the_function():
    row = feynman.hold(CONTEST)
    X, y = make_feynman("I.12.5", 120, random_state=0, ranges="paper")
    candidate = feynman.Candidate("linear-2", (2,))
    model, validation = feynman.fit(CONTEST, candidate, X[:60], y[:60], 4)
    assert row["validation_mse"] == pytest.approx(validation)
    assert row["test_mse"] == pytest.approx(np.mean((model.predict(X[60:]) - y[60:]) ** 2))
    assert row["target_variance"] == pytest.approx(np.var(y[60:]))


def test_test_rows_choose_nothing(monkeypatch):
    contest = CONTEST._replace(part="published", widths="", tune_iter=2)
    fair = feynman.hold(contest)

    def spoil(*arguments, **options):
        X, y = make_feynman(*arguments, **options)
        return X, np.r_[y[:60], y[60:] + 100.0]

    monkeypatch.setattr(feynman, "make_feynman", spoil)
    spoilt = feynman.hold(contest)
    for name in ("network", "parameters", "iterations", "validation_mse"):
        assert spoilt[name] == fair[name]
    assert spoilt["test_mse"] > 1000 * fair["test_mse"]


def make_rows(errors, seeds=(0, 1)):
    """Rows of two functions: errors[model] = (validation, test), and 100 parameters a KAN."""
    sizes = {"kan": 100, "linear-3": 35, "linear-2": 24, "relu-64": 70}
    rows = []
    for function, variance in {"I.12.5": 1.0, "I.8.4": 100.0}.items():
        for seed in seeds:
            for model, (validation, test) in errors.items():
                settled = (10, 5, "16-16", model, str(seed), 9, 0)
                contest = feynman.Contest("widths", function, "paper", *settled)
                results = dict.fromkeys(feynman.RESULTS, 1) | {
                    "parameters": sizes[model],
                    "edge_numbers": sizes[model] - 1 if model != "kan" else 100,
                    "target_variance": variance,
                    "validation_mse": validation * variance,
                    "test_mse": test * variance,
                }
                rows.append(contest._asdict() | results)
    return pd.DataFrame(rows)


def test_validation_chooses_and_test_judges():
    rows = make_rows({"linear-3": (1, 0.5), "kan": (2, 1), "linear-2": (3, 0.1)})
    text = "\n".join(feynman.report(rows))
    assert "| linear-3, chosen on the validation rows: test error / KAN's | 0.5 |" in text
    assert "| at most 1 | reached |" in text
    summary = feynman.summarise(rows)
    assert summary.index[0] == "kan"
    assert summary.loc["linear-2", "test_ratio"] == pytest.approx(0.1)
    assert summary.loc["linear-2", ["better", "fits"]].tolist() == [4, 4]
    assert summary.loc["linear-3", "test"] == pytest.approx(0.5)


def test_too_large_a_network_is_not_chosen():
    rows = make_rows({"kan": (2, 1), "relu-64": (0.1, 0.1), "linear-2": (3, 1.5)})
    text = "\n".join(feynman.report(rows))
    assert "| linear-2, chosen on" in text and "SHORT by 50%" in text


def test_ratios_are_over_the_fits_that_both_have():
    rows = make_rows({"kan": (2, 1), "linear-3": (1, 0.5), "linear-2": (0.1, 0.1)})
    lacking = rows["model"].eq("linear-2") & rows["seed"].eq("1")
    kan = rows["model"].eq("kan") & rows["seed"].eq("1")
    rows.loc[kan, "test_mse"] *= 16
    summary = feynman.summarise(rows[~lacking])
    assert summary["fits"].to_dict() == {"kan": 4, "linear-3": 4, "linear-2": 2}
    assert summary["test_ratio"].to_dict() == pytest.approx(
        {"kan": 1, "linear-3": 0.5 / 4, "linear-2": 0.1}
    )
    text = "\n".join(feynman.report(rows[~lacking]))
    assert "| linear-3, chosen on" in text  # linear-2 has not every fit
    absent = rows["model"].eq("linear-2") & rows["function"].eq("I.8.4")
    assert "nan" not in "\n".join(feynman.report(rows[~absent]))
    alone = "\n".join(feynman.report(rows[rows["model"] != "kan"]))
    assert "no row of the KAN" in alone


def test_published_part_says_by_how_much():
    rows = make_rows({"kan": (1, 5.8e-4)}).query("function == 'I.12.5'")
    rows = rows.assign(part="published", widths="", network="linear-2 2")
    text = "\n".join(feynman.report(rows))
    assert "SHORT by a factor 5" in text
    text = "\n".join(feynman.report(rows.assign(test_mse=1e-5)))
    assert text.endswith("reached |")
