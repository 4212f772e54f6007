"""One command for each table of the paper.

    python -m benchmarks.paper feynman [--part published] [--functions I.12.5 ...] [--jobs 2]
    python -m benchmarks.paper fc-images [--part budget best] [--device cuda]
    python -m benchmarks.paper conv-images [--part main] [--device cuda]

Every command appends its rows to a CSV in --out as they come, goes on from there when it is
called again, and ends with a Markdown table beside the published numbers.
"""

import argparse
from collections.abc import Sequence

from benchmarks.paper import conv_images, fc_images, feynman


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="TABLE")
    for module in (feynman, fc_images, conv_images):
        module.add_command(commands)
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
