"""Checkpoints: a fit that was killed goes on, bit for bit as if it had not been."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import sha256
from numbers import Integral, Real
from pathlib import Path
from time import perf_counter
from types import CellType, CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback

from sklearn_metakan.files import Codec, FileError, Opened, UnstorableError, read, write
from sklearn_metakan.nn import Drawing
from sklearn_metakan.training.callback_states import CallbackStates, facts_of_callbacks
from sklearn_metakan.training.callbacks import Progress, TimeLimit, warn_caller
from sklearn_metakan.training.pickles import extend_history, history_rows

_KEPT = 2  # the newest may be damaged
_PATTERN = "checkpoint-*.safetensors"
_START = "the weights at the start"
_LONGEST = 60  # characters of a value that is told
_DEEPEST = 8  # levels of what functions and collections are made of
_CHUNK = 2**22  # bytes of an array that are looked at in one go
# What may differ from one start to the next.
_SEED = "random_state"
_FREE = {"checkpoint_dir", "checkpoint_every", "verbose", "working_memory", _SEED}


class Checkpoints(Callback):
    """Writes down, between two epochs, all that the rest of training depends on.

    That is the weights, the state of optimiser, schedule, early stopping and generators, the best
    weights so far, the history, and what callbacks know. Files have the container of ``save``,
    numbered one after the other; the last two are kept.

    Parameters
    ----------
    folder : str or path-like
        Of one fit.
    every : (int, float)
        Epochs and seconds that must both have passed since the last one.
    resume : bool
        Whether to go on from the newest that is whole.

    Attributes
    ----------
    phase : int
        Of trainings that follow one another, the present one.
    """

    def __init__(
        self, folder: str | os.PathLike[str], every: tuple[int, float], resume: bool
    ) -> None:
        self.folder, self.every = Path(folder), every
        self.folder.mkdir(parents=True, exist_ok=True)
        self.opened = self._newest() if resume else None
        self.phase = 0 if self.opened is None else int(self.opened.header["phase"])
        self.facts: dict[str, str] = {}
        self.seeds: list[int] = []

    def begin(self, seeds: list[int], estimator: Any, data: Mapping[str, Any]) -> list[int]:
        """The seeds of the fit that goes on, or these for a new one.

        Raises ValueError for other parameters or data than those of the checkpoint, naming the
        first.
        """
        given = {"class": type(estimator).__name__} | estimator.get_params(deep=False)
        given["callbacks"] = facts_of_callbacks(estimator.callbacks)
        self.facts = {name: _fact(each) for name, each in given.items() if name not in _FREE}
        if isinstance(estimator.random_state, Integral):  # what others draw is in the seeds
            self.facts[_SEED] = _fact(int(estimator.random_state))
        self.facts |= {name: _fact(each) for name, each in data.items() if each is not None}
        if self.opened is not None:
            seeds = self.opened.header["seeds"]
            known = self.opened.header["facts"].keys() - {_START}
            for name in [*self.facts, *sorted(known - self.facts.keys())]:
                if name != _SEED or name in known & self.facts.keys():
                    self._compare(self.opened, name)
        self.seeds = seeds
        return seeds

    def check_start(self, module: torch.nn.Module) -> None:
        """Raise a ValueError where the weights before the first step are others than then."""
        weights = module.state_dict()
        digests = [f"{name} {_digest(value.cpu().numpy())}" for name, value in weights.items()]
        self.facts[_START] = _digest(np.array(digests))
        if self.opened is not None:
            self._compare(self.opened, _START)

    def reaches(self, phase: int) -> bool:
        """Whether a phase is still to be trained; if so, it is the present one."""
        if self.opened is not None and phase < self.phase:
            return False
        self.phase = phase
        return True

    def _compare(self, opened: Opened, name: str) -> None:
        then, now = (facts.get(name, "none") for facts in (opened.header["facts"], self.facts))
        if then != now:
            told = f", which was {then} and is {now}" if max(len(then), len(now)) < _LONGEST else ""
            raise ValueError(
                f"The checkpoint {opened.path} is of another fit: it differs in {name}{told}. Fit "
                "with what it was made with, or with resume=False or another checkpoint_dir."
            )

    def _files(self) -> list[Path]:
        """By number, the newest last."""
        found = {path: path.stem.partition("-")[2] for path in self.folder.glob(_PATTERN)}
        ours = [path for path, number in found.items() if number.isdecimal()]
        return sorted(ours, key=lambda path: int(found[path]))

    def _newest(self) -> Opened | None:
        """The newest that is whole; None if there is none at all."""
        damaged = []
        for path in reversed(self._files()):
            try:
                opened = read(path)
                if not {"phase", "seeds", "facts", "state"} <= opened.header.keys():
                    raise FileError(f"{path} is no checkpoint.")
                opened.check_all()
            except (FileError, OSError) as error:
                damaged.append(str(error))
                continue
            if damaged:
                warn_caller(f"{damaged[0]} The fit goes on from {path}.", UserWarning)
            return opened
        if damaged:
            raise FileError(
                f"No checkpoint in {self.folder} is whole: {' '.join(damaged)} Fit with "
                "resume=False to start again."
            )
        return None

    def on_train_begin(self, net: Any, X: Any = None, **kwargs: Any) -> None:
        self.data_, self.since_, self.written_ = X, 0, perf_counter()
        self.done_, self.states_ = 0, CallbackStates(_of_user(net))
        if self.opened is not None:
            opened, self.opened = self.opened, None
            decoded = Codec().decode(opened.header["state"], opened.take)
            opened.close()
            _restore(net, X, decoded["training"])
            self.states_.restore(decoded.get("of_user", {}))
            self.done_ = net.done_ = decoded["done"]
            for _, callback in net.callbacks_:
                if isinstance(callback, Progress):
                    rows = net.history[-self.done_ :] if self.done_ else []
                    callback.bar_.update(sum(map(callback.advance, rows)))

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.since_ += 1
        self.done_ += 1
        epochs, seconds = self.every
        if self.since_ >= epochs and perf_counter() - self.written_ >= seconds:
            if net.ranks_ is None or net.ranks_.rank == 0:
                self._write(net)
            self.since_, self.written_ = 0, perf_counter()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.data_ = None

    def _write(self, net: Any) -> None:
        codec, there = Codec(), self._files()
        number = 1 + max((int(path.stem.partition("-")[2]) for path in there), default=0)
        state = {"done": self.done_, "training": _state(net, self.data_)}
        of_user = self.states_.state()
        state |= {"of_user": of_user} if of_user else {}
        header = {
            "phase": self.phase,
            "seeds": self.seeds,
            "facts": self.facts,
            "state": codec.encode(state),
        }
        write(self.folder / f"checkpoint-{number:06d}.safetensors", header, codec.arrays)
        for path in there[: max(0, len(there) + 1 - _KEPT)]:
            path.unlink(missing_ok=True)


def open_checkpoints(estimator: Any, resume: bool) -> Checkpoints | None:
    """Those that the parameters of an estimator ask for.

    Raises ValueError for parameters that contradict one another; if no checkpoint is whole.
    """
    folder, every = estimator.checkpoint_dir, estimator.checkpoint_every
    if folder is None:
        if resume:
            raise ValueError("resume=True needs checkpoint_dir, the folder of the checkpoints.")
        return None
    fine = isinstance(every, list | tuple) and len(every) == 2
    fine = fine and all(isinstance(each, Real) for each in every)
    if not fine or not (every[0] >= 1 and 0 <= every[1] < float("inf")):
        raise ValueError(
            f"checkpoint_every must be (iterations, seconds), at least 1 and 0, got {every!r}."
        )
    return Checkpoints(folder, (int(every[0]), float(every[1])), resume)


def _state(net: Any, data: Any) -> dict[str, Any]:
    """All that changes in training."""
    limits = {each.time_limit for _, each in net.callbacks_ if getattr(each, "time_limit", None)}
    state: dict[str, Any] = {
        "weights": dict(net.module_.state_dict()),
        "optimizer": net.optimizer_.state_dict(),
        "history": history_rows(net),
        "shuffling": net.generator_.get_state(),
        "drawing": {name: each.get_state() for name, each in _generators(net).items()},
        "callbacks": {name: _fitted(each) for name, each in _of_state(net)},
        "used": max((limit.used for limit in limits), default=0.0),
        "net": net.extra_state(),
    }
    if hasattr(net.optimizer_, "extra_state"):
        state["of_optimizer"] = net.optimizer_.extra_state()
    if hasattr(data, "extra_state"):
        state["data"] = data.extra_state()
    return state


def _restore(net: Any, data: Any, state: dict[str, Any]) -> None:
    """The inverse, in a net whose training begins."""
    net.module_.load_state_dict(state["weights"])
    net.optimizer_.load_state_dict(state["optimizer"])
    if "of_optimizer" in state:
        net.optimizer_.set_extra_state(state["of_optimizer"])
    net.history.clear()
    extend_history(net, state["history"])
    net.generator_.set_state(state["shuffling"])
    device, modules = torch.device(net.device), dict(net.module_.named_modules())
    for name, generator in state["drawing"].items():
        modules[name].generator_on(device).set_state(generator)
    for name, callback in _of_state(net):
        vars(callback).update(state["callbacks"][name])
    for _, callback in net.callbacks_:
        if getattr(callback, "time_limit", None) is not None:
            seconds = callback.time_limit.seconds
            callback.time_limit = TimeLimit(perf_counter() - state["used"] * seconds, seconds)
    net.set_extra_state(state["net"])
    if "data" in state:
        data.set_extra_state(state["data"])


def _of_state(net: Any) -> Iterable[tuple[str, Any]]:
    """Callbacks of ours whose fitted attributes training depends on."""
    known = [each for _, each in net.callbacks_ if _is_ours(each)]
    stateful = [each for each in known if not isinstance(each, Checkpoints | Progress)]
    return [(type(each).__name__, each) for each in stateful]


def _of_user(net: Any) -> Iterable[tuple[str, Any]]:
    """Callbacks that were given to the estimator."""
    return [(name, each) for name, each in net.callbacks_ if not _is_ours(each)]


def _is_ours(callback: Any) -> bool:
    return type(callback).__module__.startswith("sklearn_metakan.")


def _fitted(callback: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(callback).items() if name.endswith("_")}


def _generators(net: Any) -> dict[str, torch.Generator]:
    modules = net.module_.named_modules()
    drawing = {name: each.generator for name, each in modules if isinstance(each, Drawing)}
    return {name: each for name, each in drawing.items() if each is not None}


def _fact(value: Any, depth: int = 0) -> str:
    """A short text for a value: of functions, of what they do; of other objects, the class."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return _digest(value)
    try:
        codec = Codec()
        text = repr(codec.encode(value))
        text += "".join(map(_digest, codec.arrays.values()))
    except UnstorableError:
        text = str(getattr(value, "__qualname__", type(value).__qualname__))
        if depth < _DEEPEST and (parts := _parts(value)):
            facts = [_fact(each, depth + 1) for each in parts]
            text += f" {sha256(repr(facts).encode()).hexdigest()[:16]}"
    return text if len(text) < _LONGEST else sha256(text.encode()).hexdigest()


def _parts(value: Any) -> Sequence[Any]:
    """What a function, a collection or a dataclass is made of; nothing of other values."""
    value = getattr(value, "__func__", value)
    match value:
        case list() | tuple():
            return value
        case dict():
            return [*value, *value.values()]
        case partial():
            return value.func, value.args, value.keywords
        case FunctionType():
            own = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
            return [value.__code__, value.__defaults__, value.__kwdefaults__, *own]
        case CodeType():  # sets have another order in each process
            constants = [sorted(map(repr, c)) if isinstance(c, frozenset) else c
                         for c in value.co_consts]  # fmt: skip
            return [value.co_code.hex(), value.co_names, *constants]
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, each.name) for each in fields(value) if each.repr]
    return ()


def _digest(array: Any) -> str:
    """Of an array's dtype, shape and numbers, some rows at a time."""
    array = np.asarray(array)
    digest = sha256(f"{array.dtype} {array.shape}".encode())
    flat = array.reshape(1, -1) if array.ndim < 2 else array
    step = max(1, _CHUNK // max(1, flat[:1].nbytes))
    for start in range(0, len(flat), step):
        digest.update(np.ascontiguousarray(flat[start : start + step]).tobytes())
    return digest.hexdigest()
