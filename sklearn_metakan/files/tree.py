"""What files hold: plain values, arrays, and objects of classes that are known by name."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.files.container import DTYPES, FileError

_DEEPEST = 32  # levels of a tree
_MOST_BYTES = 64  # of an array, for a character of the header
_TORCH = {str(dtype): dtype for dtype in (torch.float64, torch.float32, torch.float16)}
_TIMES = ("datetime64", "timedelta64")


class UnstorableError(ValueError):
    """A value that files cannot hold, with the place where it is."""


class Codec:
    """Turns values into plain JSON and arrays, and back.

    JSON's numbers, strings, booleans, null and lists stand for themselves; an object with the one
    key {tag: content} is what else there is: tuples, dicts, numbers that are not finite, arrays,
    dtypes, devices, objects of ``types`` and references to what is given at loading.

    Parameters
    ----------
    types : iterable of type
        Classes that are known: dataclasses, named tuples, and those with ``__getstate__`` and
        ``__setstate__`` that take plain values. Found by their names, never imported by them.
    given : mapping of str to value, default={}
        What is referred to by name, and not stored: each value, or an item of it.
    """

    def __init__(self, types: Iterable[type] = (), given: Mapping[str, Any] | None = None) -> None:
        self.types = {each.__name__: each for each in types}
        self.given = dict(given or {})
        self.references: dict[int, list[Any]] = {}
        for name, value in self.given.items():
            for number, item in enumerate(value if isinstance(value, list | tuple) else ()):
                self.references[id(item)] = [name, number]
            self.references[id(value)] = [name, None]
        self.arrays: dict[str, Any] = {}  # of what was encoded

    def encode(self, value: Any, path: str = "", depth: int = 0) -> Any:
        """A value as JSON; its arrays are added to ``arrays``.

        Raises UnstorableError for what files cannot hold, such as functions; it names the place.
        """
        if id(value) in self.references and value is not None:
            return {"given": self.references[id(value)]}
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if np.isfinite(value) else {"float": repr(value)}
        if depth > _DEEPEST:
            raise UnstorableError(f"{path or 'it'} is nested more than {_DEEPEST} levels deep")
        if type(value) in (list, tuple):
            items = [
                self.encode(each, f"{path}[{number}]", depth + 1)
                for number, each in enumerate(value)
            ]
            return items if type(value) is list else {"tuple": items}
        if type(value) is dict:
            return self._encode_dict(value, path, depth)
        for kind, encode in _LEAVES:
            if isinstance(value, kind):
                return encode(self, value, path)
        if self.types.get(type(value).__name__) is type(value):
            state = self._encode_dict(state_of(value), path, depth)
            return {"object": [type(value).__name__, state]}
        raise UnstorableError(f"{path or 'it'} is {_described(value)}")

    def decode(self, value: Any, take: Callable[[Any], Any], depth: int = 0) -> Any:
        """The inverse; ``take`` gives arrays by their names.

        Raises FileError for what no encoder makes.
        """
        if depth > 2 * _DEEPEST:
            raise FileError("The file is damaged: its header is nested too deeply.")
        if isinstance(value, list):
            return [self.decode(each, take, depth + 1) for each in value]
        if not isinstance(value, dict):
            return value
        if len(value) != 1:
            raise FileError(f"The file is damaged: {[*value][:3]} is no single kind of value.")
        ((tag, content),) = value.items()
        if not isinstance(tag, str) or tag not in _DECODERS:
            raise FileError(f"The file is damaged: there is no kind of value {tag!r}.")
        try:
            return _DECODERS[tag](self, content, take, depth + 1)
        except FileError:
            raise
        except Exception as error:  # whatever wrong content leads to
            raise FileError(
                f"The file is damaged: no {tag} is made of its content ({error})."
            ) from error

    def _encode_dict(self, value: dict[Any, Any], path: str, depth: int) -> Any:
        if all(type(key) is str for key in value):
            return {
                "dict": {
                    key: self.encode(each, f"{path}.{key}" if path else key, depth + 1)
                    for key, each in value.items()
                }
            }
        pairs = []
        for key, each in value.items():
            pair = self.encode(key, f"a key of {path}", depth + 1)
            pairs.append([pair, self.encode(each, f"{path}[{key!r}]", depth + 1)])
        return {"pairs": pairs}

    def _encode_array(self, value: Any, path: str) -> Any:
        array = np.asarray(value)
        if array.dtype.kind == "U":
            width, items = array.dtype.itemsize // 4, array.ravel().tolist()
            if _fit_into_header(width, items):
                return {"strings": [[*array.shape], width, items]}
            plain = np.ascontiguousarray(array.astype(f"<U{width}"))
            return {"characters": [[*array.shape], self._added(_as_numbers(plain), path)]}
        if array.dtype.kind == "O":
            items = [self.encode(each, f"{path}[...]", 1) for each in array.ravel().tolist()]
            return {"objects": [[*array.shape], items]}
        if array.dtype.kind in "mM":
            return {"times": [str(array.dtype), self._added(array.view(np.int64), path)]}
        if array.dtype.newbyteorder("=").name not in DTYPES.values():
            raise UnstorableError(f"{path} is an array of dtype {array.dtype}")
        return {"array": self._added(array, path)}

    def _encode_scalar(self, value: np.generic, path: str) -> Any:
        if value.dtype.kind in "bifu" and value.dtype.name in DTYPES.values():
            return {"scalar": [value.dtype.name, self.encode(value.item())]}
        return {"item": self._encode_array(value, path)}

    def _encode_tensor(self, value: Tensor, path: str) -> Any:
        return {"tensor": self._encode_array(value.detach().cpu().numpy(), path)["array"]}

    def _added(self, array: Any, path: str) -> str:
        name = path
        while name in self.arrays:
            name += "'"
        self.arrays[name] = array
        return name

    def _named(self, name: str, number: Any) -> Any:
        value = self.given[name]
        return value if number is None else value[number]

    def _object(self, name: str, state: Any) -> Any:
        if name not in self.types:
            raise FileError(f"The file is damaged, or newer: it holds a {name!r}.")
        return restored(self.types[name], state)


def state_of(value: Any) -> dict[str, Any]:
    """What an object of a known class is made of."""
    if isinstance(value, tuple):
        state: dict[str, Any] = value._asdict()  # type: ignore[attr-defined]
    elif is_dataclass(value):
        state = {field.name: getattr(value, field.name) for field in fields(value)}
    else:
        state = value.__getstate__()
    return state


def restored(kind: type[Any], state: dict[str, Any]) -> Any:
    """An object of this class, checked as its constructor would, as far as that looks at all."""
    if issubclass(kind, tuple):
        return kind(**state)
    made = object.__new__(kind)
    if not is_dataclass(kind):
        made.__setstate__(state)
        check_attributes(kind, vars(made))
        return made
    for name in state.keys() - {field.name for field in fields(kind)}:
        raise FileError(f"The file is damaged, or newer: {kind.__name__} has no {name!r}.")
    vars(made).update({field.name: _value(kind, field, state) for field in fields(kind)})
    if hasattr(made, "__post_init__"):
        made.__post_init__()
    return made


def _value(kind: type, field: Field[Any], state: dict[str, Any]) -> Any:
    """What was stored, or the default of a field that there was not yet."""
    if field.name in state:
        return state[field.name]
    if field.default_factory is not MISSING:
        return field.default_factory()
    if field.default is MISSING:
        raise FileError(f"The file is damaged: {kind.__name__} lacks {field.name!r}.")
    return field.default


def check_attributes(kind: type, state: Iterable[str]) -> None:
    """Raise a FileError for a name that stands for a method or property of the class."""
    for name in state:
        known = getattr(kind, name, None)
        if name.startswith("__") or callable(known) or hasattr(known, "__get__"):
            raise FileError(f"The file is damaged: {kind.__name__} stores no {name!r}.")


def _described(value: Any) -> str:
    if callable(value):
        return f"the function {getattr(value, '__name__', value)!r}"
    return f"of type {type(value).__name__}"


def _strings(shape: list[int], width: int, items: list[str]) -> Any:
    width = max(width, max(map(len, items), default=1), 1)
    if not _fit_into_header(width, items) or prod(shape) != len(items):
        raise FileError(f"The file is damaged: {len(items)} strings are no array of {shape}.")
    return np.array(items, dtype=f"<U{width}").reshape(shape)


def _fit_into_header(width: int, items: list[str]) -> bool:
    """Whether an array of so wide strings is not much larger than the text that says it."""
    return 4 * width * len(items) <= _MOST_BYTES * (sum(map(len, items)) + 4 * len(items) + 16)


def _as_numbers(array: Any) -> Any:
    """The characters of each string, (n, width)."""
    return array.reshape(-1).view(np.uint32).reshape(array.size, -1)


def _characters(shape: list[int], numbers: Any) -> Any:
    array = np.ascontiguousarray(numbers).view(f"<U{numbers.shape[1]}").reshape(shape)
    array.tolist()  # raises for what is no character
    return array


def _objects(shape: list[int], items: list[Any]) -> Any:
    array = np.empty(len(items), dtype=object)
    for number, item in enumerate(items):
        array[number] = item
    return array.reshape(shape)


def _times(dtype: str, array: Any) -> Any:
    if not dtype.startswith(_TIMES):
        raise FileError(f"The file is damaged: {dtype!r} is no dtype of times.")
    return array.view(dtype)


def _dtype(name: str) -> Any:
    if name not in DTYPES.values():
        raise FileError(f"The file is damaged: there is no dtype {name!r}.")
    return np.dtype(name)


_LEAVES: list[tuple[Any, Callable[[Codec, Any, str], Any]]] = [
    (np.ndarray, Codec._encode_array),
    (np.generic, Codec._encode_scalar),
    (Tensor, Codec._encode_tensor),
    (np.dtype, lambda codec, value, path: {"dtype": _dtype(value.name).name}),
    (torch.dtype, lambda codec, value, path: {"torch": str(value)}),
    (os.PathLike, lambda codec, value, path: {"path": os.fspath(value)}),
    (torch.device, lambda codec, value, path: {"device": str(value)}),
]

_DECODERS: dict[str, Callable[[Codec, Any, Callable[[Any], Any], int], Any]] = {
    "tuple": lambda codec, items, take, depth: tuple(codec.decode([*items], take, depth)),
    "dict": lambda codec, items, take, depth: {
        key: codec.decode(each, take, depth) for key, each in items.items()
    },
    "pairs": lambda codec, items, take, depth: {
        codec.decode(key, take, depth): codec.decode(each, take, depth) for key, each in items
    },
    "float": lambda codec, text, take, depth: {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}[text],
    "scalar": lambda codec, pair, take, depth: _dtype(pair[0]).type(
        codec.decode(pair[1], take, depth)
    ),
    "item": lambda codec, array, take, depth: codec.decode(array, take, depth)[()],
    "array": lambda codec, name, take, depth: take(name),
    "tensor": lambda codec, name, take, depth: torch.tensor(take(name)),
    "strings": lambda codec, content, take, depth: _strings(*content),
    "characters": lambda codec, content, take, depth: _characters(content[0], take(content[1])),
    "objects": lambda codec, content, take, depth: _objects(
        content[0], codec.decode(content[1], take, depth)
    ),
    "times": lambda codec, content, take, depth: _times(content[0], take(content[1])),
    "dtype": lambda codec, name, take, depth: _dtype(name),
    "torch": lambda codec, name, take, depth: _TORCH[name],
    "device": lambda codec, name, take, depth: torch.device(name),
    "path": lambda codec, name, take, depth: Path(name),
    "given": lambda codec, content, take, depth: codec._named(*content),
    "object": lambda codec, content, take, depth: codec._object(
        content[0], codec.decode(content[1], take, depth)
    ),
}
