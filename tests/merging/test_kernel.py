"""The kernel against a float64 oracle, by hand-computed examples and by properties.

All of it for each way that the kernel has, however small the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import in_units_of_last_place, merged_in_float64, selection_in_float64
from torch import Tensor

from dots_mergekit.errors import NonFiniteError
from dots_mergekit.merging import chunks, fast
from dots_mergekit.merging.kernel import Selection, combine, select

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
BASE = torch.tensor(
    [[0.5, -1.0, 2.0, 0.0], [1.0, 1.0, -4.0, 8.0], [0.25, 3.0, -0.5, 1.0], [2.0, 2.0, 2.0, 2.0]]
)
TAU = torch.tensor(
    [[1.0, -2.0, 0.0, 0.5], [0.0, 4.0, -0.5, 0.0], [0.25, 0.0, -2.0, 0.0], [0.0, 0.0, 1.0, -8.0]]
)


@pytest.fixture(scope="module", params=["torch", "machine code"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """The way that all tensors go that can go it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "SMALLEST", 0 if request.param == "machine code" else 1 << 62)
        assert fast.can(BASE) == (request.param == "machine code")
        yield


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks so small that a short tensor has many."""
    monkeypatch.setattr(chunks, "_CHUNK", {"cpu": 5, "cuda": 5})
    monkeypatch.setattr(fast, "CHUNK", 5)


def test_a_four_by_four_tensor_by_hand() -> None:
    """Density 0.3 of 16 keeps ⌊4.8⌋ = 4 entries, 8, 4, −2 and −2, and restores the norm.

    ‖τ‖² = 64 + 16 + 2·4 + 2·1 + 2·0.25 + 0.0625 = 90.5625, and 88 of it is kept.
    """
    selection = select(BASE, BASE + TAU, 0.3)
    assert selection.threshold == 2.0
    assert selection.scale == pytest.approx(math.sqrt(90.5625 / 88), rel=1e-15)
    merged = combine(BASE, [BASE + TAU], [Selection(2.0, 1.5)], [2.0])
    kept = torch.tensor(
        [[0.0, -2.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0], [0.0, 0.0, -2.0, 0.0], [0.0, 0.0, 0.0, -8.0]]
    )
    assert torch.equal(merged, BASE + 3.0 * kept)


def test_entries_tied_with_the_threshold_are_all_kept() -> None:
    """Density 0.2 of 16 asks for 3 entries, but the third largest has a twin of opposite sign."""
    tied = TAU.clone()
    tied[2, 2] = 2.0
    assert select(BASE, BASE + tied, 0.2).threshold == 2.0
    merged = combine(BASE, [BASE + tied], [Selection(2.0, 1.0)], [1.0])
    assert int((merged != BASE).sum()) == 4


def test_fewer_nonzero_entries_than_asked_for_keep_everything() -> None:
    assert select(BASE, BASE + TAU, 0.9) == Selection(threshold=0.0, scale=1.0)


def test_at_least_one_entry_is_kept() -> None:
    assert select(BASE, BASE + TAU, 1e-9).threshold == 8.0


def test_without_rescaling_the_scale_is_one() -> None:
    assert select(BASE, BASE + TAU, 0.3, rescale=False) == Selection(threshold=2.0, scale=1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_density_one_is_task_arithmetic(dtype: torch.dtype) -> None:
    selection = select(BASE.to(dtype), (BASE + TAU).to(dtype), 1.0)
    assert selection == Selection(threshold=0.0, scale=1.0)
    merged = combine(BASE.to(dtype), [(BASE + TAU).to(dtype)], [selection], [1.0])
    assert torch.equal(merged, (BASE + TAU).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 3, 4)])
def test_every_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    base = torch.full(shape, 0.5, dtype=dtype)
    tuned = torch.full(shape, 0.75, dtype=dtype)
    merged = combine(base, [tuned], [select(base, tuned, 0.3)], [2.0])
    assert merged.shape == shape
    assert merged.dtype == dtype
    assert torch.equal(merged, torch.full(shape, 1.0, dtype=dtype))


def test_strides_do_not_matter() -> None:
    base, tuned = torch.randn(31, 17).t(), torch.randn(17, 62)[:, ::2]
    plain = base.contiguous(), tuned.contiguous()
    selection = select(base, tuned, 0.3)
    assert selection == select(plain[0], plain[1], 0.3)
    merged = combine(base, [tuned], [selection], [1.37])
    assert merged.is_contiguous()
    assert torch.equal(merged, combine(plain[0], [plain[1]], [selection], [1.37]))


def test_inputs_are_not_changed_and_need_no_gradient() -> None:
    base = torch.nn.Parameter(torch.randn(100))
    tuned = torch.nn.Parameter(torch.randn(100))
    before = base.detach().clone(), tuned.detach().clone()
    merged = combine(base, [tuned], [select(base, tuned, 0.3)], [1.0])
    assert not merged.requires_grad
    assert torch.equal(base, before[0])
    assert torch.equal(tuned, before[1])


def test_out_receives_the_result() -> None:
    base, tuned = torch.randn(4, 5), torch.randn(4, 5)
    selection = select(base, tuned, 0.3)
    out = torch.full((4, 5), torch.nan, dtype=torch.bfloat16)
    assert combine(base, [tuned], [selection], [1.0], out=out) is out
    assert torch.equal(out, combine(base, [tuned], [selection], [1.0]).bfloat16())
    assert torch.equal(combine(base, [tuned], [selection], [0.0], out=out), base.bfloat16())


def test_inputs_of_different_dtypes_are_subtracted_unrounded() -> None:
    """A bf16 base with an fp32 source: τ keeps the bits that bf16 lacks; the result has bf16's."""
    base = torch.tensor([1.0, 1.0], dtype=torch.bfloat16)
    tuned = torch.tensor([1.0 + 2**-12, 1.0])
    selection = select(base, tuned, 0.5)
    assert selection.threshold == 2**-12
    merged = combine(base, [tuned], [selection], [2.0**6])
    assert merged.dtype == torch.bfloat16
    assert merged.tolist() == [1.0 + 2**-6, 1.0]


# --- properties ---------------------------------------------------------------------------------

# Few distinct magnitudes make ties; the smallest floats and both zeros are where care is needed.
PIECES = {
    torch.bfloat16: [0.0, -0.0, 1.0, -1.0, 0.5, 2.0**-126, 2.0**-133, 3e38, 0.01, 100.0],
    torch.float16: [0.0, -0.0, 1.0, -1.0, 0.5, 2.0**-14, 2.0**-24, 3e4, 0.01, 100.0],
    torch.float32: [0.0, -0.0, 1.0, -1.0, 0.5, 2.0**-126, 2.0**-149, 1e38, 0.01, 100.0],
    torch.float64: [0.0, -0.0, 1.0, -1.0, 0.5, 2.0**-511, 2.0**-150, 1e150, 0.01, 100.0],
}


@st.composite
def tensors(draw: st.DrawFn, count: int) -> list[Tensor]:
    """`count` tensors of one dtype and size, with many ties, zeros and extremes."""
    dtype = draw(st.sampled_from(DTYPES))
    n = draw(st.integers(1, 40))
    value = st.sampled_from(PIECES[dtype]) | st.floats(-10, 10) | st.integers(-3, 3)
    rows = [draw(st.lists(value, min_size=n, max_size=n)) for _ in range(count)]
    same = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    made = [torch.tensor(row, dtype=torch.float64).to(dtype) for row in rows]
    # RLVR leaves most entries of a bfloat16 checkpoint as they were.
    return [made[0], *(torch.where(torch.tensor(same), made[0], row) for row in made[1:])]


densities = st.sampled_from([0.01, 0.3, 0.5, 0.999, 1.0]) | st.floats(0.001, 1.0)
weights = st.sampled_from([0.0, 0.5, 1.0, 1.37, 2.0, -1.0]) | st.floats(-3, 3)


@given(tensors(2), densities)
@settings(deadline=None)
def test_selection_equals_the_oracle(pair: list[Tensor], density: float) -> None:
    """The threshold exactly, the scale to the last bits of float64."""
    base, tuned = pair
    found = select(base, tuned, density)
    threshold, scale = selection_in_float64(base, tuned, density)
    assert found.threshold == threshold
    assert found.scale == pytest.approx(scale, rel=1e-13)


@given(tensors(2), densities)
@settings(deadline=None)
def test_rescaling_keeps_the_norm(pair: list[Tensor], density: float) -> None:
    base, tuned = pair
    found = select(base, tuned, density)
    tau = tuned.double().numpy() - base.double().numpy()
    norm = np.linalg.norm(tau)
    assume(np.all((np.abs(tau) < 1e150) & ((np.abs(tau) > 1e-150) | (tau == 0))))
    # τ of float32 inputs is itself rounded to float32 before it is compared with the threshold.
    kept = np.abs(tau) >= found.threshold * (1 - 2**-23)
    assert found.scale * np.linalg.norm(tau * kept) == pytest.approx(norm, rel=1e-6)


@given(tensors(3), densities, st.tuples(weights, weights))
@settings(deadline=None)
def test_merge_equals_the_oracle(
    trio: list[Tensor], density: float, pair: tuple[float, float]
) -> None:
    """Within one unit in the last place of the largest magnitude that takes part.

    Four in the wide dtypes, where the products and sums round as coarsely as the result.
    """
    base, *tuned = trio
    selections = [select(base, source, density) for source in tuned]
    want, largest = merged_in_float64(
        base, tuned, [(s.threshold, s.scale) for s in selections], pair
    )
    limit = torch.finfo(base.dtype).max
    assume(np.all(largest < limit / 4))
    got = combine(base, tuned, selections, pair)
    bound = 1 if base.dtype.itemsize == 2 else 4
    assert in_units_of_last_place(got, want, largest).max() <= bound


@given(tensors(3), densities)
@settings(deadline=None)
def test_weight_zero_and_a_zero_task_vector_give_the_bits_of_the_base(
    trio: list[Tensor], density: float
) -> None:
    """Also for −0.0, which `base + 0.0` would turn into +0.0, and for either sign of λ."""
    base, other, _ = trio
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[base.element_size()]
    unchanged = select(base, base, density)
    for weight in (1.37, -1.0):
        merged = combine(base, [base, other], [unchanged, Selection(0.0, 1.0)], [weight, 0.0])
        assert torch.equal(merged.view(bits), base.view(bits))
    # Entries that are not kept are as safe as those that do not differ.
    nothing_kept = Selection(threshold=math.inf, scale=1.0)
    for weight in (1.37, -1.0):
        merged = combine(base, [other], [nothing_kept], [weight])
        assert torch.equal(merged.view(bits), base.view(bits))


@given(trio=tensors(3), density=densities, order=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_entries_does_not_matter(trio: list[Tensor], density: float, order) -> None:  # type: ignore[no-untyped-def]  # hypothesis' Random
    base, tuned, _ = trio
    shuffled = list(range(base.numel()))
    order.shuffle(shuffled)
    a, b = select(base, tuned, density), select(base[shuffled], tuned[shuffled], density)
    assert a.threshold == b.threshold
    assert a.scale == pytest.approx(b.scale, rel=1e-15)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("dtype", DTYPES)
def test_chunks_and_threads_leave_no_trace(dtype: torch.dtype, threads: int) -> None:
    """1, 2 and 8 threads give the same bits, and many chunks the oracle's selection."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(997, generator=generator).to(dtype)
    sources = [
        (base.float() + torch.randn(997, generator=generator) * size).to(dtype)
        for size in (1e-2, 1e-3)
    ]
    outcomes = []
    for count in (1, 2, 8):
        torch.set_num_threads(count)
        selections = [select(base, source, 0.3) for source in sources]
        assert torch.get_num_threads() == count
        outcomes.append((selections, combine(base, sources, selections, [1.37, -1.0])))
    for selections, merged in outcomes[1:]:
        assert selections == outcomes[0][0]
        assert torch.equal(merged, outcomes[0][1])
    for source, selection in zip(sources, outcomes[0][0], strict=True):
        threshold, scale = selection_in_float64(base, source, 0.3)
        assert selection.threshold == threshold
        assert selection.scale == pytest.approx(scale, rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_full_size_chunks_and_threads_leave_no_trace(dtype: torch.dtype, threads: int) -> None:
    """As above with the chunks that real tensors get, and an RLVR-like τ full of ties."""
    n = (1 << 21) + 12345
    generator = torch.Generator().manual_seed(1)
    base = (torch.randn(n, generator=generator) * 0.02).to(dtype)
    step = torch.randint(-2, 3, (n,), generator=generator) * 2.0**-12
    tuned = (base.float() + step * (torch.rand(n, generator=generator) < 1 / 3)).to(dtype)
    outcomes = []
    for count in (1, 2, 8):
        torch.set_num_threads(count)
        selection = select(base, tuned, 0.1)
        outcomes.append((selection, combine(base, [tuned], [selection], [1.37])))
    threshold, scale = selection_in_float64(base, tuned, 0.1)
    assert outcomes[0][0].threshold == threshold
    assert outcomes[0][0].scale == pytest.approx(scale, rel=1e-12)
    for selection, merged in outcomes[1:]:
        assert selection == outcomes[0][0]
        assert torch.equal(merged, outcomes[0][1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("sampled", "others"), [(8.0, 1.0), (0.0, 1.0), (1e-3, 1.0), (1.0, 0.0)])
def test_a_misleading_sample_does_not_mislead_the_selection(
    dtype: torch.dtype, sampled: float, others: float
) -> None:
    """Every entry that the sample takes in has another size than all the others."""
    n = 1 << 17
    stride = fast.stride(n)
    generator = torch.Generator().manual_seed(3)
    size = torch.where(torch.arange(n) % stride == 0, sampled, others)
    tuned = (size * (1 + torch.rand(n, generator=generator))).to(dtype)
    base = torch.zeros_like(tuned)
    for density in (0.01, 0.3, 0.97):
        found = select(base, tuned, density)
        threshold, scale = selection_in_float64(base, tuned, density)
        assert found.threshold == threshold
        assert found.scale == pytest.approx(scale, rel=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_equals_cpu(dtype: torch.dtype) -> None:
    """The same thresholds, and merged tensors at most one unit in the last place apart."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    generator = torch.Generator().manual_seed(2)
    base = (torch.randn(3_000_001, generator=generator) * 0.02).to(dtype)
    tuned = (base.float() + torch.randn(base.shape, generator=generator) * 1e-3).to(dtype)
    here = select(base, tuned, 0.3)
    there = select(base.cuda(), tuned.cuda(), 0.3)
    assert there.threshold == here.threshold
    assert there.scale == pytest.approx(here.scale, rel=1e-13)
    on_cpu = combine(base, [tuned], [here], [1.37])
    on_gpu = combine(base.cuda(), [tuned.cuda()], [there], [1.37]).cpu()
    want = on_cpu.double().numpy()
    assert in_units_of_last_place(on_gpu, want, np.abs(want)).max() <= 1


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_non_finite_inputs_are_named(bad: float, position: int, density: float) -> None:
    """By `select`, or by `combine` at density 1, where there is nothing to select."""
    pair = [torch.ones(50), torch.full((50,), 2.0)]
    pair[position][7] = bad
    with pytest.raises(NonFiniteError, match="1 of 50 entries are NaN or infinite") as caught:
        combine(pair[0], [pair[1]], [select(pair[0], pair[1], density)], [1.0])
    assert caught.value.input == position


def test_infinity_where_the_other_has_another_is_found() -> None:
    """Opposite signs, and one NaN that is not the other, are differences."""
    ours = torch.tensor([1.0, math.inf, 2.0])
    with pytest.raises(NonFiniteError) as caught:
        select(ours, -ours, 0.3)
    assert caught.value.input == 0
    bits = torch.tensor([0x7FC00000, 0x7FC00001], dtype=torch.int32).view(torch.float32)
    with pytest.raises(NonFiniteError):
        select(bits[:1], bits[1:], 0.3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_what_is_infinite_everywhere_alike_stays(bad: float, density: float) -> None:
    """The masks of old models hold -inf, and no fine-tune changes them."""
    base = torch.tensor([bad, 1.0, 2.0, 3.0])
    tuned = [base + torch.tensor([0.0, 0.5, -1.0, 4.0]), base + torch.tensor([0.0, 1.0, 1.0, 1.0])]
    selections = [select(base, source, density) for source in tuned]
    merged = combine(base, tuned, selections, [1.0, 0.5])
    rest = combine(base[1:], [source[1:] for source in tuned], selections, [1.0, 0.5])
    assert torch.equal(merged[1:], rest)
    assert torch.equal(merged[:1].view(torch.int32), base[:1].view(torch.int32))
    mask = torch.full((), bad)
    assert select(mask, mask.clone(), density) == Selection(0.0, 1.0)


def test_what_only_one_source_shares_is_found() -> None:
    base = torch.tensor([-math.inf, 1.0, 2.0])
    tuned = [base + 1, torch.ones(3)]
    with pytest.raises(NonFiniteError) as caught:
        combine(base, tuned, [Selection(0.0, 1.0)] * 2, [1.0, 1.0])
    assert caught.value.input == 0
    # A source that takes no part is not asked.
    assert combine(base, tuned, [Selection(0.0, 1.0)] * 2, [1.0, 0.0])[0] == -math.inf


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_buffers_of_whole_numbers_are_the_bases(dtype: torch.dtype) -> None:
    """Masks, positions and counters: there is no half way between them."""
    base = torch.tensor([0, 1, 1]).to(dtype)
    tuned = torch.tensor([1, 1, 0]).to(dtype)
    assert select(base, tuned, 0.3) == Selection(0.0, 1.0)
    assert torch.equal(combine(base, [tuned], [Selection(0.0, 1.0)], [1.0]), base)
    wide = torch.empty(3)
    assert combine(base, [tuned], [Selection(0.0, 1.0)], [1.0], out=wide).tolist() == [0, 1, 1]


def test_matrices_of_whole_numbers_that_differ_are_refused() -> None:
    """They are weights that were quantized."""
    base = torch.tensor([[1, 2], [3, 4]], dtype=torch.int8)
    assert torch.equal(combine(base, [base.clone()], [Selection(0.0, 1.0)], [1.0]), base)
    with pytest.raises(ValueError, match=r"the base tensor is torch\.int8; expected"):
        select(base, base + 1, 0.3)


@given(tensors(3), densities, st.tuples(weights, weights), st.data())
@settings(deadline=None)
def test_equal_infinities_change_nothing_else(
    trio: list[Tensor], density: float, pair: tuple[float, float], data: st.DataObject
) -> None:
    """The same merge as with zeros in these places; there, the base's bits."""
    n = len(trio[0])
    where = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    bad = data.draw(st.sampled_from([math.inf, -math.inf, math.nan]))
    marked, zeroed = ([tensor.masked_fill(where, v) for tensor in trio] for v in (bad, 0.0))
    try:
        want, selections = merged_with(zeroed, density, pair)
    except NonFiniteError:
        with pytest.raises(NonFiniteError):
            merged_with(marked, density, pair)
        return
    got, found = merged_with(marked, density, pair)
    assert found == selections or density == 1
    assert torch.equal(got[~where], want[~where])
    assert torch.equal(got[where], marked[0][where]) or math.isnan(bad)


def merged_with(
    trio: list[Tensor], density: float, pair: tuple[float, float]
) -> tuple[Tensor, list[Selection]]:
    base, *tuned = trio
    selections = [select(base, source, density) for source in tuned]
    return combine(base, tuned, selections, pair), selections


def test_a_result_beyond_the_dtype_is_an_error_and_the_largest_value_is_not() -> None:
    base, tuned = torch.tensor([0.0, 1.0]).half(), torch.tensor([65504.0, 1.0]).half()
    selection = select(base, tuned, 0.5)
    assert combine(base, [tuned], [selection], [1.0]).tolist() == [65504.0, 1.0]
    with pytest.raises(NonFiniteError, match=r"exceeds the range of torch\.float16") as caught:
        combine(base, [tuned], [selection], [1.1])
    assert caught.value.input is None


def test_a_difference_beyond_float32_is_an_error() -> None:
    base, tuned = torch.tensor([-3e38, 1.0]).bfloat16(), torch.tensor([3e38, 1.0]).bfloat16()
    with pytest.raises(NonFiniteError, match="the difference, or its norm, exceeds"):
        select(base, tuned, 0.5)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, math.nan])
def test_density_must_be_a_share(density: float) -> None:
    with pytest.raises(ValueError, match=r"density must lie in \(0, 1\]"):
        select(BASE, BASE, density)


def test_shapes_dtypes_and_lengths_must_fit() -> None:
    one = Selection(0.0, 1.0)
    with pytest.raises(ValueError, match=r"source tensor 1 is \(3, 4\) on cpu, but the base"):
        select(BASE, BASE[:3], 0.3)
    with pytest.raises(ValueError, match=r"the base tensor is torch\.int8; expected"):
        select(BASE.char(), BASE, 0.3)
    with pytest.raises(ValueError, match="1 source models, 1 selections and 2 weights"):
        combine(BASE, [BASE], [one], [1.0, 2.0])
    with pytest.raises(ValueError, match="weights must be finite"):
        combine(BASE, [BASE], [one], [math.nan])
    with pytest.raises(ValueError, match="out must be contiguous"):
        combine(BASE, [BASE], [one], [1.0], out=torch.empty(4, 4).t())
