"""Reading what ``save`` wrote: the way from a file to an estimator of the right class."""

import os
from typing import Any

import torch

from sklearn_metakan.estimators import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANImageClassifier,
    MetaKANRegressor,
)
from sklearn_metakan.files import FileError, read
from sklearn_metakan.training import restore

__all__ = ["load"]

_OF_DATA = (
    *(KANRegressor, MetaKANRegressor, KANClassifier, MetaKANClassifier),
    *(KANImageClassifier, MetaKANImageClassifier),
)
_OF_EQUATIONS = ("KANPDESolver", "MetaKANPDESolver")


def load(
    path: str | os.PathLike[str], device: str | torch.device | None = None, **functions: Any
) -> Any:
    """The estimator in a file that its method ``save`` wrote.

    Nothing in the file is executed. Checksums of its header and of each array, and names,
    shapes and dtypes of all numbers are compared with what the estimator's network would have
    before memory is taken for it. Predictions are those of the estimator that was saved, on
    the same device to the last bit, and ``partial_fit`` and ``warm_start`` go on.

    Parameters
    ----------
    path : str or path-like
    device : str or torch.device, optional
        Where it is to compute, from now on. By default the one where it was trained; where that
        is missing, another of its kind, or the CPU.
    **functions
        What the file could not hold, by the names of the constructor: ``residual``,
        ``ansatz``, ``solution`` of equations; ``domain``, ``boundary``, ``conditions`` that have
        functions inside; ``augment`` of images. The file knows which; they have to be those that
        were given to the constructor.

    Returns
    -------
    An estimator of the class that was saved.

    Raises
    ------
    ValueError
        For a file that is none of these, cut off, altered, contradictory or of a newer format,
        and for functions that are missing; it says which. For a device that is not there.
    OSError
        If there is no such file, or it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import make_friedman1
    >>> from sklearn_metakan import KANRegressor, load
    >>> X, y = make_friedman1(100, random_state=0)
    >>> model = KANRegressor(max_iter=5, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.safetensors")
    ...     loaded = load(f"{folder}/model.safetensors")
    >>> bool((loaded.predict(X) == model.predict(X)).all())
    True
    """
    opened = read(path)
    name = opened.header.get("class")
    kinds: dict[Any, Any] = {each.__name__: each for each in _OF_DATA}
    if name in _OF_EQUATIONS:
        from sklearn_metakan.pde import KANPDESolver, MetaKANPDESolver  # not all have equations

        kinds |= {each.__name__: each for each in (KANPDESolver, MetaKANPDESolver)}
    if not isinstance(name, str) or name not in kinds:
        raise FileError(f"{opened.path} is damaged, or newer: there is no class {name!r}.")
    return restore(kinds[name], opened, device, functions)
