"""The code of docs/guide/equations.md runs, and its table names every shipped problem."""

import re
from pathlib import Path

from matplotlib import pyplot as plt

from sklearn_metakan.pde import problems

PAGE = (Path(__file__).parents[2] / "docs" / "guide" / "equations.md").read_text(encoding="utf-8")


def test_code_runs(capsys):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    plt.close("all")
    found, exact = map(float, re.findall(r"[\d.]+\d(?=,|$)", capsys.readouterr().out.strip()))
    assert abs(found - exact) < 0.01
    assert len(names["conditions"]) == 3


def test_every_problem_is_named():
    table = PAGE.partition("## Problems to try")[2]
    named = {*re.findall(r"`(\w+)\([^`]*\)`(?:,| \|)", table)}
    assert {*problems.__all__} == named | {"Problem"}
