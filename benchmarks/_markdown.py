"""Reports as Markdown: tables, and files that are printed too."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


def table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Lines of a table."""
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for line in lines:
        yield "| " + " | ".join(map(str, line)) + " |"


def publish(lines: Iterable[str], path: Path) -> None:
    """Write them to a file, and print them."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))
