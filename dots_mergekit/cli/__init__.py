"""The commands, one file each: they parse, call one function of the API, and print."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from dots_mergekit import __version__
from dots_mergekit.backends import BACKENDS
from dots_mergekit.cli.ending import command
from dots_mergekit.cli.output import complain, say
from dots_mergekit.progress import Progress, Silent, on_stderr

__all__ = [
    "add_backend",
    "add_loudness",
    "add_threads",
    "add_workers",
    "command",
    "key_values",
    "make_parser",
    "names",
    "say",
    "screen",
]


class _Parser(argparse.ArgumentParser):
    """A parser that says it when its help cannot be written."""

    def print_help(self, file: object = None) -> None:
        say(self.format_help(), end="")


def make_parser(program: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Make a parser that prints what it is given as it stands."""
    parser = _Parser(
        prog=program,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dots-mergekit {__version__}")
    return parser


def add_loudness(parser: argparse.ArgumentParser, every: str) -> None:
    """Add `--quiet` and `--verbose`.

    Args:
        parser: Of the command.
        every: What is printed one by one with `--verbose`.
    """
    add = parser.add_mutually_exclusive_group().add_argument
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("-v", "--verbose", action="store_true", help=f"print {every}, and what libraries log")


def add_backend(group: argparse._ActionsContainer) -> None:
    """Add `--backend` and `--backend-args`."""
    add = group.add_argument
    said = "; ".join(f"{name}: {backend.says}" for name, backend in BACKENDS.items())
    add("--backend", choices=list(BACKENDS), default="hf", help=f"what runs the models: {said}"
        " (default: hf)")  # fmt: skip
    add("--backend-args", metavar="K=V,...", type=key_values, help="options of lm-eval's vllm "
        "model and of vLLM: tensor_parallel_size=2,max_model_len=16384,...")  # fmt: skip


def add_threads(group: argparse._ActionsContainer) -> None:
    """Add `--threads`."""
    group.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="threads that compute on CPUs (default: one for each core); another number may "
        "change scores in their last bits",
    )


def add_workers(parser: argparse.ArgumentParser, owned: str) -> argparse._ArgumentGroup:
    """Add `--workers`, `--ray-address` and `--gpus-per-worker`, and give their group.

    Args:
        parser: Of the command.
        owned: What no worker touches.
    """
    group = parser.add_argument_group(
        f"workers, by Ray (pip install dots-mergekit[ray]); this process alone owns the {owned}"
    )
    add = group.add_argument
    add("--workers", metavar="N", type=int, help="score with so many models side by side, each "
        "with its share of the cores or --threads; on a cluster at most so many")  # fmt: skip
    add("--ray-address", metavar="A", help="the Ray cluster whose nodes have the workers, "
        "HOST:PORT or auto: as many as it has room for, also while nodes join and leave (default: "
        "a Ray of this machine)")  # fmt: skip
    add("--gpus-per-worker", metavar="G", type=float, help="a whole number, or a share as 0.5 "
        "(default: what the engine spreads over, if there are GPUs)")  # fmt: skip
    return group


@contextlib.contextmanager
def screen(options: argparse.Namespace, kept: str | None = None) -> Iterator[Progress]:
    """Show the progress of a command, as loud as was asked for.

    Args:
        options: Of the command.
        kept: What is not lost when the command is ended early, if anything; it is said then.
    """
    import logging

    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING)
    progress = Silent() if options.quiet else on_stderr(verbose=options.verbose)
    try:
        yield progress
    except KeyboardInterrupt:
        progress.close()
        if kept is not None:
            complain(f"\n{kept}; the same command goes on from there")
        raise
    finally:
        progress.close()


def names(text: str) -> list[str]:
    """Read a list of names, `a,b`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def key_values(text: str) -> dict[str, Any]:
    """Read options by name, `k=v,k=v`, with values as in YAML."""
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
