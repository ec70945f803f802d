"""dots-tune: find the λ of a merge without labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dots_mergekit.cli import (
    add_backend,
    add_loudness,
    add_threads,
    add_workers,
    command,
    make_parser,
    say,
    screen,
)
from dots_mergekit.cli.settings import SCHEMA, add_settings, given_settings

if TYPE_CHECKING:
    from dots_mergekit.tuning.outcome import Outcome

__all__ = ["main"]

# The options of `tune` that say who scores.
_CREW = ("workers", "ray_address", "gpus_per_worker", "synchronous")

_DESCRIPTION = """\
Find how much of each model to merge, from questions alone, without their answers.

The models of a recipe first answer the questions by themselves. Then merges with different λ read
what these said: a merge that finds their majority answers probable, of each question the likelier
one, is a good one. The best few answer for themselves, too, before one is chosen. With other
objectives all merges do, several times each (--objectives consistency,agreement).

What the search needs stands in the recipe, where mergekit ignores it; options go before it:

  tune:
    queries: questions.jsonl       # or a Hugging Face dataset, or an lm-eval task
    weight: [0.5, 2.0]             # where each λ is searched
    trials: 40
"""

_EPILOG = """\
examples:
  dots-tune --recipe recipes/quickstart.yml --dry-run
      what would be done, and how many tokens that takes at most; with --probe, how long
  dots-tune --recipe recipes/quickstart.yml --out study --merge merged
      search, choose, and merge with what was chosen
  dots-tune --recipe recipes/quickstart.yml --out study --trials 80
      go on with that search: it keeps all it has, also when it was interrupted or killed
  dots-tune --recipe recipes/dots.yml --backend vllm \\
      --backend-args max_model_len=16384,gpu_memory_utilization=0.5
      generate with vLLM; the other half of the GPU holds the models to merge
  dots-tune --recipe recipes/dots.yml --backend vllm --workers 8 --out study
      the same on eight GPUs, a model on each; with --ray-address auto on all nodes of a Ray cluster
  dots-tune --recipe recipes/quickstart.yml --out paper \\
      --objectives consistency,perplexity --pick knee
      the objectives of the DoTS paper
  dots-tune --choose knee --out study
      another choice among what was scored there, without a model
  dots-tune --schema > recipe.schema.json
      so that an editor completes and checks `tune:`

The study folder holds best.yml, report.md with pictures, trials.csv, front/ and trials/: all of
these recipes can be given to mergekit-yaml as they are, in the folder where you are now. To watch:
pip install optuna-dashboard && optuna-dashboard sqlite:///study/study.db

exit codes: 0 done, 2 a mistake in what was given, 1 a fault of ours, 130 interrupted,
143 terminated
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run `dots-tune` and give its exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    settings = given_settings(options)
    if options.choose is not None:
        _refuse_beside_choose(parser, options, settings)
        return _choose(options)
    if options.probe and not options.dry_run:
        parser.error("--probe goes with --dry-run")
    if options.recipe is None:
        parser.error("--recipe is needed: a mergekit YAML with a `tune:` section")

    # Late: this brings torch, mergekit and optuna, which --help and mistyped options do not need.
    from dots_mergekit.api import preview, tune

    crew: dict[str, Any] = {key: getattr(options, key) for key in _CREW}
    if options.dry_run:
        given = {"out": options.out, "probe": options.probe, **_machine(options), **crew}
        say(preview(options.recipe, **given, **settings))
        return 0
    with screen(options, f"all finished trials are kept in {options.out}") as progress:
        outcome = tune(
            options.recipe,
            out=options.out,
            merge=options.merge,
            overwrite=options.overwrite,
            on_disk=options.on_disk,
            storage=options.storage,
            **_machine(options),
            verbose=options.verbose,
            progress=progress,
            **crew,
            **settings,
        )
    _print_outcome(outcome, options)
    return 0


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    """Give what runs the models."""
    keys = ("backend", "backend_args", "weights_on", "device", "threads")
    return {key: getattr(options, key) for key in keys}


def _choose(options: argparse.Namespace) -> int:
    from dots_mergekit.api import choose

    with screen(options, f"{options.out} is as it was") as progress:
        outcome = choose(
            options.out,
            pick=options.choose,
            merge=options.merge,
            overwrite=options.overwrite,
            storage=options.storage,
            progress=progress,
        )
    _print_outcome(outcome, options)
    return 0


def _refuse_beside_choose(
    parser: argparse.ArgumentParser, options: argparse.Namespace, settings: Mapping[str, object]
) -> None:
    given = [*settings, *(key for key in ("recipe", "dry_run", "probe") if getattr(options, key))]
    if given:
        beside = [f"--{key.replace('_', '-')}" for key in given]
        parser.error(
            f"--choose takes recipe and settings from the study, and not {', '.join(beside)}"
        )


class _PrintSchema(argparse.Action):
    """Prints the JSON schema, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        say(SCHEMA.read_text(encoding="utf-8"), end="")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("dots-tune", _DESCRIPTION, _EPILOG)
    add = parser.add_argument
    add("--recipe", metavar="R", help="a mergekit YAML with a `tune:` section")
    add("--out", metavar="DIR", default="study", help="the study folder (default: study)")
    add("--merge", metavar="DIR", help="merge with the chosen λ into this folder at the end")
    add("--overwrite", action="store_true", help="replace an older model in that folder")
    add("--choose", metavar="RULE", help="choose again in the study folder by another pick rule, "
        "from what its points answered: nothing is generated")  # fmt: skip
    add("--dry-run", action="store_true", help="say what would be done, and stop")
    add("--probe", action="store_true", help="with --dry-run: load the models, let them answer a "
        "few queries, and say how many tokens and how long the search would take")  # fmt: skip
    add("--schema", nargs=0, action=_PrintSchema, help="print the JSON schema of recipes with a"
        " `tune:` section, and stop")  # fmt: skip
    add_settings(parser)

    machine = parser.add_argument_group("this machine")
    add = machine.add_argument
    add_backend(machine)
    add("--weights-on", choices=["auto", "gpu", "cpu"], help="with vllm: keep the models to merge "
        "on the GPU, or on disk and in the system's cache (default: gpu if they fit beside the "
        "engine)")  # fmt: skip
    add("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add("--on-disk", action="store_true", help="merge every trial to disk and load it, instead of"
        " changing the weights in memory: slow")  # fmt: skip
    add("--storage", metavar="URL", help="an Optuna storage in place of study.db in the folder")
    add_threads(machine)

    add = add_workers(parser, "study").add_argument
    add("--synchronous", action="store_true", help="begin --workers trials together, and the next "
        "ones when all have ended: the same seed gives the same study, whichever worker is "
        "quicker")  # fmt: skip
    add_loudness(parser, "every trial")
    return parser


def _print_outcome(outcome: Outcome, options: argparse.Namespace) -> None:
    if options.quiet:
        return
    choice = outcome.choice
    say(f"chosen: trial {choice.number}, {choice.point}: {choice.scores}")
    if choice.number in outcome.confirmed:
        say(f"scored again: {outcome.confirmed[choice.number]}")
    say(f"the report is {outcome.folder / 'report.md'}, the recipe {outcome.best.origin}")
    if options.merge is not None:
        say(f"merged into {options.merge}")


if __name__ == "__main__":
    sys.exit(main())
