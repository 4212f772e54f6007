"""The harness of benchmarks/pde.py, on tiny runs."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sklearn_metakan.pde import problems

FOLDER = Path(__file__).parents[1] / "benchmarks"
TINY = [
    *("--steps", "3", "--width", "4", "--depth", "1", "--n-interior", "10"),
    *("--n-boundary", "8", "--n-initial", "4", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark; its folder is on the path as when it is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import _pde_models
        import _pde_runs
        import _pde_speed
        import _pde_table
        import pde

        yield SimpleNamespace(
            models=_pde_models, runs=_pde_runs, speed=_pde_speed, table=_pde_table, main=pde
        )


@pytest.fixture
def call(bench, tmp_path, capsys):
    """Runs the benchmark; gives the rows of its file and what it printed."""
    path = tmp_path / "rows" / "pde.csv"

    def run(*arguments):
        bench.main.main([*arguments, *TINY, "--csv", str(path)])
        with path.open(newline="") as file:
            return list(csv.DictReader(file)), capsys.readouterr().out

    return run


def test_every_problem_is_shipped_and_runs(bench):
    shipped = {getattr(problems, name) for name in problems.__all__} - {problems.Problem}
    assert {setup.make for setup in bench.runs.PROBLEMS.values()} == shipped


@pytest.mark.parametrize("name", ["allen-cahn-ball", "poisson-cube", "kovasznay", "wave"])
def test_every_model_gives_a_row(call, name):
    dim = ["--dim", "3"] if name in ("allen-cahn-ball", "poisson-cube") else []
    models = ("mlp", "kan", "metakan")
    rows, printed = call(name, *dim, "--seeds", "0", "--model", *models)
    assert printed.count("steps 3") == 3 and {row["steps_done"] for row in rows} == {"3"}
    assert [row["model"] for row in rows] == [*models]
    assert all(0 < float(row["relative_l2"]) < 100 for row in rows)
    assert all(float(row["residual"]) > 0 and row["peak_mb"] == "" for row in rows)


def test_a_run_that_is_there_is_not_repeated(call, bench, monkeypatch):
    first, printed = call("helmholtz", "--seeds", "0", "1")
    assert [row["seed"] for row in first] == ["0", "1"]
    assert first[0]["relative_l2"] != first[1]["relative_l2"]
    monkeypatch.setattr(bench.main, "measure", None)  # cannot be called
    again, same = call("helmholtz", "--seeds", "1", "0")
    assert again == first and sorted(same.splitlines()) == sorted(printed.splitlines())


def test_settings_reach_the_solver(call):
    options = ["--causal", "100", "--loss-weights", "balanced", "--schedule", "cosine"]
    plain, _ = call("wave", "--seeds", "0")
    rows, _ = call("wave", "--seeds", "0", *options)
    assert len(rows) == 2 and rows[0] == plain[0]
    assert (rows[1]["causal"], rows[1]["loss_weights"]) == ("100.0", "balanced")
    assert rows[1]["relative_l2"] != rows[0]["relative_l2"]


def test_closure_calls_are_steps(call):
    rows, _ = call("helmholtz", "--seeds", "0", "--lbfgs", "4")
    assert int(rows[0]["steps_done"]) >= 3 + 4


def test_iterations_of_least_squares_are_steps(call):
    rows, _ = call("helmholtz", "--seeds", "0", "--lm", "4", "--lbfgs", "2")
    assert rows[0]["steps_done"] == "9"


def test_boundary_points_are_shown_where_there_are_some(call, bench):
    rows, _ = call("allen-cahn-ball", "--dim", "20", "--seeds", "0")
    assert "| 10 |" in bench.table.markdown(bench.table.LINES, rows)
    rows, _ = call("poisson-cube", "--dim", "20", "--seeds", "0")
    assert "| 10 / 8 |" in bench.table.markdown(bench.table.LINES, rows)


def test_the_error_is_that_of_the_predictions(bench):
    problem = problems.PoissonBall(3)
    exact = SimpleNamespace(predict=lambda x: 1.5 * problem.solution(torch.as_tensor(x)).numpy())
    assert bench.runs.relative_error(exact, problem, "radius") == pytest.approx(0.5)


def test_points_of_a_cube_are_counted_by_face(bench):
    for dim, inside in ((20, 2000), (50, 4000), (100, 8000)):
        points = bench.runs.PROBLEMS["poisson-cube"].points(dim)
        assert (points["n_interior"], points["n_boundary"]) == (inside, 2 * dim * 100)


def test_the_mlp_is_that_of_the_paper(bench):
    count = sum(p.numel() for p in bench.models.MLP((20, 128, 128, 128, 1), 0).parameters())
    assert count == 35_841
    first, second = (bench.models.MLP((3, 4, 1), 0)(torch.ones(1, 3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("dim", [20, 100])
def test_the_sources_have_the_parameters_of_the_paper(bench, dim):
    counts = {"paper": {20: 38_308, 100: 48_548}}
    problem = problems.AllenCahnBall(dim)
    solver = bench.models.make_solver(
        "metakan",
        "paper",
        problem.settings | {"hidden_layer_sizes": (128, 128, 128), "max_iter": 1, "n_interior": 2},
    )
    assert solver.fit().n_parameters_ == counts["paper"][dim]


def test_table_shows_what_falls_short(bench, call):
    lines = bench.table.LINES
    assert {line.must_reach for line in lines if line.dim == 100} == {3e-3, None}
    rows, _ = call("allen-cahn-ball", "--dim", "20", "--seeds", "0", "1")
    rows += call("allen-cahn-ball", "--dim", "20", "--model", "mlp", "--seeds", "0")[0][-1:]
    text = bench.table.markdown(lines, rows).splitlines()
    assert len(text) == 4  # two lines of heading, MetaKAN, MLP
    assert "| 1.5e-03: short by" in text[2] and "MLP" in text[3]
    good = [row | {"relative_l2": "1e-3", "parameters": "40001"} for row in rows[:2]]
    verdict = bench.table.markdown(lines, good).splitlines()[2]
    assert "1.5e-03: reached, with more than 40,000 parameters" in verdict


def test_table_runs_models_beside_each_other(bench):
    options = bench.main._parse(["table", "--device", "cpu", "--width", "72"])
    runs = list(bench.main.table_runs(options))
    assert len(runs) == len(set(runs)) == 2 * 3 * len(bench.table.LINES)
    widths = {(run.model, run.width) for run in runs}
    assert widths == {("metakan", 72), ("mlp", 128), ("mlp", 32)}
    some = bench.main._parse(["table", "--device", "cpu", "--problems", "poisson-ball"])
    networks = {(r.model, r.source, r.width, r.depth, r.dim) for r in bench.main.table_runs(some)}
    assert networks == {
        *(("metakan", "linear-6", 192, 1, 20), ("metakan", "linear-3", 160, 1, 50)),
        *(("metakan", "linear-3", 128, 1, 100), *(("mlp", "", 128, 3, d) for d in (20, 50, 100))),
    }
    fronts = bench.main._parse(["table", "--device", "cpu", "--problems", "allen-cahn-1d"])
    runs = [*bench.main.table_runs(fronts)]
    assert {(run.steps, run.lm) for run in runs} == {(0, 300)}
    assert {(run.model, run.width) for run in runs} == {("metakan", 16), ("mlp", 32)}


def test_speed(bench, monkeypatch):
    monkeypatch.setattr(bench.speed, "LAYERS", (4, 1))
    monkeypatch.setattr(bench.speed, "REPEATS", 2)
    cpu = torch.device("cpu")
    base = bench.speed.mlp_step(5, cpu, 2)
    assert base.times.median > 0 and base.peak_mb is None
    for nested in (True, False):
        assert bench.speed.laplacian("linear-2", 2, 3, cpu, nested).times.median > 0
    assert bench.speed.solver_step("linear-2", 5, cpu, 4).times.p20 is not None


def test_wrong_arguments(bench, capsys):
    with pytest.raises(SystemExit):
        bench.main.main(["burgers", "--dim", "3"])
    assert "has no choice of dimension" in capsys.readouterr().err


def test_a_file_of_something_else_is_refused(bench, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("model,score\nkan,1\n")
    with pytest.raises(SystemExit, match=r"has no columns .*'width'.*choose another --csv"):
        bench.runs.Rows(path)
    assert bench.runs.Rows(tmp_path / "none.csv").rows == []
