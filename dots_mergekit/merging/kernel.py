"""The arithmetic of DoTS: `select` once per tensor and source model, `combine` once per λ.

With τ = θ_tuned − θ_base, DoTS (Decoupled Test-time Synthesis, arXiv:2605.00610) keeps the
entries of largest magnitude, restores the L2 norm that this loses, and adds a weighted sum:

    θ = θ_base + Σ_m λ_m · s_m · τ_m · [|τ_m| ≥ t_m]

Nothing expensive in it depends on λ, and what must be remembered of it is two numbers per tensor
and source model, the threshold t and the scale s: a `Selection`.

Both functions stream over the flattened tensors in chunks that fit a core's cache, on as many
threads as torch is set to use, so no dense float32 copy of an input ever exists. Results do not
depend on the number of threads.

Differences from the paper's published code: the rescaling is per tensor and on by default (there
it is one global factor, off by default), norms are accumulated in float64, the result is computed
in float32 and rounded once, and non-finite values are errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from dots_mergekit.errors import NonFiniteError

__all__ = ["Selection", "combine", "select"]

_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Entries per chunk: on a CPU few enough to stay in cache, on a GPU enough to fill it."""

_BIN_BITS = 13
"""A histogram has at most 2**13 bins, few enough to stay in cache beside a chunk."""

_SAMPLE = 1 << 13
_GUESS_FROM = 1 << 16
"""From this many entries on, looking at `_SAMPLE` of them first is worth it."""

_LANES = 8
"""Entries outside the bracket are counted in 8 bins at either end, by position: were it one bin, a
core would wait for its own last increment of it."""

_T = TypeVar("_T")
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

    The selection is exact: histograms of the bit patterns of |τ|, each of a bracket that the one
    before it found. A sample gives the first bracket, so that two passes settle nearly every
    tensor; should it mislead, or the tensor be too small to sample, one or two more do. Nothing is
    sorted, and ties do not slow it down.

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
    _check_inputs(base, [tuned])
    n = base.numel()
    if density == 1 or n == 0:
        return Selection(threshold=0.0, scale=1.0)
    rank = max(1, math.floor(density * n))

    dtype = _compute_dtype(base, tuned)
    flat_base, flat_tuned = base.reshape(-1), tuned.reshape(-1)
    top = 1 << (torch.finfo(dtype).bits - 1)
    low, high = _guess(flat_base, flat_tuned, rank / n) if n >= _GUESS_FROM else (0, top)
    total: float | None = None
    while True:
        shift = max(0, (high - low - 1).bit_length() - _BIN_BITS)
        seen = _count(flat_base, flat_tuned, low, high, shift, measure=total is None)
        if total is None:
            total = seen.squares
            if not math.isfinite(total):
                overflow = f"the difference, or its norm, exceeds the range of {dtype}"
                raise _non_finite(base, [tuned], overflow)
            if total == 0:
                return Selection(threshold=0.0, scale=1.0)
        # at_least[i]: how many entries lie above the bracket or in its i + 1 highest bins
        at_least = seen.counts.flip(0).cumsum(0) + seen.above
        if rank <= seen.above:  # the guess was too low
            low, high = high, top
        elif rank > at_least[-1]:  # too high
            low, high = 0, low
        else:
            highest_bins = int(torch.searchsorted(at_least, rank)) + 1
            low += (len(seen.counts) - highest_bins) << shift
            if shift == 0:
                break
            high = min(high, low + (1 << shift))
    threshold = _float_of(low, dtype)
    if not rescale or threshold == 0:
        return Selection(threshold, scale=1.0)
    # A bin is one value now, so what is kept of the bracket is known by value and count.
    values = torch.arange(low, low + highest_bins, dtype=_int_dtype(dtype)).view(dtype).double()
    kept = seen.squares_above + float((seen.counts[-highest_bins:] * values.square()).sum())
    # Float64 differences below 1e-162 have squares that vanish.
    return Selection(threshold, scale=math.sqrt(total / kept) if kept > 0 else 1.0)


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
    _check_inputs(base, tuned)
    if not len(tuned) == len(selections) == len(weights):
        raise ValueError(
            f"expected one selection and one weight per source model, got {len(tuned)} source "
            f"models, {len(selections)} selections and {len(weights)} weights"
        )
    if not all(map(math.isfinite, weights)):
        raise ValueError(f"weights must be finite, got {list(weights)}")
    if out is None:
        out = torch.empty(base.shape, dtype=base.dtype, device=base.device)
    elif out.shape != base.shape or out.device != base.device or not out.is_contiguous():
        raise ValueError(
            f"out must be contiguous, of shape {tuple(base.shape)} on {base.device}; got shape "
            f"{tuple(out.shape)} on {out.device}"
        )

    dtype = _compute_dtype(base, *tuned)
    active = [
        (source.reshape(-1), _float_below(selection.threshold, dtype), weight * selection.scale)
        for source, selection, weight in zip(tuned, selections, weights, strict=True)
        if weight * selection.scale != 0
    ]
    if not active:
        return out.copy_(base)
    flat_base, flat_out = base.reshape(-1), out.detach().view(-1)
    limit = torch.finfo(out.dtype).max

    def work(chunks: Sequence[slice]) -> bool:
        """Merge these chunks; whether all results are finite."""
        size = min(_chunk(base), base.numel())
        origin, total, delta = (
            torch.empty(size, dtype=dtype, device=base.device) for _ in range(3)
        )
        finite = True
        for chunk in chunks:
            m = chunk.stop - chunk.start
            merged = origin[:m].copy_(flat_base[chunk])
            for source, ceiling, coefficient in active:
                step = delta[:m].copy_(source[chunk])
                # merged − |c|·(∓τ) rather than merged + c·τ: a step that is zero is then +0, and
                # x − (+0) is x to the bit even for x = −0.
                if coefficient > 0:
                    torch.sub(origin[:m], step, out=step)
                else:
                    step.sub_(origin[:m])
                if ceiling is not None:
                    _keep_above(step, ceiling)
                step.mul_(abs(coefficient))
                merged = torch.sub(merged, step, out=total[:m])
            low, high = torch.aminmax(merged)
            flat_out[chunk].copy_(merged)
            # Comparisons with NaN are false. Values that round down to the largest finite one pass.
            if not (low >= -limit and high <= limit):
                finite = finite and bool(torch.isfinite(flat_out[chunk]).all())
        return finite

    if not all(_run(work, base)):
        raise _non_finite(base, tuned, f"the merged tensor exceeds the range of {out.dtype}")
    return out


@dataclass(frozen=True)
class _Seen:
    """What one pass over |τ| saw of a bracket of bit patterns [low, high)."""

    counts: Tensor
    """Entries in each bin of 2**shift bit patterns, from `low` up."""
    above: int
    """Entries at or above `high`."""
    squares: float
    """Σ τ², if it was to be measured."""
    squares_above: float
    """Σ τ² over the entries at or above `high`, if a bin is one bit pattern."""


def _guess(base: Tensor, tuned: Tensor, share: float) -> tuple[int, int]:
    """A bracket that very likely holds the threshold: four standard errors of a sample's rank."""
    # Odd, so that the sample does not sit in a few columns of a matrix.
    stride = base.numel() // _SAMPLE | 1
    dtype = _compute_dtype(base, tuned)
    sample = (tuned[::stride].to(dtype) - base[::stride].to(dtype)).abs_()
    size = sample.numel()
    margin = 4 * math.sqrt(size * share * (1 - share)) + 1
    bits = sample.view(_int_dtype(dtype))

    def ranked(rank: float) -> int:
        return int(bits.kthvalue(size + 1 - min(size, max(1, round(rank)))).values)

    return ranked(size * share + margin), ranked(size * share - margin) + 1


def _count(base: Tensor, tuned: Tensor, low: int, high: int, shift: int, *, measure: bool) -> _Seen:
    """One pass over |τ|, whose bit patterns sort as its values do: a histogram of [low, high)."""
    dtype = _compute_dtype(base, tuned)
    int_dtype = _int_dtype(dtype)
    bins = -(-(high - low) >> shift)
    ceiling = _float_of(high - 1, dtype)
    lane = torch.arange(512, dtype=int_dtype, device=base.device) % _LANES

    def work(chunks: Sequence[slice]) -> tuple[Tensor, list[float], list[float]]:
        size = min(_chunk(base), base.numel())
        # Room for whole rows: what lies beyond a short chunk is computed with, but not counted.
        rows = torch.empty(-(-size // len(lane)), len(lane), dtype=int_dtype, device=base.device)
        delta, other = torch.empty(size, dtype=dtype, device=base.device), rows.view(dtype).view(-1)
        wide = torch.empty(size, dtype=torch.float64, device=base.device)
        counts = torch.zeros(bins + 2 * _LANES, dtype=torch.int64, device=base.device)
        squares, squares_above = [], []
        for chunk in chunks:
            m = chunk.stop - chunk.start
            tau = delta[:m].copy_(tuned[chunk])
            tau.sub_(other[:m].copy_(base[chunk])).abs_()
            place = rows.view(-1)[:m]
            torch.sub(tau.view(int_dtype), low, out=place)
            if shift:
                place.bitwise_right_shift_(shift)
            torch.maximum(rows, -1 - lane, out=rows)
            torch.minimum(rows, bins + lane, out=rows)
            counts += torch.bincount(place.add_(_LANES), minlength=len(counts))
            if measure:
                squares.append(float(wide[:m].copy_(tau).square_().sum()))
            if shift == 0:
                _keep_above(tau, ceiling)
                squares_above.append(float(wide[:m].copy_(tau).square_().sum()))
        return counts, squares, squares_above

    parts = _run(work, base)
    counts = torch.stack([part[0] for part in parts]).sum(dim=0).cpu()
    # Sorted, so that the order in which threads took the chunks leaves no trace.
    squares, squares_above = (sum(sorted(x for part in parts for x in part[i])) for i in (1, 2))
    return _Seen(counts[_LANES:-_LANES], int(counts[-_LANES:].sum()), squares, squares_above)


def _run(work: Callable[[Sequence[slice]], _T], tensor: Tensor) -> list[_T]:
    """Do `work` on the chunks of a flattened tensor, shared out over torch's CPU threads.

    Each thread runs torch's own operations unthreaded: some, like bincount, have no threaded form,
    and those that do would sum in an order that depends on the number of threads.
    """
    n, step = tensor.numel(), _chunk(tensor)
    chunks = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    if tensor.device.type != "cpu":
        return [work(chunks)]
    threads = torch.get_num_threads()
    workers = min(threads, len(chunks))
    try:
        torch.set_num_threads(1)
        if workers <= 1:
            return [work(chunks)]
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, [chunks[i::workers] for i in range(workers)]))
    finally:
        # The setting is the calling thread's, but also the default of threads yet to come.
        torch.set_num_threads(threads)


def _chunk(tensor: Tensor) -> int:
    return _CHUNK.get(tensor.device.type, _CHUNK["cuda"])


def _keep_above(values: Tensor, ceiling: float) -> None:
    """Zero, in place, every entry with |value| ≤ ceiling; NaN stays.

    With the float below t as the ceiling this keeps |value| ≥ t.
    """
    torch.ops.aten.hardshrink.out(values, ceiling, out=values)


def _float_of(bits: int, dtype: torch.dtype) -> float:
    """The non-negative float with this bit pattern."""
    return torch.tensor(bits, dtype=_int_dtype(dtype)).view(dtype).item()


def _float_below(value: float, dtype: torch.dtype) -> float | None:
    """The largest float below a positive one; None for 0, which has no smaller magnitude."""
    return _float_of(_bits_of(value, dtype) - 1, dtype) if value > 0 else None


def _bits_of(value: float, dtype: torch.dtype) -> int:
    """The bit pattern of a non-negative float."""
    return int(torch.tensor(value, dtype=dtype).view(_int_dtype(dtype)).item())


def _compute_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _int_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.int64 if dtype == torch.float64 else torch.int32


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


def _non_finite(base: Tensor, tuned: Sequence[Tensor], otherwise: str) -> NonFiniteError:
    """The error that names the culprit: an input, or else the arithmetic."""
    for i, tensor in enumerate([base, *tuned]):
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if bad:
            return NonFiniteError(f"{bad} of {tensor.numel()} entries are NaN or infinite", input=i)
    return NonFiniteError(otherwise)
