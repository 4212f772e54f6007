"""Other KANs, measured as their authors publish them, where they are at hand.

Each is imported by file path from a folder of checkouts, or, failing that, from an installed
package, when its first network is built. Nothing of them is part of this repository.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import torch
from _models import Model
from torch import nn

DEGREE = 3  # of all splines here


@dataclass(frozen=True)
class Peer:
    """``path`` is in the folder of checkouts; ``make`` takes module, widths and grid size."""

    key: str
    label: str
    path: str
    package: str | None
    make: Callable[[ModuleType, list[int], int], nn.Module]
    most_edges: float = float("inf")


def _official_kan(module: ModuleType, widths: list[int], grid_size: int) -> nn.Module:
    return module.KAN(widths, grid_size=grid_size, base_activation=nn.SiLU())


def _pykan(module: ModuleType, widths: list[int], grid_size: int) -> nn.Module:
    return module.KAN(width=widths, grid=grid_size, k=DEGREE, auto_save=False).speed()


PEERS = [
    Peer(
        "official-metakan",
        "official MetaKAN (H=32)",
        "MetaKAN/base_model/metakan.py",
        None,
        lambda module, widths, grid_size: module.MetaKAN(
            widths, hidden_dim=32, grid_size=grid_size
        ),
    ),
    Peer("official-kan", "official KAN", "MetaKAN/base_model/kan.py", None, _official_kan),
    Peer(
        "efficient-kan",
        "efficient-kan",
        "efficient-kan/src/efficient_kan/kan.py",
        "efficient_kan",
        lambda module, widths, grid_size: module.KAN(widths, grid_size=grid_size),
    ),
    Peer(
        "fastkan",
        "FastKAN",
        "fast-kan/fastkan/fastkan.py",
        "fastkan",
        lambda module, widths, grid_size: module.FastKAN(widths, num_grids=grid_size + DEGREE),
    ),
    # Holds Python objects for each edge, and activations for each edge and row.
    Peer("pykan", "pykan (speed mode)", "pykan/kan/__init__.py", "kan", _pykan, 3e5),
]


class TooLarge(ValueError):
    """A network that a peer is not asked to build."""


def find_peers(folder: Path | None) -> tuple[list[Model], list[str]]:
    """The peers that are there, and the labels of those that are not."""
    found, missing = [], []
    for peer in PEERS:
        path = folder / peer.path if folder and (folder / peer.path).is_file() else None
        if path or (peer.package and importlib.util.find_spec(peer.package)):
            build = partial(_build, peer, path)
            found.append(Model(peer.key, peer.label, build, lambda grid_size: grid_size + 4))
        else:
            missing.append(peer.label)
    return found, missing


def _build(
    peer: Peer, path: Path | None, widths: Sequence[int], grid_size: int, device: torch.device
) -> nn.Module:
    edges = sum(n_in * n_out for n_in, n_out in pairwise(widths))
    if edges > peer.most_edges:
        raise TooLarge(f"{edges} edges, at most {peer.most_edges:.0f} asked of {peer.label}")
    module = importlib.import_module(peer.package) if path is None else _load(peer, path)
    try:
        with device:  # large networks start slowly on a CPU
            return peer.make(module, list(widths), grid_size).to(device)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # of those who cannot start elsewhere
        return peer.make(module, list(widths), grid_size).to(device)


def _load(peer: Peer, path: Path) -> ModuleType:
    """The module in this file; of a package, under its own name, which it imports itself by."""
    is_package = path.name == "__init__.py"
    name = path.parent.name if is_package else f"peer_{peer.key.replace('-', '_')}"
    if name in sys.modules:
        return sys.modules[name]
    folders = [str(path.parent)] if is_package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
