"""The harness of equations, on tiny runs."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.common.ledger import Ledger
from benchmarks.pde import __main__ as command
from benchmarks.pde import runs, speed
from sklearn_metakan.pde import problems

TINY = [
    *("--steps", "3", "--width", "4", "--depth", "1", "--n-interior", "10"),
    *("--n-boundary", "8", "--n-initial", "4", "--device", "cpu"),
]


@pytest.fixture
def call(tmp_path, capsys):
    """Runs the benchmark; gives the rows of its file and what it printed."""
    path = tmp_path / "rows" / "pde.csv"

    def run(*arguments):
        command.main([*arguments, *TINY, "--csv", str(path)])
        ledger = Ledger(path, runs.Run, runs.RESULTS, SimpleNamespace())
        rows = ledger.rows().astype(object)
        return rows.where(rows.notna(), None).to_dict("records"), capsys.readouterr().out

    return run


def test_every_problem_is_shipped_and_runs():
    shipped = {getattr(problems, name) for name in problems.__all__} - {problems.Problem}
    assert {setup.make for setup in runs.PROBLEMS.values()} == shipped


@pytest.mark.parametrize("name", ["allen-cahn-ball", "poisson-cube", "kovasznay", "wave"])
def test_every_model_gives_a_row(call, name):
    dim = ["--dim", "3"] if name in ("allen-cahn-ball", "poisson-cube") else []
    models = ("mlp", "kan", "metakan")
    rows, printed = call(name, *dim, "--seeds", "0", "--model", *models)
    assert printed.count("steps 3") == 3 and {row["steps_done"] for row in rows} == {3}
    assert [row["model"] for row in rows] == [*models]
    assert all(0 < float(row["relative_l2"]) < 100 for row in rows)
    assert all(float(row["residual"]) > 0 and row["peak_mb"] is None for row in rows)


def test_a_run_that_is_there_is_not_repeated(call, monkeypatch):
    first, printed = call("helmholtz", "--seeds", "0", "1")
    assert [row["seed"] for row in first] == ["0", "1"]
    assert first[0]["relative_l2"] != first[1]["relative_l2"]
    monkeypatch.setattr(command, "measure", None)  # cannot be called
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
    assert rows[0]["steps_done"] == 9


def test_boundary_points_are_shown_where_there_are_some(call):
    rows, _ = call("allen-cahn-ball", "--dim", "20", "--seeds", "0")
    assert "| 10 |" in command.report(rows)
    rows, _ = call("poisson-cube", "--dim", "20", "--seeds", "0")
    assert "| 10 / 8 |" in command.report(rows)


def test_the_error_is_that_of_the_predictions():
    problem = problems.PoissonBall(3)
    exact = SimpleNamespace(predict=lambda x: 1.5 * problem.solution(torch.as_tensor(x)).numpy())
    assert runs.relative_error(exact, problem, "radius") == pytest.approx(0.5)


def test_points_of_a_cube_are_counted_by_face():
    for dim, inside in ((20, 2000), (50, 4000), (100, 8000)):
        points = runs.PROBLEMS["poisson-cube"].points(dim)
        assert (points["n_interior"], points["n_boundary"]) == (inside, 2 * dim * 100)


def test_the_mlp_is_that_of_the_paper():
    count = sum(p.numel() for p in runs.MLP((20, 128, 128, 128, 1), 0).parameters())
    assert count == 35_841
    first, second = (runs.MLP((3, 4, 1), 0)(torch.ones(1, 3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("dim", [20, 100])
def test_the_sources_have_the_parameters_of_the_paper(dim):
    counts = {"paper": {20: 38_308, 100: 48_548}}
    problem = problems.AllenCahnBall(dim)
    solver = runs.make_solver(
        "metakan",
        "paper",
        problem.settings | {"hidden_layer_sizes": (128, 128, 128), "max_iter": 1, "n_interior": 2},
    )
    assert solver.fit().n_parameters_ == counts["paper"][dim]


def test_table_shows_what_falls_short(call):
    assert {line.must_reach for line in command.LINES if line.dim == 100} == {3e-3, None}
    rows, _ = call("allen-cahn-ball", "--dim", "20", "--seeds", "0", "1")
    rows += call("allen-cahn-ball", "--dim", "20", "--model", "mlp", "--seeds", "0")[0][-1:]
    lines, goals = command.report(rows).split("\n\n")
    assert len(lines.splitlines()) == 4  # two lines of heading, MetaKAN, MLP
    assert "| MLP |" in lines and "| at most 0.0015 | SHORT by a factor" in goals
    good = [row | {"relative_l2": 1e-3, "parameters": 60_000} for row in rows[:2]]
    _, goals = command.report(good).split("\n\n")
    assert "| 0.001 | at most 0.0015 | reached |" in goals
    assert "parameters | 6e+04 | at most 40,000 | SHORT by 50% |" in goals


def test_table_runs_models_beside_each_other():
    options = command.parse(["table", "--device", "cpu", "--width", "72"])
    found = list(command.runs_of(options))
    assert len(found) == len(set(found)) == 2 * 3 * len(command.LINES)
    widths = {(run.model, run.width) for run in found}
    assert widths == {("metakan", 72), ("mlp", 128), ("mlp", 32)}
    some = command.parse(["table", "--device", "cpu", "--problems", "poisson-ball"])
    networks = {(r.model, r.source, r.width, r.depth, r.dim) for r in command.runs_of(some)}
    assert networks == {
        *(("metakan", "linear-6", 192, 1, 20), ("metakan", "linear-3", 160, 1, 50)),
        *(("metakan", "linear-3", 128, 1, 100), *(("mlp", "", 128, 3, d) for d in (20, 50, 100))),
    }
    fronts = command.parse(["table", "--device", "cpu", "--problems", "allen-cahn-1d"])
    found = [*command.runs_of(fronts)]
    assert {(run.steps, run.lm) for run in found} == {(0, 300)}
    assert {(run.model, run.width) for run in found} == {("metakan", 16), ("mlp", 32)}


def test_speed(monkeypatch):
    monkeypatch.setattr(speed, "LAYERS", (4, 1))
    monkeypatch.setattr(speed, "REPEATS", 2)
    cpu = torch.device("cpu")
    rows = [speed.mlp_step(5, cpu, 2), speed.solver_step("linear-2", 5, cpu, 4)]
    rows += [speed.laplacian("linear-2", 2, 3, cpu, way) for way in speed.WAYS]
    assert all(row["median"] > 0 and row["peak_mb"] is None for row in rows)
    assert "| 1.000 |" in speed.beside_first(rows).splitlines()[2]


def test_a_way_without_the_memory_is_a_line(monkeypatch):
    def fail(*arguments):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(speed, "timed", fail)
    row = speed.laplacian(None, 2, 3, torch.device("cpu"), speed.WAYS[0])
    text = speed.beside_first([row, row | {"what": "other", "median": 1, "p20": 1, "p80": 2}])
    assert (
        "| KAN, nested autograd: out of memory |  |" in text
        and "| other | 1.00 (1.00-2.00) |" in text
    )


def test_wrong_arguments(capsys):
    with pytest.raises(SystemExit):
        command.main(["burgers", "--dim", "3"])
    assert "has no choice of dimension" in capsys.readouterr().err


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("model,score\nkan,1\n")
    with pytest.raises(ValueError, match="of another version"):
        command.main(["wave", "--device", "cpu", "--csv", str(path)])
