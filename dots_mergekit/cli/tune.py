"""dots-tune: find the λ of a merge without labels."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.cli import command
from dots_mergekit.cli.screen import Screen
from dots_mergekit.errors import DotsError

if TYPE_CHECKING:
    from dots_mergekit.merging.selections import SelectionFile
    from dots_mergekit.recipe import Recipe
    from dots_mergekit.tuning.search import Outcome

__all__ = ["main", "pairs"]

_DESCRIPTION = """\
Find how much of each model to merge, from questions alone, without their answers.

The models of a recipe first answer the questions by themselves: that selects the queries. Then
merges with different λ answer them, several times each. A merge whose answers agree with each
other, and with those of the surer source model, is a good one. The best few are asked again,
more often, and one is chosen.

What the search needs stands in the recipe, where mergekit ignores it; options go before it:

  tune:
    queries: questions.jsonl       # or a Hugging Face dataset, or an lm-eval task
    weight: [0.5, 2.0]             # where each λ is searched
    trials: 40
"""

_EPILOG = """\
examples:
  dots-tune --recipe recipes/quickstart.yml --dry-run
      what would be done, and how many tokens that takes at most
  dots-tune --recipe recipes/quickstart.yml --out study --merge merged
      search, choose, and merge with what was chosen
  dots-tune --recipe recipes/quickstart.yml --out study --trials 80
      go on with that search: it keeps all it has, also when it was interrupted or killed
  dots-tune --recipe recipes/dots.yml --backend vllm \\
      --backend-args max_model_len=16384,gpu_memory_utilization=0.5
      generate with vLLM; the other half of the GPU holds the models to merge
  dots-tune --recipe recipes/quickstart.yml --out paper \\
      --objectives consistency,perplexity --pick knee
      the objectives of the DoTS paper

The study folder holds best.yml, report.md with pictures, trials.csv, front/ and trials/: all of
these recipes can be given to mergekit-yaml as they are. To watch: optuna-dashboard
sqlite:///study/study.db

exit codes: 0 done, 2 a mistake in what was given, 130 interrupted
"""


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run `dots-tune` and give its exit code."""
    options = _parser().parse_args(argv)

    # Late: these bring torch, mergekit and optuna, which --help and mistyped options do not need.
    from dots_mergekit.checking import require_mergeable
    from dots_mergekit.recipe import Recipe
    from dots_mergekit.tuning.report import describe, write_report
    from dots_mergekit.tuning.search import tune
    from dots_mergekit.tuning.settings import Settings

    _set_logging(verbose=options.verbose)
    _require_fitting(options)
    recipe = Recipe.load(options.recipe)
    settings = Settings.parse(recipe, _overrides(options))
    if options.dry_run:
        print(describe(recipe, settings))
        print(f"backend: {options.backend}, {'on disk' if options.on_disk else 'live'}")
        return 0
    if options.merge is not None:
        # Before the search, not after it: the merge must be possible to write.
        require_mergeable(recipe, out=options.merge)
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(Screen(quiet=options.quiet, verbose=options.verbose))

        def open_scorer() -> Any:
            from dots_mergekit.merging.selections import SelectionFile
            from dots_mergekit.objectives.harness import LmEvalScorer
            from dots_mergekit.recipe.fingerprint import selected_from
            from dots_mergekit.tuning.study import SELECTIONS

            path = Path(options.out, SELECTIONS)
            kept = SelectionFile(path, lambda: selected_from(recipe))
            model = _open_model(recipe, options, settings.generation.batch_size, kept, stack)
            scorer = LmEvalScorer(model, settings.generation, settings.objectives)
            return stack.enter_context(scorer)

        try:
            outcome = tune(
                recipe,
                settings,
                open_scorer,
                options.out,
                storage=options.storage,
                backend=options.backend,
                progress=screen,
            )
        except KeyboardInterrupt:
            screen.close()
            print(
                f"\nall finished trials are kept in {options.out}; "
                "the same command goes on from there",
                file=sys.stderr,
            )
            raise
    write_report(outcome, gpus=_gpus(options))
    if not options.quiet:
        _print_outcome(outcome)
    if options.merge is not None:
        _merge(outcome, options.merge, quiet=options.quiet)
        if not options.quiet:
            print(f"merged into {options.merge}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dots-tune",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--recipe", metavar="R", required=True, help="a mergekit YAML with a `tune:` section")
    add("--out", metavar="DIR", default="study", help="the study folder (default: study)")
    add("--merge", metavar="DIR", help="merge with the chosen λ into this folder at the end")
    add("--dry-run", action="store_true", help="say what would be done, and stop")

    search = parser.add_argument_group("the search; in the recipe, keys of `tune:`")
    add = search.add_argument
    add("--queries", metavar="SRC", help="a file, a Hugging Face dataset or an lm-eval task")
    add("--weight", metavar=("LO", "HI"), nargs=2, type=float, help="where each λ is searched")
    add("--density", metavar=("LO", "HI"), nargs=2, type=float, help="search the density, too")
    add("--objectives", metavar="A,B", type=_names, help="two or three of: consistency, agreement,"
        " perplexity, response_perplexity")  # fmt: skip
    add("--votes", metavar="N", type=int, help="responses to each query")
    add("--trials", metavar="N", type=int, help="points to score, those of earlier runs included")
    add("--sampler", metavar="S", help="gp, tpe, nsga2, random or grid")
    add("--pick", metavar="RULE", help="consistency+agreement, consistency, agreement, knee, "
        "utopia or perplexity-within")  # fmt: skip
    add("--patience", metavar="N", type=int, help="stop when N trials brought next to nothing")
    add("--seed", metavar="N", type=int, help="everything random follows from it")

    machine = parser.add_argument_group("this machine")
    add = machine.add_argument
    add("--backend", choices=["hf", "vllm"], default="hf", help="what runs the models: hf "
        "(transformers, the default), or vllm, much faster on GPUs")  # fmt: skip
    add("--backend-args", metavar="K=V,...", type=pairs, help="options of lm-eval's vllm model "
        "and of vLLM: tensor_parallel_size=2,max_model_len=16384,...")  # fmt: skip
    add("--weights-on", choices=["auto", "gpu", "cpu"], help="with vllm: keep the models to merge "
        "on the GPU, or on disk and in the system's cache (default: gpu if they fit beside the "
        "engine)")  # fmt: skip
    add("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add("--batch-size", metavar="N", type=int, help="responses generated side by side")
    add("--on-disk", action="store_true", help="merge every trial to disk and load it, instead of"
        " changing the weights in memory: slow")  # fmt: skip
    add("--storage", metavar="URL", help="an Optuna storage in place of study.db in the folder")

    loudness = parser.add_mutually_exclusive_group()
    add = loudness.add_argument
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("-v", "--verbose", action="store_true", help="print every trial, and what libraries log")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def pairs(text: str) -> dict[str, Any]:
    """Read the options of an engine, `k=v,k=v`, with values as in YAML."""
    import yaml

    pairs = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not (key.strip() and equals):
            raise argparse.ArgumentTypeError(f"expected key=value,key=value; found {part!r}")
        try:
            pairs[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise argparse.ArgumentTypeError(
                f"the value of {key} cannot be read: {value}"
            ) from None
    return pairs


def _require_fitting(options: argparse.Namespace) -> None:
    """Refuse options of one backend that are given to the other."""
    hf = {"--on-disk": options.on_disk, "--device": options.device is not None}
    vllm = {
        "--backend-args": options.backend_args is not None,
        "--weights-on": options.weights_on is not None,
    }
    other, given = ("vllm", vllm) if options.backend == "hf" else ("hf", hf)
    for name, is_given in given.items():
        if is_given:
            raise DotsError(
                f"{name} goes with --backend {other}, and the backend is {options.backend}"
            )


def _open_model(
    recipe: Recipe,
    options: argparse.Namespace,
    batch_size: int,
    kept: SelectionFile,
    stack: contextlib.ExitStack,
) -> Any:
    if options.backend == "vllm":
        from dots_mergekit.backends.vllm.model import LiveVllmModel

        weights_on = options.weights_on or "auto"
        return stack.enter_context(
            LiveVllmModel(recipe, options.backend_args, weights_on=weights_on, kept=kept)
        )
    from dots_mergekit.backends.huggingface import open_model

    return open_model(
        recipe,
        on_disk=options.on_disk,
        device=options.device,
        batch_size=batch_size,
        kept=kept,
    )


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Give the options that stand for keys of `tune:`, where they were given."""
    keys = (
        *("queries", "weight", "density", "objectives", "votes", "trials", "sampler", "pick"),
        *("patience", "seed", "batch_size"),
    )
    given = {key: getattr(options, key) for key in keys}
    return {key: value for key, value in given.items() if value is not None}


def _set_logging(*, verbose: bool) -> None:
    import optuna

    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING)
    optuna.logging.set_verbosity(logging.INFO if verbose else logging.ERROR)
    # Read by vLLM when it is imported, in this process and in those of its engine.
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO" if verbose else "ERROR")
    if not verbose:
        import transformers

        # Its bars would tear ours.
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        for library in ("transformers", "huggingface_hub", "lm_eval", "mergekit"):
            logging.getLogger(library).setLevel(logging.ERROR)


def _gpus(options: argparse.Namespace) -> int:
    import torch

    engine = options.backend_args or {}
    size = engine.get("tensor_parallel_size", 1) * engine.get("pipeline_parallel_size", 1)
    return size if torch.cuda.is_available() and options.device != "cpu" else 0


def _merge(outcome: Outcome, out: str, *, quiet: bool) -> None:
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    from dots_mergekit.recipe import Recipe

    best = Recipe.load(outcome.folder / "best.yml")
    run_merge(best.configuration(), out, MergeOptions(quiet=quiet), config_source=best.text)


def _print_outcome(outcome: Outcome) -> None:
    from dots_mergekit.tuning.outputs import spell_scores

    choice = outcome.choice
    place = ", ".join(f"{name} {value:.3g}" for name, value in choice.point.parameters.items())
    print(f"chosen: trial {choice.number}, {place}: {spell_scores(choice.scores)}")
    if choice.number in outcome.confirmed:
        print(f"scored again: {spell_scores(outcome.confirmed[choice.number])}")
    print(f"the report is {outcome.folder / 'report.md'}, the recipe {outcome.folder / 'best.yml'}")


if __name__ == "__main__":
    sys.exit(main())
