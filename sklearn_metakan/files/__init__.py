"""Files: a tree of plain values as checked bytes, from which nothing is executed."""

from sklearn_metakan.files.container import (
    FileError,
    Opened,
    file_to_write,
    read,
    write,
    write_bytes,
)
from sklearn_metakan.files.tree import Codec, UnstorableError, check_attributes

__all__ = [
    "Codec",
    "FileError",
    "Opened",
    "UnstorableError",
    "check_attributes",
    "file_to_write",
    "read",
    "write",
    "write_bytes",
]
