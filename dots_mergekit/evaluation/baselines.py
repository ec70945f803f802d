"""What a DoTS recipe has to beat: the same models under fixed λ and mergekit's other methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from dots_mergekit.errors import DotsError
from dots_mergekit.messages import did_you_mean

__all__ = ["ALL", "BASELINES", "USUAL", "BaselineMethod", "chosen", "is_random"]

ALL = "all"
"""In place of names: every baseline there is."""


@dataclass(frozen=True)
class BaselineMethod:
    """How a baseline is made of a recipe.

    What mergekit says of a method is read from mergekit: whether it takes λ, how many models,
    whether with a base. Here is what it cannot say.

    Attributes:
        about: What it is, for people.
        method: mergekit's name of the merge method.
        weight: λ of all models; `same` for the recipe's own, `inverse norm` for 1/‖τ‖ of each, in
            shares of 1. Methods without λ pass over it.
        share: The parameter that is the share of a task vector that is kept, for which the
            recipe's density goes along; empty where nothing is selected.
        random: Its masks are drawn, so the result depends on mergekit's `random_seed`.
        base: `first`: the first source takes the place of the base; `none`: there is no base.
        usual: It takes part where baselines are asked for without names.
    """

    about: str
    method: str
    weight: float | Literal["same", "inverse norm"] = 1.0
    share: Literal["density", "select_topk", ""] = ""
    random: bool = False
    base: Literal["own", "first", "none"] = "own"
    usual: bool = False


BASELINES: Mapping[str, BaselineMethod] = {
    "dots-1": BaselineMethod("the recipe at λ = 1", "dots", share="density", usual=True),
    "dots-0.5": BaselineMethod("the recipe at λ = 0.5", "dots", 0.5, share="density", usual=True),
    "task_arithmetic-1": BaselineMethod("task arithmetic at λ = 1", "task_arithmetic", usual=True),
    "task_arithmetic-same": BaselineMethod(
        "the same at the recipe's own λ", "task_arithmetic", "same", usual=True
    ),
    "task_arithmetic-nan": BaselineMethod(
        "the same at λ in proportion to 1/norm (NAN)", "task_arithmetic", "inverse norm"
    ),
    "ties-1": BaselineMethod("TIES at λ = 1", "ties", share="density", usual=True),
    "ties-same": BaselineMethod("the same at the recipe's own λ", "ties", "same", "density"),
    "dare_linear-1": BaselineMethod(
        "DARE at λ = 1", "dare_linear", share="density", random=True, usual=True
    ),
    "dare_linear-same": BaselineMethod(
        "the same at the recipe's own λ", "dare_linear", "same", "density", random=True
    ),
    "dare_ties-1": BaselineMethod(
        "DARE TIES at λ = 1", "dare_ties", share="density", random=True, usual=True
    ),
    "dare_ties-same": BaselineMethod(
        "the same at the recipe's own λ", "dare_ties", "same", "density", random=True
    ),
    "della-1": BaselineMethod("DELLA at λ = 1", "della", share="density", random=True, usual=True),
    "della-same": BaselineMethod(
        "the same at the recipe's own λ", "della", "same", "density", random=True
    ),
    "della_linear-1": BaselineMethod(
        "DELLA without its election of signs, λ = 1", "della_linear", share="density", random=True
    ),
    "della_linear-same": BaselineMethod(
        "the same at the recipe's own λ", "della_linear", "same", "density", random=True
    ),
    "breadcrumbs-1": BaselineMethod("Model Breadcrumbs at λ = 1", "breadcrumbs", share="density"),
    "breadcrumbs-same": BaselineMethod(
        "the same at the recipe's own λ", "breadcrumbs", "same", "density"
    ),
    "breadcrumbs_ties-1": BaselineMethod(
        "Model Breadcrumbs with TIES at λ = 1", "breadcrumbs_ties", share="density"
    ),
    "breadcrumbs_ties-same": BaselineMethod(
        "the same at the recipe's own λ", "breadcrumbs_ties", "same", "density"
    ),
    "ram": BaselineMethod("RAM, made for changes by reinforcement learning", "ram"),
    "ramplus_tl": BaselineMethod("RAM+, tensor by tensor", "ramplus_tl"),
    "sce": BaselineMethod("SCE, the recipe's density as its top k", "sce", share="select_topk"),
    "model_stock": BaselineMethod("Model Stock", "model_stock"),
    "arcee_fusion": BaselineMethod(
        "Arcee Fusion of the second model into the first", "arcee_fusion", base="first"
    ),
    "karcher": BaselineMethod("the Karcher mean of the models", "karcher", base="none"),
    "linear-1": BaselineMethod("the mean of the models", "linear", base="none"),
    "linear-same": BaselineMethod(
        "their mean, weighed by the recipe's λ", "linear", "same", base="none"
    ),
    "nuslerp-1": BaselineMethod("NuSLERP of the changes, halfway", "nuslerp"),
    "nuslerp-same": BaselineMethod("the same, weighed by the recipe's λ", "nuslerp", "same"),
    "multislerp-1": BaselineMethod("Multi-SLERP of the changes, in equal parts", "multislerp"),
    "multislerp-same": BaselineMethod("the same, weighed by the recipe's λ", "multislerp", "same"),
}
"""Every baseline by its name. An entry here is all that a new one needs.

mergekit has three more methods, which have no setting of their own to be compared at: `slerp` and
`nearswap` need a `t`, and `passthrough` merges nothing.
"""

USUAL = tuple(name for name, known in BASELINES.items() if known.usual)
"""Those that take part where baselines are asked for without names."""


def chosen(asked: Iterable[str]) -> tuple[str, ...]:
    """Give the baselines that are asked for, each once, in the order of `BASELINES`.

    Args:
        asked: Names, merge methods (which stand for all baselines of theirs), or `all`.

    Raises:
        DotsError: No baseline and no method has a name.
    """
    found: set[str] = set()
    for word in asked:
        fitting = {name for name, known in BASELINES.items() if word in (ALL, name, known.method)}
        if not fitting:
            methods = dict.fromkeys(known.method for known in BASELINES.values())
            known_words = (ALL, *BASELINES, *methods)
            raise DotsError(
                f"`baselines`: there is none named `{word:.100}`{did_you_mean(word, known_words)}; "
                f"there are: {', '.join((ALL, *BASELINES))}"
            )
        found |= fitting
    return tuple(name for name in BASELINES if name in found)


def is_random(merge_method: str | None) -> bool:
    """Say whether a merge method draws its masks, and so depends on mergekit's `random_seed`."""
    return any(known.random and known.method == merge_method for known in BASELINES.values())
