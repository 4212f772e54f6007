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

    How they differ from the defaults: ``training`` of all models, ``network`` of the MetaKAN,
    chosen with seeds 10 and 11.
    """

    problem: str
    dim: int | None
    must_reach: float | None = None
    parameters: int | None = None  # at most, of the MetaKAN
    training: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return self.problem if self.dim is None else f"{self.problem}, d={self.dim}"


BALL_20 = {"source": "linear-6", "width": 192, "depth": 1, "prompt_learning_rate": 0.2}
BALL_50 = {"source": "linear-3", "width": 160, "depth": 1, "prompt_learning_rate": 0.2}
BALL_100 = BALL_50 | {"width": 128, "prompt_learning_rate": 0.3}
CUBE = {"width": 128, "depth": 1}
LINES = (
    Line("allen-cahn-ball", 20, 1.5e-3, 40_000, network=BALL_20),
    Line("allen-cahn-ball", 100, 3e-3, 50_000, network=BALL_100),
    Line("poisson-ball", 20, 1.5e-3, 40_000, network=BALL_20),
    Line("poisson-ball", 50, 3e-3, 50_000, network=BALL_50),
    Line("poisson-ball", 100, 3e-3, 50_000, network=BALL_100),
    Line(
        "allen-cahn-1d",
        None,
        2e-3,
        training={"lbfgs": 2000, "causal": 10.0},
        network={"width": 32},
    ),
    *(Line("poisson-cube", d, training={"steps": 2000}, network=CUBE) for d in (20, 50, 100)),
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
        f"{first['n_interior']} / {first['n_boundary']}",
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
