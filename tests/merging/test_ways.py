"""The contract of the ways that the kernel has: the same thresholds, bits and errors by each.

Where there is a card, it is one of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dots_mergekit.errors import NonFiniteError
from dots_mergekit.merging import chunks, fast, reference
from dots_mergekit.merging.kernel import Selection, combine, select

DTYPES = [torch.bfloat16, torch.float16, torch.float32]
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextlib.contextmanager
def way(name: str) -> Iterator[None]:
    """Let all tensors go one way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "SMALLEST", 0 if name == "machine code" else 1 << 62)
        yield


def ways(trio: Sequence[Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
    """The ways there are, with tensors where they are computed with; the reference first."""
    yield "torch", list(trio)
    yield "machine code", list(trio)
    if torch.cuda.is_available():
        yield "cuda", [tensor.cuda() for tensor in trio]


Outcome = tuple[list[Selection], Tensor] | tuple[str, int | None]


def merged(
    name: str, trio: Sequence[Tensor], density: float, weights: Sequence[float], out: torch.dtype
) -> Outcome:
    """What `select` and then `combine` find, or how they refuse."""
    base, *tuned = trio
    into = torch.empty(base.shape, dtype=out, device=base.device)
    try:
        with way(name):
            found = [select(base, source, density) for source in tuned]
            # Of the same scales: these may differ in their last bits.
            same = [Selection(one.threshold, 1.25) for one in found]
            return found, combine(base, tuned, same, weights, out=into).cpu()
    except NonFiniteError as error:
        return str(error), error.input


def assert_all_alike(
    trio: Sequence[Tensor], density: float, weights: Sequence[float], out: torch.dtype
) -> None:
    """Each way gives what the reference gives, to the bit; the scales to those of a sum's order."""
    (_, first), *others = [
        (name, merged(name, there, density, weights, out)) for name, there in ways(trio)
    ]
    for name, other in others:
        if isinstance(first[0], str) or isinstance(other[0], str):
            assert other == first, name
            continue
        assert [one.threshold for one in other[0]] == [one.threshold for one in first[0]], name
        for here, there in zip(other[0], first[0], strict=True):
            assert here.scale == pytest.approx(there.scale, rel=1e-13), name
        assert isinstance(first[1], Tensor)
        assert isinstance(other[1], Tensor)
        bits = INTEGERS[first[1].element_size()]
        assert torch.equal(other[1].view(bits), first[1].view(bits)), name


@pytest.fixture(scope="module", params=[5, 1 << 17])
def chunk(request: pytest.FixtureRequest) -> Iterator[int]:
    """Entries that a thread takes at once: few, so that short tensors have many chunks, or many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_CHUNK", {"cpu": request.param, "cuda": request.param})
        patch.setattr(fast, "CHUNK", request.param)
        yield request.param


# Every bit pattern of 16 bits, NaN and infinity included, is as likely as any other.
patterns = st.integers(-(1 << 15), (1 << 15) - 1)
plain = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1.0078125, 65504.0, 2.0**-24, 2.0**-130])


@st.composite
def trios(draw: st.DrawFn, *, strange: bool) -> list[Tensor]:
    """A base and two sources of any three dtypes: ties, zeros, subnormals, whatever strides."""
    n = draw(st.integers(1, 30))
    made = []
    for _ in range(3):
        dtype = draw(st.sampled_from(DTYPES))
        if strange and dtype.itemsize == 2:
            bits = draw(st.lists(patterns, min_size=n, max_size=n))
            tensor = torch.tensor(bits, dtype=torch.int16).view(dtype)
        else:
            value = plain | st.floats(-4, 4, width=32)
            row = draw(st.lists(value, min_size=n, max_size=n))
            tensor = torch.tensor(row, dtype=torch.float64).to(dtype)
        if draw(st.booleans()):
            tensor = torch.stack([tensor, torch.full_like(tensor, 7)], dim=1)[:, 0]
        made.append(tensor)
    for i in (1, 2):
        if draw(st.booleans()):  # most entries of an RLVR model are its base's
            same = torch.tensor(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
            kept = made[0].to(made[i].dtype)
            made[i] = torch.where(same, kept, made[i])
    return made


densities = st.sampled_from([0.01, 0.3, 0.5, 0.999, 1.0])
weights = st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 1.37, -1.0, 1e-30, 1e30])] * 2)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("strange", [False, True])
@given(data=st.data(), density=densities, pair=weights, out=st.sampled_from(DTYPES))
@settings(deadline=None, max_examples=150)
def test_every_way_gives_the_same(
    strange: bool, data: st.DataObject, density: float, pair: tuple[float, float], out: torch.dtype
) -> None:
    assert_all_alike(data.draw(trios(strange=strange)), density, pair, out)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_value_is_widened_and_narrowed_alike(dtype: torch.dtype) -> None:
    """All bit patterns of 16 bits that are finite, and what lies between two of them."""
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[torch.isfinite(every)]
    zero = torch.zeros_like(every)
    assert_all_alike([zero, every, zero], 1.0, [1.0, 0.0], torch.float32)
    generator = torch.Generator().manual_seed(0)
    gap = every.float().abs() * 2.0**-8 * torch.rand(every.shape, generator=generator)
    halfway = every.float() + torch.where(
        torch.rand(every.shape, generator=generator) < 0.5, 0, gap
    )
    for values in (halfway, every.float() * (1 + 2.0**-9), every.float() * (1 + 2.0**-12)):
        fits = values[torch.isfinite(values.to(dtype))]
        nothing = torch.zeros_like(fits)
        assert_all_alike([nothing, fits, nothing], 1.0, [1.0, 0.0], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_finite_result_and_the_next_are_told_apart(dtype: torch.dtype) -> None:
    """What still rounds to the largest value is one, and what rounds to infinity an error."""
    most = torch.finfo(dtype).max
    step = most * 2.0 ** -{torch.bfloat16: 9, torch.float16: 12, torch.float32: 25}[dtype]
    for share in (0.0, 0.5, 0.999, 1.0, 1.5, 4.0):
        base = torch.tensor([most, 1.0])
        tuned = base + torch.tensor([step * share, 0.0])
        assert_all_alike([base, tuned, base], 1.0, [1.0, 0.0], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.95])
def test_large_tensors_of_every_kind(dtype: torch.dtype, share: float) -> None:
    """Continuous, tied, mostly zero, of one magnitude, sorted, and of two lumps far apart."""
    n = (1 << 18) + 77
    generator = torch.Generator().manual_seed(4)
    base = (torch.randn(n, generator=generator) * 0.02).to(dtype)
    noise = torch.randn(n, generator=generator)
    few = torch.rand(n, generator=generator)
    rows = {
        "continuous": noise * 1e-3,
        "tied": torch.round(noise) * 2.0**-10,
        "mostly zero": noise * (few < 0.05),
        "one magnitude": torch.sign(noise) * 2.0**-8,
        "sorted": noise.sort().values,
        "two lumps": torch.where(few < 0.5, 1.0, 2.0**-10) * (1 + noise * 1e-6),
    }
    for made in rows.values():
        tuned = (base.float() + made).to(dtype)
        assert_all_alike([base, tuned, base], share, [1.37, 1.0], dtype)


def test_what_lies_in_the_bracket_may_be_too_much_for_the_list() -> None:
    """Two lumps of fine digits, and the threshold about where they meet."""
    n = 3 << 17
    generator = torch.Generator().manual_seed(5)
    tuned = torch.tensor([1.0000001, 1.1000001, 3.0])[torch.arange(n) % 3]
    tuned = tuned[torch.randperm(n, generator=generator)]
    base = torch.zeros(n)
    assert fast.find_threshold(base, tuned, n * 2 // 3) is None
    assert_all_alike([base, tuned, base], 2 / 3, [1.0, 0.0], torch.float32)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_errors_say_the_same(bad: float) -> None:
    trio = [torch.ones(40), torch.full((40,), 2.0), torch.zeros(40)]
    for at in range(3):
        marked = [tensor.clone() for tensor in trio]
        marked[at][7] = bad
        assert_all_alike(marked, 0.5, [1.0, 1.0], torch.float32)
    assert_all_alike([tensor.index_fill(0, torch.tensor([7]), bad) for tensor in trio], 0.5,
                     [1.0, 1.0], torch.float32)  # fmt: skip


def test_float64_and_other_devices_take_the_reference() -> None:
    with way("machine code"):
        assert fast.can(torch.zeros(3), torch.zeros(3).half())
        assert not fast.can(torch.zeros(3), torch.zeros(3).double())
        assert not fast.can(torch.zeros(3), torch.zeros(3, device="meta"))
    assert not fast.can(torch.zeros(fast.SMALLEST - 1))


# --- what a card has to do -----------------------------------------------------------------------


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is untyped
    """Counts what torch is asked to compute, and how often a card would be waited for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launched = self.waited = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]  # torch's own signature is untyped
        name = function.overloadpacket.__name__
        if name == "_local_scalar_dense":
            self.waited += 1
        elif not function.is_view:
            self.launched += 1
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_launches_and_waits_of_the_reference_are_bounded(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """As `reference` says; counted on a CPU, where torch is asked for the same.

    What is read of a histogram is read of its copy in the CPU's memory: one wait for each.
    """
    count = 4
    base = torch.linspace(-1, 1, 1 << 10, dtype=torch.float32).to(dtype)
    tuned = (base * 1.1).to(dtype)
    monkeypatch.setattr(chunks, "_CHUNK", {"cpu": len(base) // count, "cuda": 1})
    passes = 2 + (3 if dtype != torch.float64 else 6)
    with way("torch"):
        with Counting() as selecting:
            found = reference.find_threshold(base, tuned, 300)
        steps = [reference.Step(tuned, found.value / 2, 1.0)] * 2
        with Counting() as adding:
            reference.add(base, steps, torch.empty_like(base))
    assert found.value > 0
    assert selecting.launched <= passes * (11 * count + 24)
    assert adding.waited == 1
    assert adding.launched <= count * (4 + 7 * 2) + 4


def test_the_sample_of_the_machine_code_takes_no_longer_than_it_saves() -> None:
    """At most one entry in 64 of a large tensor, and never in steps of an even number."""
    for n in (1 << 20, 1 << 23, 1 << 27, 3 * 896 * 4864):
        assert n / fast.stride(n) <= max(1 << 13, n / 64)
        assert fast.stride(n) % 2 == 1


def test_bytes_do_not_depend_on_the_number_of_threads() -> None:
    n = (1 << 20) + 3
    generator = torch.Generator().manual_seed(6)
    base = torch.randn(n, generator=generator).bfloat16()
    tuned = base + (torch.randn(n, generator=generator) * 1e-2).bfloat16()
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            with way("machine code"):
                selection = select(base, tuned, 0.3)
                found.append((selection, combine(base, [tuned], [selection], [1.37])))
    finally:
        torch.set_num_threads(before)
    for selection, out in found[1:]:
        assert selection == found[0][0]
        assert np.array_equal(out.view(torch.int16).numpy(), found[0][1].view(torch.int16).numpy())
