"""dots-eval: say whether a merge is better, in one table, against its parents and baselines."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from dots_mergekit.cli import (
    add_backend,
    add_loudness,
    add_threads,
    add_workers,
    command,
    make_parser,
    names,
    say,
    screen,
)
from dots_mergekit.evaluation.baselines import BASELINES, USUAL
from dots_mergekit.evaluation.benchmarks.sources import sources

__all__ = ["main"]

_DESCRIPTION = """\
Is the merge better? Score it with lm-eval beside its base and its source models, and with
--baselines beside the same models merged in other ways. One table says what each scored, how sure
that is, and which differences to the recipe are only noise.

Results are kept for each model and task, known by the contents of the checkpoints, the recipe
and the task. What is there is not scored again, so an interrupted evaluation goes on.
"""

_EPILOG = """\
tasks:
  A name is looked for in --include-path, then among those that come with dots-mergekit, then among
  lm-eval's own. In the first two, `arithmetic` also finds `dots_arithmetic`. A group is the
  mean of its parts, each counting the same unless the group says otherwise. Task files may bring
  code, and it is run: include only folders that you trust.
  dots_math and dots_ood are the paper's nine benchmarks, from the Hub. Not certain:
{doubts}

baselines (* without names; a method stands for all of its own):
{baselines}
  They are written to OUT/baselines as recipes, which mergekit-yaml runs and dots-tune tunes.
  Methods that select keep the recipe's density, and all else is mergekit's default. What does not
  take these models is left out, and the table says why. --tune-baselines adds METHOD-tuned for
  each method with λ but `dots`, searched as the recipe was: with the settings of the study that
  it is the best.yml of, or of its `tune:` section. These searches run by backend hf, whatever
  --backend scores what they find.

examples:
  dots-eval --recipe study/best.yml --tasks arithmetic --baselines
      the whole table, for the example in examples/arithmetic
  dots-eval --recipe study/best.yml --tasks arithmetic --limit 20
      a quick look: 20 questions of each task; kept apart from full results
  dots-eval --recipe study/best.yml --recipe no-rescale.yml --recipe random.yml --tasks math,ood
      ablations: each with its models, compared with the first
  dots-eval --model merged --model org/other-7b --tasks gsm8k
      any models, compared with the first
  dots-eval --recipe study/best.yml --tasks math --baselines --mask-seeds 0,1,2
      DARE and DELLA draw their masks at random: three times each
  dots-eval --recipe study/best.yml --tasks arithmetic --baselines ram,ties --tune-baselines
      RAM, and TIES at λ = 1, at the recipe's λ, and tuned as the recipe was

  dots-eval --recipe study/best.yml --tasks dots_math --backend vllm \\
      --backend-args max_model_len=16384
      long answers: one vLLM engine scores all rows, its weights change in place
  dots-eval --recipe study/best.yml --tasks dots_math --baselines --workers 8
      a model on each of eight GPUs, scored side by side

Prompts are written with the tokenizer's chat template where it has one. Merges other than of
`dots` need room for one model in the temporary folder; TMPDIR says where that is.

exit codes: 0 done, 2 a mistake in what was given, 1 a fault of ours, 130 interrupted,
143 terminated
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run `dots-eval` and give its exit code."""
    options = _parser().parse_args(argv)

    # Late: this brings torch and mergekit, which --help and mistyped options do not need.
    from dots_mergekit.api import evaluate

    with screen(options, f"finished results are kept in {options.out}") as progress:
        table = evaluate(
            options.recipe,
            tasks=options.tasks,
            model=options.model,
            baselines=options.baselines,
            tune_baselines=options.tune_baselines,
            mask_seeds=options.mask_seeds,
            seed=options.seed,
            limit=options.limit,
            out=options.out,
            include_path=options.include_path,
            backend=options.backend,
            backend_args=options.backend_args,
            batch_size=options.batch_size,
            device=options.device,
            force=options.force,
            training_hours=options.training_hours,
            threads=options.threads,
            workers=options.workers,
            ray_address=options.ray_address,
            gpus_per_worker=options.gpus_per_worker,
            verbose=options.verbose,
            progress=progress,
        )
    if not options.quiet:
        say(table.markdown())
        place = Path(options.out, "table.md")
        say(f"the table is {place}, for programs table.csv beside it")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "dots-eval", _DESCRIPTION, _EPILOG.format(baselines=_listed(), doubts=_doubts())
    )
    add = parser.add_argument
    add("--recipe", metavar="R", action="append", default=[], help="a mergekit YAML; repeat it to"
        " compare others with the first")  # fmt: skip
    add("--model", metavar="M", action="append", default=[], help="in place of recipes: a folder"
        " or a Hub id (id@revision); repeat it likewise")  # fmt: skip
    add("--tasks", metavar="A,B", type=names, default=[], help="lm-eval tasks, groups or tags")
    add("--baselines", metavar="B,C", type=names, nargs="?", const=USUAL, default=(), help="score"
        " the same models merged in other ways, too: `all`, or names and methods as listed below;"
        " without a name those that are marked there")  # fmt: skip
    add("--tune-baselines", action="store_true", help="and search the λ of each as those of the"
        " recipe were searched, in OUT/baselines/METHOD")  # fmt: skip
    add("--mask-seeds", metavar="N,M", type=_numbers, default=[0], help="a row of DARE and DELLA"
        " for each (default: 0)")  # fmt: skip
    add("--seed", metavar="N", type=int, default=1234, help="of sampled responses (default: 1234,"
        " lm-eval's)")  # fmt: skip
    add("--limit", metavar="N", type=int, help="only the first N questions of each task")
    add("--out", metavar="DIR", default="results", help="the results folder (default: results)")
    add("--force", action="store_true", help="score again what was scored already")
    add("--training-hours", metavar="H", type=float, help="what training the sources took, on one"
        " machine or GPU; the table then says what share of it the search took")  # fmt: skip
    add("--include-path", metavar="DIR", action="append", default=[], help="a folder of lm-eval"
        " task files; may be repeated")  # fmt: skip

    machine = parser.add_argument_group("this machine")
    add = machine.add_argument
    add_backend(machine)
    add("--device", metavar="D", help="with hf: cpu, cuda, cuda:1, ... (default: a GPU if there is"
        " one)")  # fmt: skip
    add("--batch-size", metavar="N", type=int, default=64, help="with hf: responses generated side"
        " by side (default: 64); another one changes a few answers")  # fmt: skip
    add_threads(machine)
    add_workers(parser, "results")
    add_loudness(parser, "every result")
    return parser


def _listed() -> str:
    width = max(map(len, BASELINES))
    return "\n".join(
        f"{'*' if known.usual else ' '} {name:{width}}  {known.about}"
        for name, known in BASELINES.items()
    )


def _doubts() -> str:
    lines = []
    for task, source in sources().items():
        if source.doubt:
            lines += textwrap.wrap(
                f"{task}: {source.doubt}",
                96,
                break_on_hyphens=False,
                initial_indent="    ",
                subsequent_indent="      ",
            )
    return "\n".join(lines)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
