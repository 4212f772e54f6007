"""The runs behind docs/pde.md, what they must reach, and their table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from _markdown import table

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Line:
    """Runs of one problem: those of MetaKAN must reach this relative L2, if there is a limit.

    How they differ from the defaults: ``training`` of all models, ``networks`` by model, those of
    the MetaKAN chosen with seeds 10 and 11.
    """

    problem: str
    dim: int | None
    must_reach: float | None = None
    parameters: int | None = None  # at most, of the MetaKAN
    training: Mapping[str, Any] = field(default_factory=dict)
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.problem if self.dim is None else f"{self.problem}, d={self.dim}"


def _metakan(**network: Any) -> dict[str, dict[str, Any]]:
    return {"metakan": network}


BALL_20 = _metakan(source="linear-6", width=192, depth=1, prompt_learning_rate=0.2)
BALL_50 = _metakan(source="linear-3", width=160, depth=1, prompt_learning_rate=0.2)
BALL_100 = _metakan(source="linear-3", width=128, depth=1, prompt_learning_rate=0.3)
FRONTS = {
    "metakan": {"source": "linear-4", "width": 16, "depth": 3, "grid_size": 8},
    "kan": {"width": 16},
    "mlp": {"width": 32},
}
CUBE = _metakan(width=128, depth=1)
LEAST_SQUARES = {"steps": 0, "lm": 300, "n_interior": 4000, "sampling": "sobol"}
LINES = (
    Line("allen-cahn-ball", 20, 1.5e-3, 40_000, networks=BALL_20),
    Line("allen-cahn-ball", 100, 3e-3, 50_000, networks=BALL_100),
    Line("poisson-ball", 20, 1.5e-3, 40_000, networks=BALL_20),
    Line("poisson-ball", 50, 3e-3, 50_000, networks=BALL_50),
    Line("poisson-ball", 100, 3e-3, 50_000, networks=BALL_100),
    Line("allen-cahn-1d", None, 2e-3, training=LEAST_SQUARES, networks=FRONTS),
    *(Line("poisson-cube", d, training={"steps": 2000}, networks=CUBE) for d in (20, 50, 100)),
)
HEADINGS = (
    *("problem", "model", "parameters", "steps", "points inside / boundary"),
    *("relative L2: median (seeds)", "residual", "minutes", "peak MB", "must reach"),
)


def markdown(lines: Sequence[Line], rows: Sequence[dict[str, str]]) -> str:
    """One row a line and model, medians over the seeds that are there."""
    cells = []
    for line in lines:
        dim = "" if line.dim is None else str(line.dim)
        for model in ("metakan", "kan", "mlp"):
            its = [
                row
                for row in rows
                if (row["problem"], row["dim"], row["model"]) == (line.problem, dim, model)
            ]
            if its:
                cells.append(_cells(line, model, its))
    return "\n".join(table(HEADINGS, cells))


def _cells(line: Line, model: str, its: Sequence[dict[str, str]]) -> list[str]:
    def middle(name: str) -> float | None:
        values = [float(row[name]) for row in its if row[name]]
        return median(values) if values else None

    errors = [float(row["relative_l2"]) for row in its]
    first, peak, seconds = its[0], middle("peak_mb"), middle("seconds") or 0.0
    label = f"MetaKAN {first['source']}" if model == "metakan" else model.upper()
    limit = line.must_reach if model == "metakan" else None
    return [
        line.title,
        label,
        f"{int(first['parameters']):,}",
        f"{middle('steps_done'):,.0f}",
        first["n_interior"] + f" / {first['n_boundary']}" * (first["has_boundary"] == "True"),
        f"{median(errors):.1e} ({', '.join(f'{error:.1e}' for error in errors)})",
        f"{middle('residual'):.1e}",
        f"{seconds / 60:.1f}",
        "" if peak is None else f"{peak:,.0f}",
        "" if limit is None else _verdict(line, median(errors), int(first["parameters"])),
    ]


def _verdict(line: Line, error: float, parameters: int) -> str:
    assert line.must_reach is not None
    text = f"{line.must_reach:.1e}: "
    text += "reached" if error <= line.must_reach else f"short by {error / line.must_reach:.1f}x"
    if line.parameters is not None and parameters > line.parameters:
        text += f", with more than {line.parameters:,} parameters"
    return text
