"""Which way to search is worth its tokens? Policies, replayed on recorded worlds with known truth.

    python evals/choice/replay.py evals/choice/recorded/*.parquet --apart arithmetic3 arithmetic4

Prints Markdown: first a table of all policies over the worlds that rules were found on, and one
over those that were kept apart, then one of each world by itself. Tokens generated are a share of
those of the paper's protocol. Regrets are in percentage points of the mean accuracy over a world's
families of test questions. Against the best: how far the choice is below the best grid point by the
same test questions, which noise flatters. Against labels: how far it is below the point that is
best on one half of the test questions, both measured on the other half, over halves; it can be
negative. Against dense: the same with the best point of density 1, which is task arithmetic.

    python evals/choice/replay.py evals/choice/recorded/*.parquet --expected

writes `dots_mergekit/tuning/expected.json`: the regret to expect, which the package shows while it
searches, by queries in the pool and trials. As trials count points of the default range,
drawn at random from the grid; regrets are those against the best of these points.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from policies import Box, Policy, known, run
from worlds import World, read

from dots_mergekit.messages import markdown_table
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.workers.cluster import Wish, joined

# Okabe and Ito's: told apart by everybody, in print, too.
_COLORS = ("#D55E00", "#0072B2", "#E69F00", "#009E73")

# Panels side by side.
_ACROSS = 3

# The share of the paper's tokens up to which a policy is cheap.
_CHEAP = 0.11

# The table of regrets to expect, and its pools and trials.
_EXPECTED = Path(__file__).resolve().parents[2] / "dots_mergekit" / "tuning" / "expected.json"
_POOLS, _TRIALS = (32, 64, 128, 192), (5, 10, 20)

# The halves of the test questions that labels are taken from.
_HALVES = 20

_PAPER_BOX = Box((0.5, 2.0), (0.5, 2.0), (0.3,))
_PAPER = Policy(box=_PAPER_BOX, trials=None, charged=100, rule="consistency", confirm=0)
_VOTES = Policy(box=_PAPER_BOX, trials=None, charged=40)
_EVERYWHERE = replace(_VOTES, box=Box(), charged=None, trials=40)
_SUPPORT = Policy(screen="support", rule="screen", selection="random", candidates=128)
_ASKED = Policy(
    screen="support", rule="both", selection="random", candidates=192, size=192,
    screened=6, trials=6, votes=2, confirm=0,
)  # fmt: skip
_OURS = replace(_ASKED, screen="consensus", crowd=12, share=0.25, screened=4, trials=4)
_DEFAULT = replace(_OURS, box=_PAPER_BOX)

POLICIES: Mapping[str, Policy] = {
    "(1, 1), density 0.3": Policy(box=Box((1, 1), (1, 1), (0.3,)), source_votes=0, trials=0),
    "NAN: λ ∝ 1/norm": Policy(source_votes=0, trials=0, rule="norms"),
    "AdaMMS: agreement of neighbours": Policy(
        box=Box(densities=(0.3,)), candidates=100, size=100, source_votes=0, selection="random",
        trials=None, votes=1, rule="neighbours", confirm=0,
    ),
    "paper": _PAPER,
    "votes": _VOTES,
    "votes, every λ and density": _EVERYWHERE,
    "these votes, smooth": replace(_EVERYWHERE, rule="smooth", confirm=0),
    "these votes, four and three more": replace(_EVERYWHERE, votes=4, more=3),
    "these votes, confirmed elsewhere": replace(_EVERYWHERE, fresh=True),
    "all raced on 16 queries, 8 asked the rest": replace(_EVERYWHERE, trials=None, race=8),
    "16 asked, smooth": Policy(trials=16, rule="smooth", confirm=0),
    "sum, 128 candidates": replace(_SUPPORT, screen="sum"),
    "likelier, 128": replace(_SUPPORT, screen="likelier"),
    "surer, 128": replace(_SUPPORT, screen="surer"),
    "consensus, 192, best 4 asked twice": _OURS,
    "the same, density 0.3": replace(_OURS, box=Box(densities=(0.3,))),
    "the same, density 0.3 or 1": replace(_OURS, box=Box(densities=(0.3, 1.0))),
    "the same, density 0.3, λ in [0.5, 2]: the default": _DEFAULT,
    "the same, of λ that widen": replace(_DEFAULT, widens=True),
    "the same, a crowd of 6": replace(_OURS, crowd=6),
    "the same, a crowd of all": replace(_OURS, crowd=None),
    "the same, best 6": replace(_OURS, screened=6, trials=6),
    "the same, votes count twice": replace(_OURS, share=0.5),
    "the same, 128": replace(_OURS, candidates=128, size=128),
    "the same, 64": replace(_OURS, candidates=64, size=64),
    "consensus, 192": replace(_OURS, rule="screen"),
    "consensus, 192, density 0.3": replace(_OURS, rule="screen", box=Box(densities=(0.3,))),
    "support, 192, best 6 asked twice": _ASKED,
    "support, 192, density 0.3, best 6": replace(_ASKED, box=Box(densities=(0.3,))),
    "support, 64": replace(_SUPPORT, candidates=64),
    "support, 128": _SUPPORT,
    "support, 192": replace(_SUPPORT, candidates=192),
    "support, 192, the paper's range": replace(_SUPPORT, candidates=192, box=_PAPER_BOX),
    "support, 192, the paper's λ": replace(
        _SUPPORT, candidates=192, box=replace(_PAPER_BOX, densities=Box().densities)
    ),
    "support, 192, density 0.3": replace(_SUPPORT, candidates=192, box=Box(densities=(0.3,))),
    "support, 128, best 8 asked": replace(_SUPPORT, screened=8, trials=8, rule="sum", confirm=0),
    "support, 128, best 4 asked elsewhere": replace(
        _SUPPORT, screened=4, trials=4, votes=1, rule="sum", confirm=4, confirm_votes=4, fresh=True
    ),
}  # fmt: skip

CURVES: Mapping[str, Sequence[Policy]] = {
    "the paper's protocol": [
        *(replace(_PAPER, trials=trials, charged=None) for trials in (3, 6, 10)),
        *(replace(_PAPER, charged=trials) for trials in (25, 50, 100)),
    ],
    "votes: consistency + agreement": [
        *(replace(_VOTES, trials=trials, charged=None) for trials in (3, 6, 10)),
        *(replace(_VOTES, charged=trials) for trials in (20, 40, 80)),
    ],
    "support alone": [replace(_SUPPORT, candidates=size) for size in (16, 32, 64, 128, 192)],
    "consensus, the best asked": [
        replace(_DEFAULT, candidates=size, size=size, screened=few, trials=few)
        for size, few in ((32, 3), (64, 4), (128, 6), (192, 6), (192, 12))
    ],
}
"""Ways to search, each at several costs."""


@dataclass(frozen=True)
class Regrets:
    """What runs of a policy came to.

    Attributes:
        shares: Tokens generated, as a share of the paper's protocol with the same seed.
        best: Regrets against the best point, in points.
        labels: Regrets against the choice by labels of half of the test questions.
        dense: Regrets against such a choice among the points of density 1.
    """

    shares: Sequence[float]
    best: Sequence[float]
    labels: Sequence[float]
    dense: Sequence[float]


def replayed(policy: Policy, world: World, runs: int) -> Regrets:
    """Run a policy with each seed."""
    accuracy, by_labels = world.accuracy.mean(1), _by_labels(world, world.grid)
    dense = world.grid[world.places[world.grid, 2] == 1]
    by_dense, shares, best, labels, below = _by_labels(world, dense), [], [], [], []
    for seed in range(runs):
        found = run(policy, world, seed)
        shares.append(found.generated / _of_the_paper(world, seed))
        best.append(float(accuracy[world.grid].max() - accuracy[found.chosen]))
        labels.append(float(by_labels[found.chosen]))
        below.append(float(by_dense[found.chosen]))
    return Regrets(shares, best, labels, below)


@functools.cache
def _of_the_paper(world: World, seed: int) -> int:
    """Give the tokens of the paper's protocol."""
    return run(_PAPER, world, seed).generated


def _by_labels(world: World, among: NDArray[Any]) -> NDArray[Any]:
    """Give each point's regret against the choice among some points by labels.

    That is the mean over halves of the questions.
    """
    rng, tests = np.random.default_rng(0), np.array(world.tests)
    regrets = np.zeros(len(world.places))
    for _ in range(_HALVES):
        shown = np.zeros(len(tests), bool)
        for family in world.families:
            of_family = rng.permutation(np.flatnonzero(tests == family))
            shown[of_family[: len(of_family) // 2]] = True
        chosen = among[np.argmax(_accuracy(world, tests, shown)[among])]
        measured = _accuracy(world, tests, ~shown)
        regrets += (measured[chosen] - measured) / _HALVES
    return regrets


def _accuracy(world: World, tests: NDArray[Any], shown: NDArray[Any]) -> NDArray[Any]:
    """Give the mean over families of the share of right answers, in percent."""
    families = [world.right[:, shown & (tests == family)].mean(1) for family in world.families]
    found: NDArray[Any] = 100 * np.mean(families, 0)
    return found


def everywhere(
    pairs: Sequence[tuple[str, Path]], runs: int, workers: int | None
) -> Sequence[Regrets]:
    """Run policies on worlds, in this process or in so many workers of Ray."""
    if workers is None:
        return [replayed_at(*pair, runs) for pair in pairs]
    import ray
    import replay  # workers find it by that name; what runs as a script has none

    with joined(Wish(workers), 1) as share:
        remote = ray.remote(replay.replayed_at).options(num_cpus=share.threads)
        found: list[Regrets] = ray.get([remote.remote(*pair, runs) for pair in pairs])
    return found


def replayed_at(name: str, path: Path, runs: int) -> Regrets:
    """Run a policy, by its name, on the world in a file."""
    return replayed(POLICIES[name], _world(path), runs)


@functools.cache
def _world(path: Path) -> World:
    return read(path)


HEAD = (
    "policy",
    "tokens, %",
    *(f"{kind}, {of}" for kind in ("best", "labels", "dense") for of in ("mean", "95%", "worst")),
)


def row(name: str, found: Sequence[Regrets]) -> tuple[str, ...]:
    """Spell a line of a table: what runs in some worlds came to."""
    shares = [share for one in found for share in one.shares]
    regrets = [
        [value for one in found for value in one.best],
        [value for one in found for value in one.labels],
        [value for one in found for value in one.dense],
    ]
    cells = [name, f"{100 * statistics.fmean(shares):.1f}"]
    for values in regrets:
        cells += [
            f"{statistics.fmean(values):.2f}",
            f"{np.percentile(values, 95):.2f}",
            f"{max(values):.2f}",
        ]
    return tuple(cells)


def draw(worlds: Sequence[World], runs: int, path: Path) -> None:
    """Draw regret against tokens, mean and 95th percentile, a panel for each world."""
    rows = math.ceil(len(worlds) / _ACROSS)
    figure = Figure(figsize=(4.2 * _ACROSS, 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, _ACROSS, sharey=True, squeeze=False).ravel()
    for panel in panels[len(worlds) :]:
        panel.set_axis_off()
    for panel, world in zip(panels, worlds, strict=False):
        for (name, policies), color, mark in zip(CURVES.items(), _COLORS, "so^D", strict=True):
            found = [replayed(policy, world, runs) for policy in policies]
            shares = [100 * statistics.fmean(regrets.shares) for regrets in found]
            means = [statistics.fmean(regrets.labels) for regrets in found]
            high = [float(np.percentile(regrets.labels, 95)) for regrets in found]
            panel.plot(shares, means, mark + "-", color=color, label=name)
            panel.plot(shares, high, mark + ":", color=color, alpha=0.6, markersize=4)
        panel.axhline(0, color="gray", linewidth=0.8)
        panel.set(xscale="log", title=world.name, xlabel="tokens, % of the paper's protocol")
    for panel in panels[::_ACROSS]:
        panel.set_ylabel("regret against labels, points\n(dotted: 95th percentile)")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=150)


def expect(worlds: Sequence[World], runs: int) -> dict[str, Any]:
    """Make the table that the package ships."""
    settings = Settings.model_validate({"queries": "any"}).content
    rows = []
    for size, trials in itertools.product(_POOLS, _TRIALS):
        policy = replace(_DEFAULT, candidates=size, size=size, drawn=trials)
        regrets = []
        for world in worlds:
            accuracy, points = world.accuracy.mean(1), policy.box.of(world)
            for seed in range(runs):
                chosen = run(policy, world, seed).chosen
                regrets.append(float(accuracy[points].max() - accuracy[chosen]))
        mean, worst = round(statistics.fmean(regrets), 2), round(max(regrets), 2)
        rows.append({"pool": size, "trials": trials, "mean": mean, "worst": worst})
    return {
        "command": "python evals/choice/replay.py evals/choice/recorded/*.parquet --expected "
        f"--runs {runs}",
        "worlds": [world.name for world in worlds],
        "settings": {name: settings[name] for name in ("objectives", "pick", "confirm")},
        "rows": rows,
    }


def main() -> None:
    """Print the tables, or draw the trade-off."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("worlds", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=45)
    parser.add_argument("--policies", nargs="*", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--workers", type=int, metavar="N", help="replay side by side, by Ray")
    parser.add_argument("--apart", nargs="*", default=[], help="worlds that no rule was found on")
    parser.add_argument(
        "--draw", type=Path, metavar="PNG", help="draw regret against tokens instead"
    )
    parser.add_argument(
        "--expected", action="store_true", help="write what the package shows instead"
    )
    options = parser.parse_args()
    worlds = [_world(path) for path in options.worlds]
    if options.draw is not None:
        draw(worlds, options.runs, options.draw)
        return
    if options.expected:
        table = json.dumps(expect(worlds, options.runs), indent=1)
        _EXPECTED.write_text(table + "\n", encoding="utf-8")
        return
    pairs = [
        (name, path, world.name)
        for name in options.policies
        for path, world in zip(options.worlds, worlds, strict=True)
        if known(POLICIES[name], world)
    ]
    results = everywhere([pair[:2] for pair in pairs], options.runs, options.workers)
    found = {(name, world): one for (name, _, world), one in zip(pairs, results, strict=True)}
    groups = {
        "Rules were found on": [w.name for w in worlds if w.name not in options.apart],
        "Kept apart": [w.name for w in worlds if w.name in options.apart],
    }
    wide = {title: names for title, names in groups.items() if len(names) > 1}
    for title, names in {**wide, **{_told(world): [world.name] for world in worlds}}.items():
        rows = [
            row(policy, [found[policy, name] for name in names])
            for policy in options.policies
            if all((policy, name) in found for name in names)
        ]
        if rows:
            print(f"\n**{title}**: {', '.join(names)}; {options.runs} runs each\n")
            print(markdown_table(HEAD, rows, numbers=True))
    if len(worlds) > 2:
        names = [world.name for world in worlds]
        rows = left_out(found, options.policies, names)
        print(f"\n**Chosen on the others**, of those at {_CHEAP:.0%} of the tokens or less\n")
        print(markdown_table(("left out", *HEAD), rows, numbers=True))


def left_out(
    found: Mapping[tuple[str, str], Regrets], policies: Sequence[str], names: Sequence[str]
) -> list[tuple[str, ...]]:
    """Spell a line for each world: the policy that the others would have chosen, and its regret.

    That is the cheap one with the lowest mean regret against labels on the other worlds.
    """
    rows = []
    for name in names:
        others = [other for other in names if other != name]
        cheap = [
            policy
            for policy in policies
            if all((policy, each) in found for each in names)
            and all(statistics.fmean(found[policy, each].shares) <= _CHEAP for each in others)
        ]
        chosen = min(
            cheap,
            key=lambda policy: statistics.fmean(
                statistics.fmean(found[policy, other].labels) for other in others
            ),
            default=None,
        )
        if chosen is not None:
            cells = row(chosen, [found[chosen, name]])
            rows.append((name, *cells))
    return rows


def _told(world: World) -> str:
    accuracy = world.accuracy.mean(1)
    best = world.grid[np.argmax(accuracy[world.grid])]
    sft, rlvr, density = world.places[best]
    return f"Best {accuracy[best]:.1f}% at ({sft:g}, {rlvr:g}), density {density:g}"


if __name__ == "__main__":
    main()
