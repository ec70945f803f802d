"""DoTS (Decoupled Test-time Synthesis) for mergekit: the merge method `dots` and its tuner.

Importing this package makes mergekit know `merge_method: dots`, at once or as soon as mergekit is
imported. It imports neither torch nor mergekit: what is heavy loads where it is used.
"""

from dots_mergekit import autoload

TYPE_CHECKING = False  # type checkers take it as true; importing `typing` costs more than all this
if TYPE_CHECKING:
    from dots_mergekit.checking import check as check
    from dots_mergekit.errors import DotsError as DotsError
    from dots_mergekit.merging.kernel import Selection as Selection
    from dots_mergekit.merging.kernel import combine as combine
    from dots_mergekit.merging.kernel import select as select
    from dots_mergekit.recipe import Recipe as Recipe

__version__ = "0.1.0"

__all__ = ["DotsError", "Recipe", "Selection", "__version__", "check", "combine", "select"]

_HOME = {
    "DotsError": "errors",
    "Recipe": "recipe",
    "Selection": "merging.kernel",
    "check": "checking",
    "combine": "merging.kernel",
    "select": "merging.kernel",
}
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


autoload.install()
