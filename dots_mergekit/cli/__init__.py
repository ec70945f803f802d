"""The commands, one file each: they parse, call one function of the API, and print."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

from dots_mergekit import __version__
from dots_mergekit.errors import DotsError
from dots_mergekit.progress import Bars, Progress, Silent

__all__ = ["add_loudness", "command", "key_values", "make_parser", "names", "screen"]

_P = ParamSpec("_P")

# What shells report for a program that Ctrl-C ended: 128 + SIGINT.
_INTERRUPTED = 130


def command(main: Callable[_P, int]) -> Callable[_P, int]:
    """Make a command end as ours do: a `DotsError` is a line on stderr and its exit code.

    Anything else that escapes is a fault of ours and keeps its traceback.
    """

    @functools.wraps(main)
    def ended(*args: _P.args, **kwargs: _P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except DotsError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return _INTERRUPTED

    return ended


def make_parser(program: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Make a parser that prints what it is given as it stands."""
    parser = argparse.ArgumentParser(
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


@contextlib.contextmanager
def screen(options: argparse.Namespace, kept: str) -> Iterator[Progress]:
    """Show the progress of a command, as loud as was asked for.

    Args:
        options: Of the command.
        kept: What is not lost with Ctrl-C; it is said then.
    """
    import logging

    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING)
    progress = Silent() if options.quiet else Bars(verbose=options.verbose)
    try:
        yield progress
    except KeyboardInterrupt:
        progress.close()
        print(f"\n{kept}; the same command goes on from there", file=sys.stderr)
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
