"""Constructors that store their arguments and do nothing else."""

from typing import Any


def store(estimator: Any, arguments: dict[str, Any]) -> None:
    """Set every argument of a constructor, given as its ``locals()``, as an attribute."""
    for name, value in arguments.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)
