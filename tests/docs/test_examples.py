"""Every example answers a question, runs without a warning, and draws."""

import runpy
import warnings
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_runs_and_draws(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runpy.run_path(str(path))
    drawn = plt.get_fignums()
    plt.close("all")
    assert drawn


def test_every_example_is_a_question_and_is_found_by_the_gallery():
    assert len(EXAMPLES) >= 12
    for path in EXAMPLES:
        title = path.read_text(encoding="utf-8").splitlines()[1]
        assert title.endswith("?") and path.name.startswith("plot_"), path.name
