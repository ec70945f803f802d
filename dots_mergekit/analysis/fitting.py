"""Whether models can be compared tensor by tensor, judged by their configs and headers."""

from __future__ import annotations

from mergekit.common import ModelReference

from dots_mergekit.checking import Finding
from dots_mergekit.checking.checkpoints import Checkpoint, read_checkpoint
from dots_mergekit.checking.configs import different_architecture, different_config
from dots_mergekit.checking.hub import find_folders
from dots_mergekit.checking.plan import check_plan
from dots_mergekit.checking.weights import unmergeable
from dots_mergekit.errors import DotsError
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import configuration

__all__ = ["require_fitting"]


def require_fitting(recipe: Recipe) -> tuple[str, ...]:
    """Refuse models whose tensors do not match, and give the warnings about them.

    A merge asks for more than this: tokenizers, for one, and room for the result.

    Args:
        recipe: The plainest merge of them.

    Raises:
        DotsError: Every reason, one a line.
    """
    config = configuration(recipe)
    folders, found = find_folders(recipe, config)
    checkpoints: dict[ModelReference, Checkpoint] = {}
    for model in recipe.models:
        if str(model.model) in folders:
            try:
                checkpoints[model] = read_checkpoint(str(model), folders[str(model.model)])
            except DotsError as error:
                found.append(Finding("error", str(error)))
    found += _beside_each_other(list(checkpoints.values()))
    # Those that are not on this machine are compared when they are read.
    if len(checkpoints) == len(recipe.models) and not _said(found, "error"):
        found += check_plan(recipe, config, checkpoints, None)
    if errors := _said(found, "error"):
        raise DotsError("\n".join(errors))
    return tuple(_said(found, "warning"))


def _beside_each_other(checkpoints: list[Checkpoint]) -> list[Finding]:
    found = [finding for checkpoint in checkpoints for finding in unmergeable(checkpoint)]
    for other in checkpoints[1:]:
        strange = list(different_architecture(checkpoints[0], other))
        found += strange or different_config(checkpoints[0], other, sliced=False)
    return found


def _said(found: list[Finding], severity: str) -> list[str]:
    return [finding.message for finding in found if finding.severity == severity]
