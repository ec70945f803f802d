"""Models whose λ change in place: live, Hugging Face, vLLM, and on disk."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dots_mergekit.backends.huggingface import LiveModel
    from dots_mergekit.backends.on_disk import OnDiskModel
    from dots_mergekit.merging.selections import SelectionFile
    from dots_mergekit.recipe import Recipe

__all__ = ["open_model"]

_LOG = logging.getLogger(__name__)


def open_model(
    recipe: Recipe,
    *,
    on_disk: bool = False,
    device: str | None = None,
    batch_size: int = 64,
    kept: SelectionFile | None = None,
) -> LiveModel | OnDiskModel:
    """Open a model that can become the merge of `recipe` under any λ.

    Where the merge can be done inside the loaded model it is; otherwise, or if `on_disk`, every
    recipe is merged into a temporary folder and loaded from there. Which of the two is said once,
    in the log.

    Args:
        recipe: The merge; its weights are those to begin with.
        on_disk: Merge on disk in any case.
        device: Where the model computes; a GPU if there is one, if None.
        batch_size: Responses generated side by side.
        kept: Where a live model's selections outlive it.
    """
    from dots_mergekit.backends.huggingface import LiveModel
    from dots_mergekit.backends.on_disk import OnDiskModel
    from dots_mergekit.recipe.plans import NotLiveError

    model = OnDiskModel(recipe, device=device, batch_size=batch_size)
    if on_disk:
        return model
    try:
        return LiveModel(recipe, model.lm, kept)
    except NotLiveError as error:
        _LOG.warning("every trial is merged on disk, which is slower: %s", error)
        return model
