"""The second demo runs, prints the error of what it solved, and draws it."""

import re

import pytest
from matplotlib import image
from sklearn.base import clone

from sklearn_metakan import demo_pde
from sklearn_metakan.pde import MetaKANPDESolver


def test_demo(tmp_path, capsys):
    path = tmp_path / "new folder" / "demo-pde.png"
    demo_pde.main(["--steps", "2", "--out", str(path)])
    printed = capsys.readouterr().out
    error = float(re.search(r"relative error (\S+) on 10,000 new points", printed)[1])
    settings = demo_pde.PROBLEM.settings | demo_pde.SETTINGS
    solver = clone(MetaKANPDESolver(**settings, max_iter=2)).fit()
    assert demo_pde.relative_error(solver) == pytest.approx(error, rel=0.06)  # two digits
    assert f"{solver.n_parameters_:,} trainable numbers" in printed
    assert f"Picture: {path}" in printed
    assert image.imread(path).shape[:2] == (660, 1150)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "picture.xyz"], "picture.xyz cannot be written: its name must end in one of"),
        (["--out", "file/picture.png"], "cannot be written"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_fit(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        demo_pde.main(arguments)
    printed = capsys.readouterr()
    assert said in printed.err and not printed.out


@pytest.mark.slow
def test_demo_solves_its_equation(tmp_path, capsys):
    demo_pde.main(["--out", str(tmp_path / "demo-pde.png")])
    assert float(re.search(r"relative error (\S+)", capsys.readouterr().out)[1]) < 0.03
