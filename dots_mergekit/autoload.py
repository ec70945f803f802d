"""Make stock mergekit commands know `dots`, by a hook that waits for mergekit's merge methods.

mergekit discovers no plugins: a process knows the methods that something in it has registered. So
`dots_mergekit.pth` (`dots_mergekit.start` from Python 3.15 on, PEP 829) calls `install` when the
interpreter starts, and `install` puts one finder on `sys.meta_path`. Nothing else happens until
the process imports `mergekit.merge_methods`. Then the finder lets Python load it as always, goes
away, and registers the method.

This runs at the start of every Python process of the environment, hence three rules: it imports
the standard library alone, and of that only what has been imported by then; it never raises; and
`DOTS_MERGEKIT_AUTOLOAD=0` switches it off (any other value leaves it on). Switched off, importing
`dots_mergekit` does not register the method either: `python -m dots_mergekit merge` and importing
`dots_mergekit.merging.method` do.
"""

import os
import sys

# Type checkers take it as true. To import `typing` would cost ten times the rest here, and
# `from __future__ import annotations` a sixth of it, hence the quotes around what is named below.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["REQUIREMENT", "SWITCH", "explain", "install", "remove"]

REQUIREMENT = "mergekit>=0.1.5,<0.2"
SWITCH = "DOTS_MERGEKIT_AUTOLOAD"

_AWAITED = "mergekit.merge_methods"


def install() -> None:
    """Register `dots` now if mergekit's merge methods are loaded, else as soon as they are.

    Calling it again changes nothing. It never raises: where mergekit does not take the method,
    it logs one line.
    """
    if os.environ.get(SWITCH) == "0":
        return
    if sys.modules.get(_AWAITED) is not None:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def remove() -> None:
    """Take the hook away, if it is still waiting; what is registered stays registered."""
    # A new list, because another thread may be walking along the old one at this moment, and
    # would step over a finder if the list became shorter under its feet.
    sys.meta_path = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]


def explain(error: Exception) -> str:
    """Say in one line that mergekit did not take the method, why, and what to do."""
    found = getattr(sys.modules.get(_AWAITED), "__file__", None) or "no file"
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"merge_method: dots is not available: dots_mergekit needs {REQUIREMENT} and does not "
        f"work with the mergekit in use, {found} ({cause}). "
        f'Upgrade it with: pip install "{REQUIREMENT}"'
    )


class _Finder:
    """A meta path finder that finds nothing itself, and puts our loader around one module's own."""

    def find_spec(
        self, fullname: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if fullname != _AWAITED or self not in sys.meta_path:
            return None
        # Only those behind us: those before us have been asked, and two of us cannot go round in
        # circles.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find_spec = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find_spec and find_spec(fullname, path, target)
            if spec is not None:
                # None where mergekit's own file is missing: a namespace package has no loader.
                if spec.loader is not None:
                    # Not an importlib.abc.Loader by name: to import that takes 20 ms.
                    spec.loader = _Loader(spec, spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """A module's own loader in all respects, except that `dots` is registered after it has run."""

    def __init__(self, spec: "ModuleSpec", loader: "Loader") -> None:
        self._spec = spec
        self._loader = loader

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def exec_module(self, module: "ModuleType") -> None:
        # First leave no trace: what reads the module's loader later (resources, source, reload)
        # finds its own.
        self._spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        # Not reached if mergekit's own import fails: its error goes to who asked, and the hook
        # keeps waiting for the next attempt.
        remove()
        _register()


def _register() -> None:
    try:
        # This registers, once. If `method` itself has just brought mergekit in, it is on its way
        # there, and this finds it half imported and leaves it alone.
        import dots_mergekit.merging.method  # noqa: F401 - imported for what it does
    except Exception as error:  # whatever it is, mergekit and its other methods go on working
        import logging  # not at the top: most processes never come here

        logging.getLogger("dots_mergekit").warning("%s", explain(error))
