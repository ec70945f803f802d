"""The merge method `dots` for mergekit: its signature is the schema, the kernel does the work."""

from __future__ import annotations

from typing import Annotated

import torch
from mergekit import merge_methods
from mergekit.merge_methods import BasePolicy, InputContract, PerNonBase, TensorGroup, merge_method
from mergekit.merge_methods.base import OptionalTensorPolicy
from pydantic import Field
from torch import Tensor

from dots_mergekit.merging.experts import model_type, parts_of, spell_part
from dots_mergekit.merging.kernel import combine, select
from dots_mergekit.merging.naming import naming

__all__ = ["dots_merge", "register"]

Weight = Annotated[float, Field(allow_inf_nan=False)]
Density = Annotated[float, Field(gt=0, le=1)]


@merge_method(  # type: ignore[untyped-decorator]  # mergekit ships no types
    name="dots",
    pretty_name="DoTS",
    reference_url="https://arxiv.org/abs/2605.00610",
    contract=InputContract(base=BasePolicy.REQUIRED, min_non_base=1),
    optional_tensor_policy=OptionalTensorPolicy.PASSTHROUGH_BASE_SINGLETON,
)
def dots_merge(
    group: TensorGroup,
    weight: PerNonBase[Weight],
    density: PerNonBase[Density] = 0.3,  # mergekit gives every source model a scalar default
    rescale: bool = True,
) -> Tensor:
    """Merge one tensor as `dots_mergekit.merging.kernel` says.

    `weight` is λ, `density` the share of each task vector that is kept (the paper's 0.3), and
    `rescale` whether what is kept gets the task vector's L2 norm back.
    """
    assert group.base is not None  # the contract requires it
    base, name = group.base.tensor, group.metadata.name or "of no name"
    sources = [source for source in group.non_base if weight[source.id] != 0]
    weights = [weight[source.id] for source in sources]
    kind = model_type(group.base.id) if "experts" in name else None
    merged = torch.empty(base.shape, dtype=base.dtype, device=base.device)
    for part in parts_of(name, base.shape, kind):
        called, ours = spell_part(name, part), base[part]
        selections = []
        for source in sources:
            with naming(called, [group.base.id, source.id]):
                theirs, share = source.tensor[part], density[source.id]
                selections.append(select(ours, theirs, share, rescale=rescale))
        with naming(called, [group.base.id, *(source.id for source in sources)]):
            tuned = [source.tensor[part] for source in sources]
            combine(ours, tuned, selections, weights, out=merged[part])
    return merged


def register() -> None:
    """Make mergekit know the method in this process; calling it again changes nothing."""
    if not any(method.spec.name == "dots" for method in merge_methods.registered_methods()):
        merge_methods.register(dots_merge)


register()
