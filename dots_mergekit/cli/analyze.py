"""dots-analyze: see what models have made of their base, and where they clash, before a merge."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dots_mergekit.cli import add_loudness, command, make_parser, say, screen

__all__ = ["main"]

_DESCRIPTION = """\
Do these models share this base, how much has each changed it and where, and do the changes clash?
Weights alone are read, tensor by tensor; nothing is generated and no GPU is needed.

Written into --out: analysis.md with what follows, tables and pictures, analysis.json with every
figure. Conflict and overlap stand beside what random changes of the same size would give.
"""

_EPILOG = """\
examples:
  dots-analyze --recipe recipes/quickstart.yml
      the models of a recipe, of any merge method; its weights and densities do not count
  dots-analyze --base org/base-7b --model org/sft-7b --model ./my-rl-7b --out clash
      any models that were trained from one base; of several, every two are compared

Paths count from the current directory.

exit codes: 0 done, 2 a mistake in what was given, such as models that do not belong together,
1 a fault of ours, 130 interrupted, 143 terminated
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run `dots-analyze` and give its exit code."""
    options = _parser().parse_args(argv)

    # Late: this brings torch and mergekit, which --help and mistyped options do not need.
    from dots_mergekit.api import analyze

    with screen(options) as progress:
        analysis = analyze(
            options.recipe,
            base=options.base,
            model=options.model,
            out=options.out,
            html=options.html,
            device=options.device,
            threads=options.threads,
            verbose=options.verbose,
            progress=progress,
        )
    if not options.quiet:
        say(analysis.summary())
        place = Path(options.out, "analysis.md")
        say(f"the whole report is {place}, for programs analysis.json beside it")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("dots-analyze", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--recipe", metavar="R", help="a mergekit YAML that names the base and the other models")
    add("--base", metavar="B", help="in place of a recipe: the base, a folder or a Hub id")
    add("--model", metavar="M", action="append", default=[], help="with --base: a model that was"
        " trained from it; repeat it")  # fmt: skip
    add("--out", metavar="DIR", default="analysis", help="where to write (default: analysis)")

    add("--html", action="store_true", help="write analysis.html, too: one page for a browser,"
        " with figures under the mouse; it loads nothing")  # fmt: skip

    machine = parser.add_argument_group("this machine")
    add = machine.add_argument
    add("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: cpu)")
    add("--threads", metavar="N", type=int, help="threads that compute on CPUs (default: one for"
        " each core); figures do not depend on it")  # fmt: skip
    add_loudness(parser, "every tensor")
    return parser


if __name__ == "__main__":
    sys.exit(main())
