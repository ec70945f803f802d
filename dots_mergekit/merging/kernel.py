"""The arithmetic of DoTS: `select` once per tensor and source model, `combine` once per λ.

With τ = θ_tuned − θ_base, DoTS (Decoupled Test-time Synthesis, arXiv:2605.00610) keeps the
entries of largest magnitude, restores the L2 norm that this loses, and adds a weighted sum:

    θ = θ_base + Σ_m λ_m · s_m · τ_m · [|τ_m| ≥ t_m]

Nothing expensive in it depends on λ, and what must be remembered of it is two numbers per tensor
and source model, the threshold t and the scale s: a `Selection`.

Both functions stream over the flattened tensors in chunks that fit a core's cache, on as many
threads as torch is set to use, so no dense float32 copy of an input ever exists. Results do not
depend on the number of threads. There are two ways to run them, `reference`, by torch, and `fast`,
by machine code for the large tensors of a CPU: thresholds and merged bits are the same, and scales
differ by what the order of a sum in float64 leaves.

Entries that are NaN or infinite, with the same bits in all inputs, have τ = 0 and stay as they are,
as in the masks of some old models; any other such value is an error. Buffers of whole numbers or
truth values (masks, positions, counters) have no τ: the base's stay.

Differences from the paper's published code:

- The rescaling is per tensor and on by default; there it is one global factor, off by default.
- Norms are accumulated in float64, the result is computed in float32 and rounded once; there norms
  are in float32, and the sum of the steps is rounded to the base's dtype before it is added.
- Where an input is float64, float64 is computed in; there every τ is float32.
- Where density · n is below 1, one entry is kept; there none is.
- Tensors that do not match in shape are errors; there they are passed over, and stay the base's.
- Non-finite values are errors, but for those above; there they spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dots_mergekit.errors import NonFiniteError
from dots_mergekit.merging import fast, reference
from dots_mergekit.merging.chunks import compute_dtype
from dots_mergekit.merging.reference import Step, Threshold, float_below

__all__ = ["Selection", "combine", "select"]

_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Selection:
    """What DoTS remembers of one task vector τ: which entries it keeps and by how much they grow.

    Entries with |τ| ≥ `threshold` are kept and multiplied by `scale` = ‖τ‖₂ / ‖τ·[|τ| ≥ t]‖₂.
    """

    threshold: float
    scale: float


def select(base: Tensor, tuned: Tensor, density: float, *, rescale: bool = True) -> Selection:
    """Find the top `density` share of τ = tuned − base by magnitude, and the scale that keeps ‖τ‖₂.

    t is the k-th largest |τ|, k = max(1, ⌊density · n⌋), and s = ‖τ‖₂ / ‖τ·[|τ| ≥ t]‖₂ (1 without
    `rescale`). Every entry tied with the k-th is kept, as in the paper's code, so the outcome does
    not depend on the order of entries or on the device. When fewer than k entries are nonzero,
    t = 0. Density 1, a zero task vector and an empty tensor give t = 0, s = 1: plain task
    arithmetic.

    The selection is exact, no tensor is sorted, and ties do not slow it down: see `reference` and
    `fast`.

    Args:
        base: tensor of the base model: any shape and strides, bf16, fp16, fp32 or fp64.
        tuned: the same tensor of a model trained from it: same shape and device, any such dtype.
        density: share of entries to keep, in (0, 1].
        rescale: whether to restore the L2 norm.

    Returns:
        Threshold and scale; τ is taken in float32 (float64 if an input is), norms in float64.

    Raises:
        ValueError: shapes, devices, dtypes or the density do not fit.
        NonFiniteError: NaN or infinity in an input.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must lie in (0, 1], got {density!r}")
    base, tuned = base.detach(), tuned.detach()
    if _is_buffer(base, [tuned]):
        return Selection(threshold=0.0, scale=1.0)
    _check_inputs(base, [tuned])
    n = base.numel()
    if density == 1 or n == 0:
        return Selection(threshold=0.0, scale=1.0)
    rank = max(1, math.floor(density * n))
    found = _find_threshold(base.contiguous().view(-1), tuned.contiguous().view(-1), rank)
    if not math.isfinite(found.squares):
        excused = _excused(base, [tuned])
        if bool(excused.any()):
            cleaned = base.masked_fill(excused, 0)
            return select(cleaned, tuned.masked_fill(excused, 0), density, rescale=rescale)
        overflow = f"the difference, or its norm, exceeds the range of {compute_dtype(base, tuned)}"
        raise _non_finite(base, [tuned], overflow)
    if not rescale or found.value == 0:
        return Selection(found.value, scale=1.0)
    # Float64 differences below 1e-162 have squares that vanish.
    kept = found.squares_kept
    return Selection(found.value, scale=math.sqrt(found.squares / kept) if kept > 0 else 1.0)


def combine(
    base: Tensor,
    tuned: Sequence[Tensor],
    selections: Sequence[Selection],
    weights: Sequence[float],
    *,
    out: Tensor | None = None,
) -> Tensor:
    """Merge one tensor: base + Σ_m λ_m · s_m · τ_m · [|τ_m| ≥ t_m], rounded once.

    Computed in float32 (float64 if an input is float64), multiplied and added in separate rounded
    steps, so that every device gives the same bits for the same selections. An entry that no source
    changes keeps the base's bits, the sign of a zero included; so λ = 0 throughout returns the base
    exactly, and a source with λ = 0 is not even read.

    Args:
        base: tensor of the base model: any shape and strides, bf16, fp16, fp32 or fp64.
        tuned: the same tensor of each source model.
        selections: what `select` found for each source model.
        weights: λ of each source model, finite.
        out: contiguous tensor of the base's shape and device to write to; a new one of the base's
            dtype if None. It must not share memory with an input.

    Returns:
        The merged tensor (`out` if given).

    Raises:
        ValueError: shapes, devices, dtypes, lengths or weights do not fit.
        NonFiniteError: NaN or infinity in an input, or a result beyond the range of its dtype.
    """
    base, tuned = base.detach(), [source.detach() for source in tuned]
    buffer = _is_buffer(base, tuned)
    if not buffer:
        _check_inputs(base, tuned)
    _check_numbers(tuned, selections, weights)
    if out is None:
        out = torch.empty(base.shape, dtype=base.dtype, device=base.device)
    elif out.shape != base.shape or out.device != base.device or not out.is_contiguous():
        raise ValueError(
            f"out must be contiguous, of shape {tuple(base.shape)} on {base.device}; got shape "
            f"{tuple(out.shape)} on {out.device}"
        )
    coefficients = [
        weight * selection.scale for weight, selection in zip(weights, selections, strict=True)
    ]
    if buffer or not any(coefficients) or base.numel() == 0:
        return out.copy_(base)
    dtype = compute_dtype(base, *tuned)
    active = [
        Step(source.contiguous().view(-1), float_below(selection.threshold, dtype), coefficient)
        for source, selection, coefficient in zip(tuned, selections, coefficients, strict=True)
        if coefficient != 0
    ]
    if _add(base.contiguous().view(-1), active, out.detach().view(-1)):
        return out
    read = [source for source, c in zip(tuned, coefficients, strict=True) if c != 0]
    excused = _excused(base, read)
    if not bool(excused.any()):
        raise _non_finite(base, tuned, f"the merged tensor exceeds the range of {out.dtype}")
    cleaned = [source.masked_fill(excused, 0) for source in tuned]
    combine(base.masked_fill(excused, 0), cleaned, selections, weights, out=out)
    out[excused] = base[excused].to(out.dtype)
    return out


def _find_threshold(base: Tensor, tuned: Tensor, rank: int) -> Threshold:
    """Find the `rank`-th largest |τ|, in the quickest way there is."""
    found = fast.find_threshold(base, tuned, rank) if fast.can(base, tuned) else None
    return found or reference.find_threshold(base, tuned, rank)


def _add(base: Tensor, steps: Sequence[Step], out: Tensor) -> bool:
    """Write the merged tensor, in the quickest way there is; whether all of it is finite."""
    sources = [step.source for step in steps]
    add = fast.add if fast.can(base, *sources, out) else reference.add
    return add(base, steps, out)


def _is_buffer(base: Tensor, tuned: Sequence[Tensor]) -> bool:
    """Say whether these are masks, positions or counters: whole numbers, with nothing to merge.

    Matrices of whole numbers that differ are no such thing, but weights that were quantized.
    """
    if any(
        t.is_floating_point() or t.is_complex() or t.shape != base.shape for t in [base, *tuned]
    ):
        return False
    if base.dtype == torch.bool or base.ndim < 2:
        return True
    return all(torch.equal(base, source) for source in tuned)


def _excused(base: Tensor, tuned: Sequence[Tensor]) -> Tensor:
    """Find the entries that are NaN or infinite with the same bits in all of these."""
    dtype = compute_dtype(base, *tuned)
    bits = torch.int64 if dtype == torch.float64 else torch.int32
    found = ~torch.isfinite(base)
    ours = base.to(dtype).contiguous().view(bits)
    for source in tuned:
        found &= ours == source.to(dtype).contiguous().view(bits)
    return found


def _check_inputs(base: Tensor, tuned: Sequence[Tensor]) -> None:
    for i, tensor in enumerate([base, *tuned]):
        name = "the base tensor" if i == 0 else f"source tensor {i}"
        if tensor.dtype not in _DTYPES:
            raise ValueError(
                f"{name} is {tensor.dtype}; expected one of {', '.join(map(str, _DTYPES))} "
                "(dequantize the checkpoint first)"
            )
        if tensor.shape != base.shape or tensor.device != base.device:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} on {tensor.device}, but the base tensor is "
                f"{tuple(base.shape)} on {base.device}"
            )


def _check_numbers(
    tuned: Sequence[Tensor], selections: Sequence[Selection], weights: Sequence[float]
) -> None:
    if not len(tuned) == len(selections) == len(weights):
        raise ValueError(
            f"expected one selection and one weight per source model, got {len(tuned)} source "
            f"models, {len(selections)} selections and {len(weights)} weights"
        )
    if not all(map(math.isfinite, weights)):
        raise ValueError(f"weights must be finite, got {list(weights)}")


def _non_finite(base: Tensor, tuned: Sequence[Tensor], otherwise: str) -> NonFiniteError:
    """The error that names the culprit: an input, or else the arithmetic."""
    for i, tensor in enumerate([base, *tuned]):
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if bad:
            return NonFiniteError(f"{bad} of {tensor.numel()} entries are NaN or infinite", input=i)
    return NonFiniteError(otherwise)
