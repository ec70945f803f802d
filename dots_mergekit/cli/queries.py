"""dots-queries: make a pool of unlabeled queries from a file, a task or a dataset."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dots_mergekit.cli import command, make_parser, say

__all__ = ["main"]

_DESCRIPTION = """\
Make a pool of unlabeled queries: load, drop exact duplicates, draw, write JSON lines.

SOURCE is a file (.jsonl, .parquet, .csv, .tsv, .json, or .txt with a prompt on each
line; also with .gz behind), the name of an lm-eval task (its own prompts,
never its answers), or a Hugging Face dataset. Choosing by difficulty needs the models,
so dots-tune does that; a pool made here is a source for it like any other file.
"""

_EPILOG = """\
examples:
  dots-queries questions.csv --prompt-column question --out queries.jsonl
  dots-queries gsm8k --size 200 --out queries.jsonl
  dots-queries HuggingFaceH4/MATH-500 --split test --prompt-column problem --out queries.jsonl

exit codes: 0 done, 2 the source or the output is at fault, 1 a fault of ours
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run `dots-queries` and give its exit code."""
    parser = make_parser("dots-queries", _DESCRIPTION, _EPILOG)
    parser.add_argument("source", metavar="SOURCE", help="a file, an lm-eval task or a dataset")
    parser.add_argument("--out", metavar="FILE", required=True, help="the JSON lines to write")
    parser.add_argument(
        "--prompt-column", metavar="NAME", default="prompt", help="default: %(default)s"
    )
    parser.add_argument("--config", metavar="NAME", help="configuration of a dataset")
    parser.add_argument("--split", metavar="NAME", help="split of a dataset")
    parser.add_argument(
        "--selection",
        choices=("random", "all"),
        default="random",
        help="draw --size queries, or keep all; default: %(default)s",
    )
    parser.add_argument("--size", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the draw; default: %(default)s")
    options = parser.parse_args(argv)

    # Late: --help and mistyped options need none of it.
    from dots_mergekit.api import select_queries

    pool = select_queries(
        options.source,
        options.out,
        prompt_column=options.prompt_column,
        config=options.config,
        split=options.split,
        size=options.size,
        selection=options.selection,
        seed=options.seed,
    )
    say(f"{options.out}: {len(pool)} queries from {options.source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
