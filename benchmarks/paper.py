"""One command for each table of the paper.

    python benchmarks/paper.py feynman [--part published] [--functions I.12.5 ...] [--jobs 2]
    python benchmarks/paper.py fc-images [--part budget best] [--device cuda]
    python benchmarks/paper.py conv-images [--part main ablation] [--device cuda]

Every command appends its rows to a CSV in --out as they come, goes on from there when it is
called again, and ends with a Markdown table beside the published numbers (docs/reproduction.md).
"""

import argparse
from collections.abc import Sequence

import _paper_conv
import _paper_feynman
import _paper_images


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="TABLE")
    for table in (_paper_feynman, _paper_images, _paper_conv):
        table.add_command(commands)
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
