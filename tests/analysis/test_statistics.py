"""The sums over task vectors against plain NumPy in float64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dots_mergekit.analysis.fast import can
from dots_mergekit.analysis.levels import DENSITIES
from dots_mergekit.analysis.statistics import Sums, measure
from dots_mergekit.errors import NonFiniteError
from dots_mergekit.merging import fast

Array = NDArray[np.float64]


@pytest.fixture(scope="module", params=["torch", "machine code"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """The way that all tensors go that can go it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "SMALLEST", 0 if request.param == "machine code" else 1 << 62)
        assert can(torch.zeros(3)) == (request.param == "machine code")
        yield


def widened(tensor: Tensor) -> Array:
    return tensor.double().numpy().ravel()


def kept_by_sorting(tau: Array, density: float) -> NDArray[np.bool_]:
    """The entries with |τ| ≥ the k-th largest, as the definition reads; zeros never."""
    magnitude = np.abs(tau).astype(np.float32)
    k = max(1, math.floor(density * tau.size))
    threshold = 0 if density == 1 else np.sort(magnitude)[tau.size - k]
    kept: NDArray[np.bool_] = (magnitude >= threshold) & (magnitude > 0)
    return kept


def require_equal(found: Sums, base: Tensor, tuned: list[Tensor]) -> None:
    """Compare every sum with its definition."""
    origin = widened(base)
    taus = [widened(source) - origin for source in tuned]
    kept = [[kept_by_sorting(tau, density) for density in DENSITIES] for tau in taus]
    assert found.entries == origin.size
    assert found.base_squares == pytest.approx(np.sum(origin**2), rel=1e-6)
    for source, tau, masks in zip(found.sources, taus, kept, strict=True):
        assert source.squares == pytest.approx(np.sum(tau**2), rel=1e-6)
        scale = float(np.linalg.norm(origin) * np.linalg.norm(tau))
        assert source.along == pytest.approx(np.sum(origin * tau), rel=1e-6, abs=1e-6 * scale)
        assert source.kept.tolist() == [mask.sum() for mask in masks]
        np.testing.assert_allclose(source.energy, [np.sum(tau[m] ** 2) for m in masks], rtol=1e-6)
        _, exponents = np.frexp(np.abs(tau).astype(np.float32)[tau != 0])
        counted = np.bincount(np.maximum(exponents + 126, 0), minlength=256)
        assert source.octaves[1:].tolist() == counted[1:].tolist()
    pairs = itertools.combinations(range(len(taus)), 2)
    for pair, (a, b) in zip(found.pairs, pairs, strict=True):
        scale = float(np.linalg.norm(taus[a]) * np.linalg.norm(taus[b]))
        assert pair.dot == pytest.approx(np.sum(taus[a] * taus[b]), rel=1e-6, abs=1e-6 * scale)
        both = [x & y for x, y in zip(kept[a], kept[b], strict=True)]
        opposed = np.sign(taus[a]) * np.sign(taus[b]) < 0
        assert pair.both.tolist() == [mask.sum() for mask in both]
        assert pair.conflicts.tolist() == [(mask & opposed).sum() for mask in both]
        chance = [x.mean() * y.sum() for x, y in zip(kept[a], kept[b], strict=True)]
        np.testing.assert_allclose(pair.by_chance, chance, rtol=1e-6)


def triple(n: int, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """A base, a model far from it, one that is very near, and one that is like the second."""
    made = torch.Generator().manual_seed(seed)
    base = torch.randn(n, generator=made) * 0.02
    far = base + torch.randn(n, generator=made) * 1e-2
    near = base + torch.randn(n, generator=made) * 1e-4
    like = far + torch.randn(n, generator=made) * 1e-3
    return [tensor.to(dtype) for tensor in (base, far, near, like)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 7, 20, 1000, 16_384, 16_385, 70_000])
def test_every_sum_is_what_its_definition_says(n: int, dtype: torch.dtype) -> None:
    base, *tuned = triple(n, dtype)
    require_equal(measure(base, tuned), base, tuned)


def test_several_chunks_on_several_threads_give_the_same_bits() -> None:
    base, *tuned = triple(600_000, torch.bfloat16)
    found = {}
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found[threads] = measure(base, tuned)
    finally:
        torch.set_num_threads(before)
    require_equal(found[1], base, tuned)
    assert float(found[1].pairs[0].dot) == float(found[3].pairs[0].dot)
    for one, other in zip(found[1].sources, found[3].sources, strict=True):
        assert one.squares == other.squares
        assert one.energy.tolist() == other.energy.tolist()


@pytest.mark.parametrize(
    "values",
    [
        [0.0],  # no change at all
        [1e-3],  # one value for all: every threshold is the same
        [0.0, 0.0, 0.0, 1e-3],  # fewer changes than most densities keep
        [1 + i * 2.0**-23 for i in range(12)],  # several thresholds in one bin
        [1 + i * 2.0**-16 for i in range(-30, 30)],
        [1e-41, 1e-44, 0.0, -1e-42],  # smaller than any normal number
        [(-1) ** i * 2.0**-i for i in range(24)],
        [*(2.0**-i for i in range(18)), 1 + 2.0**-23, -1 - 2.0**-22],  # few have a lower half
    ],
)
@pytest.mark.parametrize("n", [100, 40_000])
def test_ties_zeros_and_crowds(values: list[float], n: int) -> None:
    drawn = torch.randint(len(values), (n,), generator=torch.Generator().manual_seed(1))
    base, one = torch.zeros(n), torch.tensor(values)[drawn]
    other = torch.tensor(values)[drawn.flip(0)] * (1 - 2 * (drawn % 2))
    require_equal(measure(base, [one, other]), base, [one, other])


def test_sums_of_tensors_add_up() -> None:
    whole = triple(5000, torch.float32)
    one, other = [t[:2000] for t in whole], [t[2000:] for t in whole]
    summed = measure(one[0], one[1:]) + measure(other[0], other[1:])
    assert summed.entries == 5000
    tau = widened(whole[1]) - widened(whole[0])
    assert summed.sources[0].squares == pytest.approx(np.sum(tau**2), rel=1e-6)


def test_what_is_not_a_number_names_its_input() -> None:
    base, far, near, _ = triple(100, torch.float32)
    near[3] = math.nan
    with pytest.raises(NonFiniteError, match="1 of 100 entries") as caught:
        measure(base, [far, near])
    assert caught.value.input == 2


def test_what_is_infinite_in_all_inputs_alike_counts_as_no_change() -> None:
    base, far, near, _ = triple(100, torch.float32)
    for tensor in (base, far, near):
        tensor[3] = -math.inf
    found = measure(base, [far, near])
    for tensor in (base, far, near):
        tensor[3] = 0
    require_equal(found, base, [far, near])
