"""dots-reproduce: make a merge again, and say whether it is the same."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dots_mergekit.cli import add_loudness, add_threads, command, make_parser, say, screen

__all__ = ["main"]

_DESCRIPTION = """\
Make a merge again from its recipe and the pinned revisions of its sources, and compare every
tensor: identical, or the first that differ and by how much, and which versions do.
"""

_EPILOG = """\
examples:
  dots-reproduce user/name                      a model on the Hub
  dots-reproduce out                            the merge in a folder
  dots-reproduce user/name --model sft=./sft    one of its sources was a folder

exit codes: 0 identical, 2 different, or a mistake in what was given, 1 a fault of ours,
130 interrupted, 143 terminated
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run `dots-reproduce` and give its exit code."""
    options = _parser().parse_args(argv)

    # Late: this brings torch and mergekit, which --help and mistyped options do not need.
    from dots_mergekit.api import reproduce

    with screen(options, "the merge is as it was") as progress:
        found = reproduce(
            options.merge,
            out=options.out,
            models=dict(options.model),
            study=options.study,
            threads=options.threads,
            progress=progress,
        )
    if not (options.quiet and found.identical):
        say(str(found))
    return 0 if found.identical else 2


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("dots-reproduce", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("merge", metavar="MERGE", help="a folder, or user/name[@revision] on the Hub")
    add("--out", metavar="DIR", help="keep the new merge here")
    add("--model", metavar="NAME=DIR", action="append", default=[], type=_place, help="where a"
        " model is that the recipe calls ./local/NAME; may be repeated")  # fmt: skip
    add("--study", metavar="DIR", help="of the search: make its choice again, too")
    add_threads(parser)
    add_loudness(parser, "every step")
    return parser


def _place(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"expected NAME=DIR; found {text!r}")
    return name, folder


if __name__ == "__main__":
    sys.exit(main())
