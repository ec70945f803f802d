"""`python -m dots_mergekit merge`: mergekit's own command, for where nothing runs at start-up."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dots_mergekit import autoload

__all__ = ["main"]

PROGRAM = "python -m dots_mergekit"

HELP = f"""\
usage: {PROGRAM} merge RECIPE OUT [mergekit's own options]

Does what `mergekit-yaml RECIPE OUT` does, in a process that surely knows `merge_method: dots`.
Where dots-mergekit is installed, `mergekit-yaml` itself knows the method, and you need this only
if Python's start-up files are not read (`python -S`) or {autoload.SWITCH}=0 is set.

A recipe is a mergekit YAML:

  merge_method: dots
  base_model: path/or/hub-id of the model that both were trained from
  models:
    - model: the supervised fine-tune
      parameters: {{weight: 1.0}}    # lambda: how much of this model
    - model: the reinforcement-learned one
      parameters: {{weight: 1.0}}
  parameters:
    density: 0.3                   # the share of each task vector that is kept
  dtype: bfloat16

{PROGRAM} merge --help   lists mergekit's options
dots-check RECIPE                    looks for mistakes before you merge
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default: the process's own) and return the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments and arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if arguments and arguments[0] == "merge":
        return _merge(arguments[1:])
    problem = f"there is no command {arguments[0]!r}" if arguments else "a command is missing"
    print(
        f"{PROGRAM}: {problem}; expected `merge RECIPE OUT`. "
        f"`{PROGRAM} --help` says more, and `dots-check RECIPE` checks a recipe.",
        file=sys.stderr,
    )
    return 2


def _merge(arguments: list[str]) -> int:
    # The hook would log what we are about to say ourselves.
    autoload.remove()
    # Outside the `try`, so that an error in mergekit's own import stays mergekit's.
    from mergekit.scripts.run_yaml import main as mergekit_yaml

    try:
        from dots_mergekit.merging.method import register

        register()
    except Exception as error:
        print(f"{PROGRAM} merge: {autoload.explain(error)}", file=sys.stderr)
        return 2
    # click ends the process itself, with mergekit's own exit code.
    mergekit_yaml(args=arguments, prog_name=f"{PROGRAM} merge")
    return 0


if __name__ == "__main__":
    sys.exit(main())
