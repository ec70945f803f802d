"""dots-check: say what is wrong with a merge before it starts."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from dots_mergekit.cli import command, make_parser

__all__ = ["main"]

_DESCRIPTION = """\
Check a merge before it starts: the recipe's keys and values, its checkpoints, this machine.

Weight files are judged by their headers, so this takes seconds at any size. Nothing is
downloaded and no code from a checkpoint is run. One line is printed for each finding,
the gravest first:

  error    the merge would fail, or its result would be meaningless
  warning  the merge would run, but not do what one may expect
  note     good to know
"""

_EPILOG = """\
examples:
  dots-check recipes/quickstart.yml              is this recipe ready to merge?
  dots-check recipes/quickstart.yml --out out    ... and does the result fit on that disk?
  dots-check recipes/quickstart.yml --deep       ... and is every weight a finite number?

Model paths in a recipe count from the current directory, as for mergekit-yaml.

exit codes: 0 no error found, 2 at least one error
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run `dots-check` and give its exit code."""
    parser = make_parser("dots-check", _DESCRIPTION, _EPILOG)
    parser.add_argument("recipe", metavar="RECIPE", help="a mergekit YAML, of any merge method")
    parser.add_argument(
        "--out", metavar="DIR", help="where the merge is to be written: checks access and space"
    )
    parser.add_argument(
        "--deep", action="store_true", help="read every weight and look for NaN and infinity"
    )
    options = parser.parse_args(argv)

    # What is imported stays: to look for garbage in it, as often as Python does, takes a quarter of
    # the time of this command.
    gc.set_threshold(100_000, 50, 50)
    # Late: these bring torch and mergekit, which --help and mistyped options do not need.
    from dots_mergekit.api import check

    findings = check(options.recipe, out=options.out, deep=options.deep)
    print(findings)
    return 2 if findings.errors else 0


if __name__ == "__main__":
    sys.exit(main())
