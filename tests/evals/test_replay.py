"""Policies on a recorded world: they pay for what they see, and do not see the truth."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from policies import Policy, Run, run
from replay import POLICIES, replayed
from worlds import RECORDED, World, majorities, pseudo_labels, read

from dots_mergekit.answers.equivalence import plain_equal
from dots_mergekit.answers.vote import majority_vote
from dots_mergekit.objectives.answered import Answered, support, supported
from dots_mergekit.objectives.consensus import consensus, soft_labels
from dots_mergekit.objectives.queries import Query

EVALS = Path(__file__).resolve().parents[2] / "evals" / "choice"


@pytest.fixture(scope="module")
def world() -> World:
    return read(RECORDED / "arithmetic0.parquet")


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_depends_on_its_seed_and_not_on_the_truth(name: str, world: World) -> None:
    blind = replace(
        world,
        accuracy=np.full_like(world.accuracy, np.nan),
        right=np.zeros_like(world.right),
        truth=np.full_like(world.truth, -1),
        query_families=(),
    )
    found = run(POLICIES[name], world, 3)
    assert run(POLICIES[name], blind, 3) == found == run(POLICIES[name], world, 3)
    assert found.chosen in world.grid or POLICIES[name].rule == "norms"
    costs = {run(POLICIES[name], world, seed).generated for seed in range(3)}
    free = POLICIES[name].source_votes == 0 and POLICIES[name].trials == 0
    assert costs == {0} if free else costs != {found.generated}


def test_screening_alone_pays_for_the_sources_votes_and_for_reading(world: World) -> None:
    policy = Policy(screen="support", rule="screen", candidates=256, source_votes=20)
    found = run(policy, world, 0)
    alone = [world.point(1, 0, 0.3), world.point(0, 1, 0.3)]
    assert found.generated == world.tokens[alone].sum(dtype=int)
    used = np.stack([numbers[:, 0] for numbers in world.sources.values()])
    once = sum(world.kept[number]["tokens"] for number in set(used[used >= 0].tolist()))
    assert found.read == once * len(world.grid)
    read = _read(world)
    assert found.chosen == max(read, key=lambda point: support(read[point]))


def test_a_crowd_labels_as_in_the_package(world: World) -> None:
    policy = Policy(screen="consensus", rule="screen", candidates=256, source_votes=20)
    read, names = _read(world), list(world.sources)
    # A source's answer is known by its ways: equal answers have the same.
    queries = [
        Query(prompt, responses={name: ways[name] for name in names})
        for prompt, ways in zip(world.queries, _ways(world), strict=True)
    ]
    labels = soft_labels(queries, list(read.values()))

    def worth(point: int) -> float:
        return consensus(
            [replace(a, soft_label=label) for a, label in zip(read[point], labels, strict=True)]
        )

    assert run(policy, world, 0).chosen == max(read, key=worth)


def _ways(world: World) -> list[dict[str, list[str]]]:
    """List, for each query and source, the recorded responses that give the source's answer."""
    alone = [world.point(1, 0, 0.3), world.point(0, 1, 0.3)]
    found = []
    for query in range(len(world.queries)):
        labels = [int(majorities(world.answers[one][query][None])[0][0]) for one in alone]
        known = list(zip(world.sources.values(), labels, strict=True))
        found.append(
            {
                name: sorted(
                    {
                        str(k)
                        for numbers, label in known
                        for k in numbers[query, 0].tolist()
                        if k >= 0 and label == own
                    }
                )
                for name, own in zip(world.sources, labels, strict=True)
            }
        )
    return found


def _read(world: World) -> dict[int, list[Answered]]:
    """Give what the package's objectives are computed from, for each point of the grid."""
    nothing = Answered(majority_vote((), plain_equal), None, None, 0, 0)
    known = _ways(world)

    def loss(point: int, ways: list[str]) -> float | None:
        likely = sum(math.exp(-world.kept_loss[point, int(way), 3]) for way in ways)
        return max(0.0, -math.log(likely)) if ways else None

    return {
        point: [
            replace(nothing, losses={supported(n): loss(point, w) for n, w in ways.items()})
            for ways in known
        ]
        for point in world.grid.tolist()
    }


def test_asking_points_pays_for_their_answers(world: World) -> None:
    """All queries at one point: what it costs can be added up by hand."""
    policy = Policy(
        candidates=256, source_votes=20, size=256, selection="random",
        screen="support", screened=1, trials=1, votes=20, confirm=1,
    )  # fmt: skip
    found = run(policy, world, 0)
    alone = [world.point(1, 0, 0.3), world.point(0, 1, 0.3)]
    # Once as a trial, once more to confirm.
    asked = 2 * world.tokens[found.chosen].sum(dtype=int)
    assert found.generated == world.tokens[alone].sum(dtype=int) + asked
    assert run(replace(policy, charged=10), world, 0).generated == found.generated + 4.5 * asked


def test_the_best_by_all_votes_is_chosen_among_all(world: World) -> None:
    policy = Policy(
        candidates=256, source_votes=20, size=256, selection="random", trials=None, votes=20,
        rule="agreement", confirm=0,
    )  # fmt: skip
    labels, _ = pseudo_labels(
        [world.answers[world.point(*place)] for place in ((1, 0, 0.3), (0, 1, 0.3))]
    )
    agreeing = (world.answers == labels[:, None])[:, labels >= 0].mean((1, 2))
    assert run(policy, world, 0).chosen == world.grid[np.argmax(agreeing[world.grid])]


def test_regrets_are_distances_from_the_best(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy = world.accuracy.mean(1)
    best = int(world.grid[np.argmax(accuracy[world.grid])])
    worst = int(world.grid[np.argmin(accuracy[world.grid])])
    for chosen in (best, worst):
        monkeypatch.setattr("replay.run", lambda *_, chosen=chosen: Run(chosen, 10, 0))
        found = replayed(Policy(), world, 2)
        assert found.shares == [1, 1]
        assert found.best == pytest.approx([accuracy[best] - accuracy[chosen]] * 2)
        # What labels of half of the questions choose is no better than the best of all on average.
        assert found.labels[0] <= found.best[0] + 1e-9
    assert found.labels[0] > 40


def test_the_command_prints_a_line_for_each_policy() -> None:
    command = [sys.executable, str(EVALS / "replay.py"), str(RECORDED / "arithmetic0.parquet")]
    named = ["paper", "support, 128"]
    done = subprocess.run(
        [*command, "--runs", "2", "--policies", *named], capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == named
    assert " 100.0 " in lines[2]
