"""Which way to search is worth its tokens? Policies, replayed on recorded worlds with known truth.

    python evals/choice/replay.py evals/choice/recorded/*.parquet --runs 45

For each world and policy: the tokens generated as a share of the paper's protocol, and the regret,
in percentage points of the mean accuracy over the world's families of test questions. Two regrets
are printed. Against the best: how far the choice is below the best grid point by the same test
questions, which noise flatters. Against labels: how far it is below the point that is best on one
half of the test questions, both measured on the other half, over halves; it can be negative.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from policies import Box, Policy, run
from worlds import World, read

from dots_mergekit.messages import markdown_table

# The halves of the test questions that labels are taken from.
_HALVES = 20

_PAPER_BOX = Box((0.5, 2.0), (0.5, 2.0), (0.3,))
_PAPER = Policy(box=_PAPER_BOX, trials=None, charged=100, rule="consistency", confirm=0)
_DEFAULT = Policy(box=_PAPER_BOX, trials=None, charged=40)
_SCREEN = Policy(screen="sum", rule="screen", selection="random")

POLICIES: Mapping[str, Policy] = {
    "paper": _PAPER,
    "default": _DEFAULT,
    "default, every λ and density": replace(_DEFAULT, box=Box(), charged=None, trials=40),
    "16 asked, smooth": Policy(trials=16, rule="smooth", confirm=0),
    "screen, 64 candidates": replace(_SCREEN, candidates=64),
    "screen, 128": replace(_SCREEN, candidates=128),
    "screen, 192": replace(_SCREEN, candidates=192),
    "screen by the larger, 128": replace(_SCREEN, candidates=128, screen="max"),
    "screen, 128, the paper's range": replace(_SCREEN, candidates=128, box=_PAPER_BOX),
    "screen, 128, best 8 asked": replace(
        _SCREEN, candidates=128, screened=8, trials=8, rule="sum", confirm=0
    ),
    "screen, 128, best 4 asked elsewhere": replace(
        _SCREEN, candidates=128, screened=4, trials=4, votes=1, rule="sum", confirm=4,
        confirm_votes=4, fresh=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Regrets:
    """What runs of a policy came to.

    Attributes:
        shares: Tokens generated, as a share of the paper's protocol with the same seed.
        best: Regrets against the best point, in points.
        labels: Regrets against the choice by labels of half of the test questions.
    """

    shares: Sequence[float]
    best: Sequence[float]
    labels: Sequence[float]


def replayed(policy: Policy, world: World, runs: int) -> Regrets:
    """Run a policy with each seed."""
    accuracy, by_labels = world.accuracy.mean(1), _by_labels(world)
    shares, best, labels = [], [], []
    for seed in range(runs):
        found = run(policy, world, seed)
        shares.append(found.generated / run(_PAPER, world, seed).generated)
        best.append(float(accuracy[world.grid].max() - accuracy[found.chosen]))
        labels.append(float(by_labels[found.chosen]))
    return Regrets(shares, best, labels)


def _by_labels(world: World) -> NDArray[Any]:
    """Give each point's regret against the choice by labels, mean over halves of the questions."""
    rng, tests = np.random.default_rng(0), np.array(world.tests)
    regrets = np.zeros(len(world.places))
    for _ in range(_HALVES):
        shown = np.zeros(len(tests), bool)
        for family in world.families:
            of_family = rng.permutation(np.flatnonzero(tests == family))
            shown[of_family[: len(of_family) // 2]] = True
        chosen = world.grid[np.argmax(_accuracy(world, tests, shown)[world.grid])]
        measured = _accuracy(world, tests, ~shown)
        regrets += (measured[chosen] - measured) / _HALVES
    return regrets


def _accuracy(world: World, tests: NDArray[Any], shown: NDArray[Any]) -> NDArray[Any]:
    """Give the mean over families of the share of right answers, in percent."""
    families = [world.right[:, shown & (tests == family)].mean(1) for family in world.families]
    found: NDArray[Any] = 100 * np.mean(families, 0)
    return found


def row(name: str, regrets: Regrets) -> tuple[str, ...]:
    """Spell a line of the table."""
    cells = [name, f"{100 * statistics.fmean(regrets.shares):.1f}"]
    for values in (regrets.best, regrets.labels):
        cells += [
            f"{statistics.fmean(values):.2f}",
            f"{np.percentile(values, 95):.2f}",
            f"{max(values):.2f}",
        ]
    return tuple(cells)


def main() -> None:
    """Print a table for each world."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("worlds", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=45)
    parser.add_argument("--policies", nargs="*", default=list(POLICIES), choices=list(POLICIES))
    options = parser.parse_args()
    for path in options.worlds:
        world, begun = read(path), time.perf_counter()
        accuracy = world.accuracy.mean(1)
        best = world.grid[np.argmax(accuracy[world.grid])]
        rows = [
            row(name, replayed(POLICIES[name], world, options.runs)) for name in options.policies
        ]
        sft, rlvr, density = world.places[best]
        print(
            f"\n{world.name}: the best point, {accuracy[best]:.1f}%, is ({sft:g}, {rlvr:g}) at "
            f"density {density:g}; {options.runs} runs\n"
        )
        head = ["policy", "tokens, % of the paper's"]
        head += [f"{kind}, {of}" for kind in ("best", "labels") for of in ("mean", "95%", "worst")]
        print(markdown_table(head, rows, numbers=True))
        print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
