"""DoTS (Decoupled Test-time Synthesis) for mergekit: the merge method `dots` and its tuner.

    from dots_mergekit import Recipe, evaluate, merge, tune

    outcome = tune(Recipe.load("recipes/quickstart.yml"), out="study", trials=30)
    merge(outcome.best, "out")
    print(evaluate(outcome.best, tasks=["arithmetic"], baselines=True).markdown())

Importing this package makes mergekit know `merge_method: dots`, at once or as soon as mergekit is
imported. It imports neither torch nor mergekit: what is heavy loads where it is used.
"""

from dots_mergekit import autoload

TYPE_CHECKING = False  # type checkers take it as true; importing `typing` costs more than all this
if TYPE_CHECKING:
    from dots_mergekit.api import analyze as analyze
    from dots_mergekit.api import check as check
    from dots_mergekit.api import choose as choose
    from dots_mergekit.api import evaluate as evaluate
    from dots_mergekit.api import merge as merge
    from dots_mergekit.api import preview as preview
    from dots_mergekit.api import reproduce as reproduce
    from dots_mergekit.api import review as review
    from dots_mergekit.api import select_queries as select_queries
    from dots_mergekit.api import share as share
    from dots_mergekit.api import tune as tune
    from dots_mergekit.errors import DotsError as DotsError
    from dots_mergekit.merging.kernel import Selection as Selection
    from dots_mergekit.merging.kernel import combine as combine
    from dots_mergekit.merging.kernel import select as select
    from dots_mergekit.progress import Bars as Bars
    from dots_mergekit.progress import Progress as Progress
    from dots_mergekit.progress import Silent as Silent
    from dots_mergekit.recipe import Recipe as Recipe

__version__ = "0.1.0"

_HOME = {
    "Bars": "progress",
    "DotsError": "errors",
    "Progress": "progress",
    "Recipe": "recipe",
    "Selection": "merging.kernel",
    "Silent": "progress",
    "analyze": "api",
    "check": "api",
    "choose": "api",
    "combine": "merging.kernel",
    "evaluate": "api",
    "merge": "api",
    "preview": "api",
    "reproduce": "api",
    "review": "api",
    "select": "merging.kernel",
    "select_queries": "api",
    "share": "api",
    "tune": "api",
}
"""Public name -> the module that defines it."""

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


autoload.install()
