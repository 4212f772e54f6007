"""The lines that must be reached (issues 3 and 4), read off the rows of one or several runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from _models import WIDE_MLP
from _rows import Row, Times

CARD = "H200"  # whose milliseconds the limits in milliseconds are


class NotMeasured(LookupError):
    """A number that these rows do not have."""


@dataclass(frozen=True)
class _Found:
    """Looks numbers up: ``found("4096", "paper", "peak_mb", "tf32")``."""

    rows: list[Row]

    def __call__(self, shape: str, model: str, name: str, precision: str) -> float:
        for row in self.rows:
            if (row.shape, row.model, row.precision) == (shape, model, precision):
                value: Any = getattr(row, name, row.ratios.get(name))
                if value is not None:
                    return value.median if isinstance(value, Times) else value
        raise NotMeasured(f"no {name} of {model} on {shape} in {precision}")


@dataclass(frozen=True)
class Line:
    """``measure(found)`` must be at most ``limit`` on this device.

    "card" is the one whose milliseconds count; on others it is the ratio to the floor. Steps on
    a card are captured ones, as the estimators train there.
    """

    text: str
    limit: float
    measure: Callable[[_Found], float]
    on: Literal["cpu", "cuda", "card", "other cards"] = "cuda"
    unit: str = ""


def _value(shape: str, model: str, name: str, precision: str = "tf32") -> Callable:
    return lambda found: found(shape, model, name, precision)


def _ratio(name: str, of: tuple[str, str], to: tuple[str, str], precision: str = "tf32"):
    """Of (shape, model) to another."""
    return lambda found: found(*of, name, precision) / found(*to, name, precision)


def _to_mlp(name: str, shape: str, model: str, mlp: str = "mlp", precision: str = "tf32"):
    return _ratio(name, (shape, model), (shape, mlp), precision)


def _on_cpu(model: str) -> Callable:
    return _ratio("eager", ("cpu", model), ("cpu", "efficient-kan"), "fp32")


def _growth(found: _Found) -> float:
    """Peak of 16 layers less that of 4, against the MLP's."""

    def more(model: str) -> float:
        deep, shallow = (found(s, model, "peak_mb", "tf32") for s in ("deep16", "deep4"))
        return deep - shallow

    return more("paper") / more("mlp")


LINES = [
    Line("p=1 on 4096: peak / MLP's", 1.15, _to_mlp("peak_mb", "4096", "paper")),
    Line("p=1 on 4096, tf32: step", 15.0, _value("4096", "paper", "captured"), "card", " ms"),
    Line(
        "p=1 on 4096, tf32: step / product floor",
        15 / 8.3,
        _value("4096", "paper", "captured_to_floor"),
        "other cards",
    ),
    Line(
        "p=1 on 4096, bf16: step (loss curve: not measured here)",
        10.0,
        _value("4096", "paper", "captured", "bf16"),
        "card",
        " ms",
    ),
    Line(
        "p=1 on 4096, bf16: step / product floor (loss curve: not measured here)",
        10 / 4.4,
        _value("4096", "paper", "captured_to_floor", "bf16"),
        "other cards",
    ),
    Line(
        "edge scale on 4096: peak / that of an MLP with as many parameters",
        1.10,
        _to_mlp("peak_mb", "4096", "edge-scale", WIDE_MLP),
    ),
    Line(
        "linear p=2 on 4096: peak / that of an MLP with as many parameters",
        1.10,
        _to_mlp("peak_mb", "4096", "linear-2", WIDE_MLP),
    ),
    Line("linear p=2 on 4096: step / MLP's", 3.0, _to_mlp("captured", "4096", "linear-2")),
    Line("p=1 on issue23: peak / MLP's", 1.5, _to_mlp("peak_mb", "issue23", "paper")),
    Line("p=1 on 784-64: captured step", 1.0, _value("784-64", "paper", "captured"), unit=" ms"),
    Line("p=1 on 784-64: peak / MLP's", 2.0, _to_mlp("peak_mb", "784-64", "paper")),
    Line(
        "p=1: step at G=20 / at G=5",
        2.7,
        _ratio("captured", ("grid20", "paper"), ("3072-2048", "paper")),
    ),
    Line(
        "linear p=2: step at G=20 / at G=5",
        1.05,
        _ratio("captured", ("grid20", "linear-2"), ("3072-2048", "linear-2")),
    ),
    Line("convolutions, p=1: peak / that of plain ones", 1.3, _to_mlp("peak_mb", "conv", "paper")),
    Line(
        "convolutions, p=1: step / floor",
        1.5,
        _value("conv", "paper", "captured_to_floor"),
    ),
    Line(
        "convolutions, linear p=2: step / that of plain ones",
        4.0,
        _to_mlp("captured", "conv", "linear-2"),
    ),
    # "As the MLP's": a tenth more is within the workspace.
    Line("p=1: growth of peak from 4 to 16 layers / MLP's", 1.1, _growth),
    Line("CPU, p=1: step / efficient-kan's", 0.6, _on_cpu("paper"), "cpu"),
    Line("CPU, linear p=2: step / efficient-kan's", 0.25, _on_cpu("linear-2"), "cpu"),
    *(
        Line(
            f"CPU, {name}: saved for backward / MLP's",
            1.3,
            _to_mlp("saved_mb", "cpu", model, precision="fp32"),
            "cpu",
        )
        for name, model in (("p=1", "paper"), ("linear p=2", "linear-2"))
    ),
]


def reached(rows: list[Row], device: str) -> list[str]:
    """Each line that counts on a device as text: its limit, what was measured, the verdict.

    ``device`` is "cpu" or the name of a card.
    """
    kinds = {"cpu"} if device == "cpu" else {"cuda", "card" if CARD in device else "other cards"}
    found, texts = _Found(rows), []
    for line in LINES:
        if line.on not in kinds:
            continue
        start = f"{line.text}: at most {line.limit:.3g}{line.unit}, "
        try:
            value = line.measure(found)
        except NotMeasured as error:
            texts.append(f"{start}not measured ({error})")
            continue
        short = value / line.limit - 1
        verdict = "reached" if short <= 0 else f"SHORT by {short:.0%}"
        texts.append(f"{start}measured {value:.3g}{line.unit}: {verdict}")
    return texts
