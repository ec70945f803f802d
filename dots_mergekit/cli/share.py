"""dots-share: a merge with its card, its evidence and what it takes to make it again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dots_mergekit.cli import add_loudness, command, make_parser, say, screen

__all__ = ["main"]

_DESCRIPTION = """\
Write the model card of a merge: what it is, how to run it, its recipe with every source pinned to
the revision that was merged, its scores, how its λ were found, its license. Beside it goes
reproduce.json, with the hashes of all that went in and came out.

The card's sections are marked: what you write outside them stays when they are written anew.
"""

_EPILOG = """\
examples:
  dots-share out                                          the card
  dots-share out --study study --results results          ... with the evidence

exit codes: 0 done, 2 a mistake in what was given, 1 a fault of ours, 130 interrupted,
143 terminated
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run `dots-share` and give its exit code."""
    options = _parser().parse_args(argv)

    # Late: this brings torch and mergekit, which --help and mistyped options do not need.
    from dots_mergekit.api import share

    with screen(options, "the merge is as it was") as progress:
        shared = share(
            options.folder,
            study=options.study,
            results=options.results,
            license=options.license,
            with_queries=options.with_queries,
            progress=progress,
        )
    if not options.quiet:
        say(str(shared))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("dots-share", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="the merge, as dots-tune or mergekit-yaml wrote it")
    evidence = parser.add_argument_group("evidence")
    add = evidence.add_argument
    add("--study", metavar="DIR", help="of the search that found its λ: the front, the cost")
    add("--results", metavar="DIR", help="of dots-eval: the table of scores")
    add("--with-queries", action="store_true", help="put the texts of the study's queries beside"
        " the card")  # fmt: skip
    add("--license", metavar="ID", help="in place of the one that all sources have, as apache-2.0")
    add_loudness(parser, "every step")
    return parser


if __name__ == "__main__":
    sys.exit(main())
