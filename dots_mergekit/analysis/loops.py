"""The passes of an analysis as loops for machine code: read, never run, by `merging.compiled`.

As `merging.loops`, which see: whole numbers are all that they take, and threads share a tensor out
by a counter.
"""

from __future__ import annotations

from numba import float32, float64, int32, int64, njit, uint32

from dots_mergekit.merging.loops import BLOCK, address, as_bits, next_chunk, widen

__all__ = ["LOOPS"]

LANES = 4
"""Tables in which neighbours are counted apart: of one, a core would wait for its own last
increment, as most entries of an RLVR model fall into one bin."""

UPPER = 1 << 15
"""How many values the upper half of the bit pattern of a magnitude has."""


@njit(error_model="numpy", fastmath={"reassoc", "nsz", "contract"})
def product(one, other, m):
    """Give Σ of the products, in float64."""
    total = 0.0
    for i in range(m):
        total += float64(one[i]) * float64(other[i])
    return total


@njit(error_model="numpy")
def subtract(tau, origin, m):
    """Turn m values of a source model into τ."""
    for i in range(m):
        tau[i] = tau[i] - origin[i]


@njit(error_model="numpy")
def count_uppers(tau, m, counts):
    """Count the upper halves of the bit patterns of |τ|."""
    for i in range(m):
        upper = (as_bits(tau[i]) & uint32(0x7FFFFFFF)) >> uint32(16)
        counts[(i % LANES) * UPPER + int64(upper)] += 1


@njit(error_model="numpy")
def find_lower(tau, m, found):
    """Write the bit patterns of |τ| that have a lower half; give how many there are."""
    count = 0
    for i in range(m):
        bits = uint32(as_bits(tau[i]) & uint32(0x7FFFFFFF))
        found[count] = bits
        count += int64((bits & uint32(0xFFFF)) != uint32(0))
    return count


def survey(
    base, base_kind, sources, several, n, chunk, room, counter,
    products, counts, listed, numbers, scratch,
):  # fmt: skip
    """Add up products of the task vectors of a tensor, and count their magnitudes.

    Args:
        base: A tensor of n entries.
        base_kind: Its dtype.
        sources: Address and dtype of this tensor of each source model; int64.
        several: How many source models there are.
        n: How many entries there are.
        chunk: How many a thread takes at once.
        room: How many patterns of each source a chunk may list.
        counter: From which threads take the numbers of chunks.
        products: Of each chunk: of the base with itself, and with each τ, and of each two τ, in
            the order of pairs; float64.
        counts: This thread's own: of each source, in lanes, how many have each upper half; int64.
        listed: Of each chunk and source, the patterns that have a lower half; uint32.
        numbers: How many these are, whether there was room for them or not; int64.
        scratch: This thread's own memory, (2 + several) · 4 · BLOCK bytes.
    """
    origin, found = address(scratch, float32), address(scratch + 4 * BLOCK, uint32)
    places, tables = address(sources, int64), counts
    sums, lists, many = address(products, float64), address(listed, uint32), address(numbers, int64)
    size = 1 + several + several * (several - 1) // 2
    while True:
        number = next_chunk(counter)
        if number * chunk >= n:
            return 0
        end = min((number + 1) * chunk, n)
        for start in range(number * chunk, end, BLOCK):
            m = min(BLOCK, end - start)
            widen(base, base_kind, start, m, origin)
            place = number * size
            sums[place] += product(origin, origin, m)
            for a in range(several):
                tau = address(scratch + (2 + a) * 4 * BLOCK, float32)
                widen(places[2 * a], places[2 * a + 1], start, m, tau)
                subtract(tau, origin, m)
                sums[place + 1 + a] += product(origin, tau, m)
                count_uppers(tau, m, address(tables + a * LANES * UPPER * 8, int64))
                new, row = find_lower(tau, m, found), number * several + a
                for i in range(min(new, room - many[row])):
                    lists[row * room + many[row] + i] = found[i]
                many[row] += new
            place += 1 + several
            for a in range(several):
                for b in range(a + 1, several):
                    one = address(scratch + (2 + a) * 4 * BLOCK, float32)
                    other = address(scratch + (2 + b) * 4 * BLOCK, float32)
                    sums[place] += product(one, other, m)
                    place += 1


@njit(error_model="numpy")
def encode(tau, m, by_upper, steps, depth, codes):
    """Give the code of each entry by the tables of `levels.Levels`."""
    for i in range(m):
        codes[i] = by_upper[as_bits(tau[i]) >> uint32(16)]
    for j in range(depth):
        lowest, shared = 2 * j * 2 * UPPER, (2 * j + 1) * 2 * UPPER
        for i in range(m):
            bits = as_bits(tau[i])
            upper = int64(bits >> uint32(16))
            below = int32(bits & uint32(0x7FFFFFFF)) < steps[lowest + upper]
            codes[i] += steps[shared + upper] if below else int32(0)


@njit(error_model="numpy")
def count_pairs(one, other, m, codes, counts):
    """Count which codes meet."""
    for i in range(m):
        lane = (i % LANES) * codes * codes
        counts[lane + int64(one[i]) * codes + int64(other[i])] += 1


def meet(
    base, base_kind, sources, several, n, chunk, codes, tables, counter, counts, scratch
):  # fmt: skip
    """Count which codes each two task vectors have in one place.

    Args:
        base: A tensor of n entries.
        base_kind: Its dtype.
        sources: Address and dtype of this tensor of each source model; int64.
        several: How many source models there are.
        n: How many entries there are.
        chunk: How many a thread takes at once.
        codes: How many codes there are.
        tables: Of each source the addresses of its code by upper half and of its steps (of each
            the bounds, then what is added; int32), and how many steps there are; int64.
        counter: From which threads take the numbers of chunks.
        counts: This thread's own: of each pair, in lanes, how often which codes meet; int64.
        scratch: This thread's own memory, (2 + several) · 4 · BLOCK bytes.
    """
    origin, tau = address(scratch, float32), address(scratch + 4 * BLOCK, float32)
    places, of_source = address(sources, int64), address(tables, int64)
    while True:
        number = next_chunk(counter)
        if number * chunk >= n:
            return 0
        end = min((number + 1) * chunk, n)
        for start in range(number * chunk, end, BLOCK):
            m = min(BLOCK, end - start)
            widen(base, base_kind, start, m, origin)
            for a in range(several):
                widen(places[2 * a], places[2 * a + 1], start, m, tau)
                subtract(tau, origin, m)
                by_upper = address(of_source[3 * a], int32)
                steps = address(of_source[3 * a + 1], int32)
                own = address(scratch + (2 + a) * 4 * BLOCK, int32)
                encode(tau, m, by_upper, steps, of_source[3 * a + 2], own)
            pair = counts
            for a in range(several):
                for b in range(a + 1, several):
                    one = address(scratch + (2 + a) * 4 * BLOCK, int32)
                    other = address(scratch + (2 + b) * 4 * BLOCK, int32)
                    count_pairs(one, other, m, codes, address(pair, int64))
                    pair += LANES * codes * codes * 8


LOOPS = {"survey": survey, "meet": meet}
"""What `merging.compiled` compiles."""
