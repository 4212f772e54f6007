"""The Python of every page of docs/ runs without a warning and prints what stands beside it.

A page is one session: its blocks run in order and share their names. What a line prints is the
comment at its end. Whole numbers are to be equal, those with a point to be near.
"""

import re
import runpy
import sys
import warnings
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from sklearn_metakan.pde import problems

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    str(path.relative_to(DOCS)): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.md"))
}
BLOCKS = {
    name: blocks
    for name, page in PAGES.items()
    if (blocks := re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
}
NEAR = 0.03
OTHERS = {f"../{path.name}": path.read_text(encoding="utf-8") for path in DOCS.parent.glob("*.md")}


def assert_prints(printed, stated):
    number = r"(-?\d+(?:\.\d+)?)"
    assert len(printed) == len(stated), (printed, stated)
    for line, said in zip(printed, stated, strict=True):
        for got, meant in zip(re.split(number, line), re.split(number, said), strict=True):
            if "." in meant and re.fullmatch(number, meant):
                assert float(got) == pytest.approx(float(meant), abs=NEAR), (line, said)
            else:
                assert got == meant, (line, said)


@pytest.mark.parametrize(("name", "page"), (PAGES | OTHERS).items(), ids=PAGES | OTHERS)
def test_no_merge_left_its_marks(name, page):
    assert re.findall(r"^(?:<{7}|>{7}) .*$", page, re.MULTILINE) == []


@pytest.mark.parametrize("name", BLOCKS)
def test_code_runs_and_prints_what_it_says(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in BLOCKS[name]:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(compile(block, name, "exec"), names)
        stated = re.findall(r"^ *print\(.*\)  # (.+)$", block, re.MULTILINE)
        assert_prints(capsys.readouterr().out.splitlines(), stated)
    plt.close("all")


@pytest.mark.parametrize(
    ("printed", "stated"),
    [
        ("score 0.90", "score 0.95"),
        ("score 0.90", "loss 0.90"),
        ("101 parameters", "100 parameters"),
        ("one", "one two"),
    ],
)
def test_other_output_is_noticed(printed, stated):
    with pytest.raises((AssertionError, ValueError)):
        assert_prints([printed], [stated])


@pytest.mark.parametrize(
    ("script", "out", "pictures"),
    [
        ("explanation/draw_kan.py", "kan.png", ["kan.png"]),
        (
            "guide/draw_inspection.py",
            ".",
            ["additive.png", "effects.png", "explanation.png", "network.png"],
        ),
    ],
)
def test_figures_can_be_drawn(script, out, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, "--out", str(tmp_path / out)])
    runpy.run_path(str(DOCS / script), run_name="__main__")
    plt.close("all")
    assert {path.name for path in tmp_path.iterdir()} == {*pictures}
    assert min((tmp_path / name).stat().st_size for name in pictures) > 10_000


def test_every_page_of_the_guide_has_code():
    pages = {name for name in PAGES if name.startswith("guide/")} - {"guide/README.md"}
    assert pages <= {*BLOCKS}


def test_every_problem_is_named():
    table = PAGES["guide/equations.md"].partition("## Problems to try")[2]
    named = {*re.findall(r"`(\w+)\([^`]*\)`(?:,| \|)", table)}
    assert {*problems.__all__} == named | {"Problem"}
