"""Versions that the package is to work with: `nox`, `nox -s lowest`, `nox -s newest-3.13`.

A Python that is not there is left out. `make test-lowest` is the same as `nox -s lowest`.
"""

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
PYTEST = ["pytest", "-q", "-n", "2", "-m", "not slow and not gpu"]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def newest(session: nox.Session) -> None:
    """The newest scikit-learn, skorch, torch, NumPy and pandas that this Python can have."""
    session.install("-e", ".[test]")
    session.run(*PYTEST, *session.posargs, env=ONE_THREAD)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The oldest ones that the metadata of the package allow."""
    session.install("-e", ".[test]", "-c", "constraints-lowest.txt")
    session.run(*PYTEST, *session.posargs, env=ONE_THREAD)
