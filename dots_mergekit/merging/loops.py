"""The arithmetic of `kernel` as loops for machine code: read, never run, by `compiled`.

It is imported only where the machine has not compiled it yet. Every loop in `LOOPS` takes whole
numbers alone: counts, bit patterns, and addresses of memory that its caller owns. Threads share a
tensor out by a counter in memory, from which each takes the number of its next chunk; what is
written for a chunk has its own place, so nothing depends on who took it.

Blocks of `BLOCK` entries are widened to float32 in memory that stays in the first cache; so one
loop does for all dtypes, and for mixtures of them. Floats are rounded as IEEE 754 says, to the
nearest, ties to even. Only sums of squares may be added in the order that suits the processor.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import float32, float64, int64, njit, types, uint16, uint32
from numba.extending import intrinsic

__all__ = ["BLOCK", "LOOPS", "address", "as_bits", "next_chunk", "widen"]

BLOCK = 2048
"""Entries that are worked on together."""

HALF, BRAIN, SINGLE = 0, 1, 2
"""float16, bfloat16 and float32, as `fast` numbers them."""

_SUMS = {"reassoc", "nsz", "contract"}

# --- what numba lacks ----------------------------------------------------------------------------


def _reinterpreted(source: Any, target: Any) -> Any:
    @intrinsic
    def cast(context: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

        return target(source), code

    return cast


as_float = _reinterpreted(types.uint32, types.float32)
as_bits = _reinterpreted(types.float32, types.uint32)


@intrinsic
def address(context: Any, place: Any, dtype: Any) -> Any:
    """Take a number for the address of values of this type."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(dtype.dtype)(types.int64, dtype), code


@intrinsic
def next_chunk(context: Any, counter: Any) -> Any:
    """Take the next number off a counter that several threads share."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), code


# --- dtypes --------------------------------------------------------------------------------------


@njit(error_model="numpy")
def widen(tensor, kind, start, m, out):
    """Write m entries of a tensor as float32, exactly."""
    if kind == BRAIN:
        brains = address(tensor, uint16)
        for i in range(m):
            out[i] = as_float(uint32(brains[start + i]) << uint32(16))
    elif kind == HALF:
        halves = address(tensor, uint16)
        for i in range(m):
            half = uint32(halves[start + i])
            # As the exponent of a float32 it is 112 too small, which the product makes up for,
            # subnormal or not; NaN and infinity have the highest exponent in both.
            scaled = as_float((half & uint32(0x7FFF)) << uint32(13)) * float32(2.0**112)
            infinite = uint32(0x7F800000) * uint32((half & uint32(0x7C00)) == uint32(0x7C00))
            sign = (half & uint32(0x8000)) << uint32(16)
            out[i] = as_float(uint32(as_bits(scaled) | infinite | sign))
    else:
        singles = address(tensor, float32)
        for i in range(m):
            out[i] = singles[start + i]


@njit(error_model="numpy")
def narrow(values, m, tensor, kind, start):
    """Write m float32 values into a tensor, rounded to the nearest, ties to even."""
    if kind == BRAIN:
        brains = address(tensor, uint16)
        for i in range(m):
            bits = as_bits(values[i])
            odd = (bits >> uint32(16)) & uint32(1)
            brains[start + i] = uint16(uint32(bits + uint32(0x7FFF) + odd) >> uint32(16))
    elif kind == HALF:
        halves = address(tensor, uint16)
        for i in range(m):
            bits = as_bits(values[i])
            size = bits & uint32(0x7FFFFFFF)
            odd = (size >> uint32(13)) & uint32(1)
            normal = uint32(size - uint32(112 << 23) + uint32(0xFFF) + odd) >> uint32(13)
            # The last place of 0.5 in float32 is that of a subnormal float16.
            subnormal = uint32(as_bits(as_float(size) + float32(0.5)) - uint32(0x3F000000))
            rounded = subnormal if size < uint32(113 << 23) else normal
            halves[start + i] = uint16(rounded | ((bits >> uint32(16)) & uint32(0x8000)))
    else:
        singles = address(tensor, float32)
        for i in range(m):
            singles[start + i] = values[i]


@njit(error_model="numpy")
def count_beyond(values, m, kind):
    """Count what has no finite value in a dtype: NaN, infinity, and what rounds to it."""
    least = uint32(0x7F800000)
    if kind == BRAIN:
        least = uint32(0x7F7F8000)
    elif kind == HALF:
        least = uint32(0x477FF000)
    beyond = uint32(0)
    for i in range(m):
        beyond += uint32((as_bits(values[i]) & uint32(0x7FFFFFFF)) >= least)
    return int64(beyond)


# --- select --------------------------------------------------------------------------------------


@njit(error_model="numpy")
def magnitudes(origin, tau, m):
    """Turn m values of a source model into |τ|."""
    for i in range(m):
        tau[i] = abs(tau[i] - origin[i])


@njit(error_model="numpy", fastmath=_SUMS)
def weigh(tau, m, high):
    """Give Σ τ², Σ τ² over |τ| ≥ high, and how many these are."""
    total, above, count = 0.0, 0.0, uint32(0)
    for i in range(m):
        size = tau[i]
        reaches = size >= high
        large = float64(size if reaches else float32(0))
        count += uint32(1) if reaches else uint32(0)
        above += large * large
        total += float64(size) * float64(size)
    return total, above, int64(count)


@njit(error_model="numpy")
def equal(tau, m, bits):
    """Count the entries with this bit pattern."""
    count = uint32(0)
    for i in range(m):
        count += uint32(as_bits(tau[i]) == bits)
    return int64(count)


@njit(error_model="numpy")
def within(tau, m, low, width, found):
    """Write how far the bit patterns of a bracket lie above its lowest; give how many there are."""
    count = 0
    for i in range(m):
        offset = uint32(as_bits(tau[i]) - low)
        found[count] = offset
        count += int64(offset < width)
    return count


@njit(error_model="numpy")
def tally(offsets, m, shift, counts, listed, place, end):
    """Count the offsets that are the lowest of a bin, and list the others as far as there is room.

    Gives the place in the list after the last one, whether there was room for it or not.
    """
    inside = uint32((uint32(1) << shift) - uint32(1))
    for i in range(m):
        offset = offsets[i]
        if offset & inside == uint32(0):
            counts[offset >> shift] += 1
        else:
            if place < end:
                listed[place] = offset
            place += 1
    return place


def look(
    base, base_kind, tuned, tuned_kind, n, chunk, low, width, shift, room, counter,
    sums, numbers, counts, listed, scratch,
):  # fmt: skip
    """Measure |τ| of a tensor, and find the bit patterns in [low, low + width).

    Args:
        base: A tensor of n entries, and its dtype.
        base_kind: Its dtype.
        tuned: The same tensor of a source model, ...
        tuned_kind: ... and its dtype.
        n: How many entries they have.
        chunk: How many a thread takes at once.
        low: The bracket's lowest pattern.
        width: How many patterns it has.
        shift: A bin of `counts` has 2**shift of them.
        room: How much each chunk may list.
        counter: From which threads take the numbers of chunks.
        sums: Of each chunk Σ τ², and Σ τ² above the bracket; float64.
        numbers: Of each chunk how many lie above the bracket, and how many were to be listed.
        counts: This thread's own: in each bin, how many entries have its lowest pattern.
        listed: Of each chunk, how far the other patterns of the bracket lie above `low`; uint32.
        scratch: This thread's own memory, 3 · 4 · BLOCK bytes.
    """
    origin, tau = address(scratch, float32), address(scratch + 4 * BLOCK, float32)
    offsets, found = address(scratch + 8 * BLOCK, uint32), address(listed, uint32)
    bins, squares, count = address(counts, int64), address(sums, float64), address(numbers, int64)
    high = as_float(uint32(low + width))
    while True:
        number = next_chunk(counter)
        if number * chunk >= n:
            return 0
        end = min((number + 1) * chunk, n)
        total, above, many, place = 0.0, 0.0, 0, number * room
        for start in range(number * chunk, end, BLOCK):
            m = min(BLOCK, end - start)
            widen(base, base_kind, start, m, origin)
            widen(tuned, tuned_kind, start, m, tau)
            magnitudes(origin, tau, m)
            all_of_it, large, number_of_large = weigh(tau, m, high)
            total, above, many = total + all_of_it, above + large, many + number_of_large
            if width == 1:
                bins[0] += equal(tau, m, uint32(low))
            else:
                inside = within(tau, m, uint32(low), uint32(width), offsets)
                end_of_list = (number + 1) * room
                place = tally(offsets, inside, uint32(shift), bins, found, place, end_of_list)
        squares[2 * number], squares[2 * number + 1] = total, above
        count[2 * number], count[2 * number + 1] = many, place - number * room


# --- combine -------------------------------------------------------------------------------------


@njit(error_model="numpy")
def add(origin, tau, total, m, coefficient, ceiling):
    """Add c · τ · [|τ| > ceiling] of one source: its values become steps, taken off the total."""
    size = abs(coefficient)
    for i in range(m):
        # A step that is zero is +0, and x − (+0) is x to the bit even for x = −0.
        step = origin[i] - tau[i] if coefficient > float32(0) else tau[i] - origin[i]
        step = float32(0) if abs(step) <= ceiling else step
        total[i] = total[i] - step * size


def merge(
    base, base_kind, out, out_kind, n, chunk, sources, count, numbers, counter, beyond, scratch
):  # fmt: skip
    """Write base + Σ c · τ · [|τ| > ceiling] of a tensor.

    Args:
        base: A tensor of n entries.
        base_kind: Its dtype.
        out: Where to write, ...
        out_kind: ... and in which dtype.
        n: How many entries there are.
        chunk: How many a thread takes at once.
        sources: Address and dtype of this tensor of each source model; int64.
        count: How many source models there are.
        numbers: The coefficient c and the ceiling of each of them; float32.
        counter: From which threads take the numbers of chunks.
        beyond: Of each chunk, how many entries have no finite value; int64.
        scratch: This thread's own memory, 3 · 4 · BLOCK bytes.
    """
    origin, tau = address(scratch, float32), address(scratch + 4 * BLOCK, float32)
    total, lost = address(scratch + 8 * BLOCK, float32), address(beyond, int64)
    places, of_source = address(sources, int64), address(numbers, float32)
    while True:
        number = next_chunk(counter)
        if number * chunk >= n:
            return 0
        end, bad = min((number + 1) * chunk, n), 0
        for start in range(number * chunk, end, BLOCK):
            m = min(BLOCK, end - start)
            widen(base, base_kind, start, m, origin)
            for i in range(m):
                total[i] = origin[i]
            for j in range(count):
                widen(places[2 * j], places[2 * j + 1], start, m, tau)
                add(origin, tau, total, m, of_source[2 * j], of_source[2 * j + 1])
            bad += count_beyond(total, m, out_kind)
            narrow(total, m, out, out_kind, start)
        lost[number] = bad


LOOPS = {"look": look, "merge": merge}
"""What `compiled` compiles."""
