"""The examples in docstrings run and print what they show."""

import doctest
from importlib import import_module
from pkgutil import walk_packages

import pytest

import sklearn_metakan

MODULES = [info.name for info in walk_packages(sklearn_metakan.__path__, "sklearn_metakan.")]
EXAMPLES = [
    test
    for name in MODULES
    for test in doctest.DocTestFinder(exclude_empty=True).find(import_module(name))
    if test.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    printed = []
    result = runner.run(example, out=printed.append)
    assert result.failed == 0, "".join(printed)


def test_public_names_have_examples():
    shown = {test.name.rpartition(".")[2] for test in EXAMPLES}
    assert shown >= {*sklearn_metakan.__all__}
