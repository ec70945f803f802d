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

With USER/NAME all of it goes to the Hub, unless something private is in it: paths of this machine,
your name, tokens, a study's database, links that lead out. The same command goes on with an upload
that was cut.
"""

_EPILOG = """\
examples:
  dots-share out                                          the card
  dots-share out --study study --results results \\
      --analysis analysis/analysis.json                   ... with the evidence
  dots-share out user/name --dry-run                      what would be uploaded?
  dots-share out user/name                                do it
  dots-share --check user/name                            what does somebody's merge lack?

exit codes: 0 done, 2 a mistake in what was given, 1 a fault of ours, 130 interrupted,
143 terminated
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run `dots-share` and give its exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.check and options.repository is not None:
        parser.error("--check looks at one merge: name its folder, or user/name")

    # Late: this brings torch and mergekit, which --help and mistyped options do not need.
    from dots_mergekit.api import review, share

    if options.check:
        found = review(options.folder)
        say(str(found) or "nothing is missing")
        return 2 if found.errors else 0
    with screen(options, "what arrived on the Hub is not sent again") as progress:
        shared = share(
            options.folder,
            options.repository,
            study=options.study,
            results=options.results,
            analysis=options.analysis,
            license=options.license,
            with_queries=options.with_queries,
            private=options.private,
            create_pr=options.create_pr,
            dry_run=options.dry_run,
            progress=progress,
        )
    if not options.quiet:
        say(str(shared))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("dots-share", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="the merge, as dots-tune or mergekit-yaml wrote it")
    add("repository", metavar="USER/NAME", nargs="?", help="where it is to go on the Hub; without"
        " it only the card is written")  # fmt: skip
    add("--dry-run", action="store_true", help="write and upload nothing: list the files, and what"
        " is private in them")  # fmt: skip
    add("--check", action="store_true", help="only say what this merge lacks; FOLDER may be a model"
        " on the Hub")  # fmt: skip
    add("--private", action="store_true", help="make the repository a private one")
    add("--create-pr", action="store_true", help="propose the files to its owner")
    evidence = parser.add_argument_group("evidence")
    add = evidence.add_argument
    add("--study", metavar="DIR", help="of the search that found its λ: the front, the cost")
    add("--results", metavar="DIR", help="of dots-eval: the table of scores; those in whole"
        " benchmarks of the Hub go to its leaderboards, too")  # fmt: skip
    add("--analysis", metavar="FILE", help="analysis.json of dots-analyze: how the models differ")
    add("--with-queries", action="store_true", help="put the texts of the study's queries beside"
        " the card")  # fmt: skip
    add("--license", metavar="ID", help="in place of the one that all sources have, as apache-2.0")
    add_loudness(parser, "every step")
    return parser


if __name__ == "__main__":
    sys.exit(main())
