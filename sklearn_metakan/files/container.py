"""Bytes: a JSON header and named arrays in a safetensors file, both with checksums."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

FORMAT = 1  # of files; later versions read it, earlier ones say so
_KEY = "sklearn_metakan"  # of the header in safetensors' metadata
_LARGEST_HEADER = 2**26  # characters

# safetensors' names of the dtypes that arrays may have.
DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}


class FileError(ValueError):
    """A file that cannot be read: cut off, altered, of another kind or of a newer format."""


class Opened:
    """A file whose header was checked, and whose arrays are checked as they are taken.

    Attributes
    ----------
    header : dict
        Plain JSON values.
    """

    def __init__(self, path: str, header: dict[str, Any], entries: dict[str, list[Any]]) -> None:
        self.path, self.header = path, header
        self._left = entries  # name -> dtype, shape, checksum

    def layout(self, name: str) -> tuple[str, tuple[int, ...]]:
        """dtype and shape of an array, without its numbers."""
        dtype, shape, _ = self._entry(name)
        return dtype, tuple(shape)

    def take(self, name: Any) -> NDArray[Any]:
        """An array, each once.

        Raises FileError for a name that there is not (any more), and numbers with another checksum.
        """
        _, _, checksum = self._entry(name)
        del self._left[name]
        with safe_open(self.path, framework="numpy") as file:
            array: NDArray[Any] = file.get_tensor(name)
        if _digest(array) != checksum:
            raise FileError(f"{self.path} is damaged: the numbers of {name!r} were altered.")
        return array

    def check_all(self) -> None:
        """Raise a FileError unless all numbers have their checksums."""
        for name in [*self._left]:
            entry = self._left[name]
            self.take(name)
            self._left[name] = entry

    def close(self) -> None:
        """Raise a FileError if arrays are left that the header does not speak of."""
        if self._left:
            raise FileError(
                f"{self.path} is damaged: it has an array {next(iter(self._left))!r} too much."
            )

    def _entry(self, name: Any) -> list[Any]:
        if not isinstance(name, str) or name not in self._left:
            raise FileError(f"{self.path} is damaged: the array {name!r} is missing.")
        return self._left[name]


def write(path: str | os.PathLike[str], header: dict[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write a file at once: a crash, or a full disk, leaves what was there before.

    Raises OSError if it cannot be written.

    Parameters
    ----------
    path : str or path-like
    header : dict
        Plain JSON values.
    arrays : mapping of str to ndarray
        Of numbers; strings belong into the header.
    """
    plain = {name: np.ascontiguousarray(_little(array)) for name, array in arrays.items()}
    plain = {name: array.reshape(np.shape(arrays[name])) for name, array in plain.items()}
    entries = {
        name: [str(array.dtype), [*array.shape], _digest(array)] for name, array in plain.items()
    }
    whole = {"format": FORMAT, **header, "arrays": entries}
    text = json.dumps(whole, allow_nan=False, separators=(",", ":"))
    if len(text) > _LARGEST_HEADER:
        raise ValueError(f"The header would have {len(text):,} characters, more than can be read.")
    write_bytes(path, save(plain, {_KEY: f"{_digest_of(text)} {text}"}))


def read(path: str | os.PathLike[str]) -> Opened:
    """Open a file and check its header, before the memory for any array is taken.

    Raises
    ------
    FileError
        If it is no such file, was cut off or altered, or has a newer format.
    OSError
        If there is none, or it cannot be read.
    """
    path = os.fsdecode(path)
    with open(path, "rb"):  # says what is wrong with the path
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            found = {}
            for name in file.keys():  # noqa: SIM118, a file is no dict
                part = file.get_slice(name)
                found[name] = [DTYPES.get(part.get_dtype()), [*part.get_shape()]]
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} is no file of this package, or is cut off: {error}.") from error
    if text is None:
        raise FileError(f"{path} is a safetensors file, but none of this package.")
    header = _parsed(path, text)
    entries = header.pop("arrays", None)
    if not isinstance(entries, dict) or not all(map(_is_entry, entries.values())):
        raise FileError(f"{path} is damaged: its header has no table of arrays.")
    for name in entries.keys() ^ found.keys():
        raise FileError(f"{path} is damaged: its header and its arrays differ in {name!r}.")
    for name, (dtype, shape, _) in entries.items():
        if found[name] != [dtype, shape]:
            raise FileError(
                f"{path} is damaged: {name!r} is {found[name]}, and {[dtype, shape]} by the header."
            )
    return Opened(path, header, entries)


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 3


def _parsed(path: str, text: str) -> dict[str, Any]:
    """The header of a text that says its own checksum."""
    checksum, _, text = text.partition(" ")
    if len(text) > _LARGEST_HEADER:
        raise FileError(f"{path} has a header of {len(text):,} characters, more than is read.")
    if _digest_of(text) != checksum:
        raise FileError(f"{path} is damaged: its header was altered.")

    def refused(constant: str) -> None:
        raise FileError(f"{path} is damaged: its header holds {constant}.")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            raise FileError(f"{path} is damaged: its header has a key twice.")
        return made

    try:
        header = json.loads(text, object_pairs_hook=unique, parse_constant=refused)
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is damaged: its header cannot be read ({error}).") from error
    if not isinstance(header, dict) or type(header.get("format")) is not int:
        raise FileError(f"{path} is damaged: its header does not say its format.")
    if header["format"] < 1:
        raise FileError(f"{path} is damaged: there is no format {header['format']}.")
    if header["format"] > FORMAT:
        raise FileError(
            f"{path} has format {header['format']}, but this version reads up to {FORMAT}. Read it "
            "with a newer version of sklearn_metakan."
        )
    return header


def _little(array: Any) -> NDArray[Any]:
    """Numbers in the order of bytes that files have."""
    array = np.asarray(array)
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _digest(array: NDArray[Any]) -> str:
    return sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def _digest_of(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file through one beside it, which takes its place once all of it is on the disk."""
    target = file_to_write(path)
    beside = target.with_name(f".{target.name[:100]}.{uuid4().hex}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    _sync_folder(target.parent)


def file_to_write(path: str | os.PathLike[str]) -> Path:
    """Where a file of this path is to be; an OSError where there can be none."""
    target = Path(os.path.realpath(os.fsdecode(path)))
    if not target.parent.exists():
        raise FileNotFoundError(f"{path!s} cannot be written: there is no folder {target.parent}.")
    if target.is_dir():
        raise IsADirectoryError(f"{path!s} cannot be written: it is a folder. Name a file in it.")
    if target.exists() and not target.is_file():
        raise OSError(f"{path!s} cannot be written: it is no file, but a device or a pipe.")
    return target


def _sync_folder(folder: Path) -> None:
    """The name too is on the disk; some systems have no such call."""
    opener: Callable[..., int] = os.open
    with suppress(OSError):
        descriptor = opener(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
