"""Workers of a real Ray, on two nodes of one machine: what they answer, and how they die."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from searching import Notes, World, places
from toys import Holding

from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.tuning.search import search
from dots_mergekit.tuning.settings import Settings
from dots_mergekit.workers.cluster import Wish
from dots_mergekit.workers.crew import RayCrew

pytestmark = pytest.mark.ray

# Seconds that a busy machine may need to start workers.
PATIENCE = 300

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node with room for two workers; tests add others and take them away."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 << 20}
        )
        yield started
        started.shutdown()


@pytest.fixture
def node(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Adds nodes, which leave with the test."""
    added = []

    def add(**options: Any) -> Any:
        added.append(cluster.add_node(num_cpus=2, object_store_memory=100 << 20, **options))
        return added[-1]

    yield add
    for one in added:
        if one in cluster.worker_nodes:
            cluster.remove_node(one, allow_graceful=False)


def crew(cluster: Any, plan: Holding, count: int | None = 2, **how: Any) -> RayCrew:
    how = {"progress": Notes(), **how}
    return RayCrew(plan, Wish(count, cluster.address, threads=1), **how)


def test_answers_errors_and_threads_come_from_there(cluster: Any, tmp_path: Path) -> None:
    with crew(cluster, Holding(tmp_path)) as workers:
        asked = workers.submit("threads")
        refused = workers.submit("refuse")
        dead = workers.submit("fail")
        unknown = workers.submit("threads")
        for future in (asked, refused, dead, unknown):
            workers.wait([future], more=False)
        assert asked.result().value == ("1", 1)
        with pytest.raises(DotsError, match="nothing but `a` is known"):
            refused.result()
        with pytest.raises(
            EngineError, match=r"4 workers failed at it, the last one .*engine died"
        ):
            dead.result()


def test_a_search_survives_ten_killed_workers_and_a_killed_node(
    world: World, cluster: Any, node: Callable[..., Any], tmp_path: Path
) -> None:
    """Of four workers on two nodes; the trials are all there, and none twice."""
    other, log, notes = node(), tmp_path / "log", Notes()
    log.mkdir()
    recipe = world.recipe(sampler="random", trials=60)
    kills = 0

    def kill() -> None:
        """One worker of those that work for each five answers, and the other node at 25."""
        nonlocal kills
        while kills < 10:
            time.sleep(0.05)
            answered = sorted(log.iterdir())
            if len(answered) >= 5 * (kills + 1):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(answered[-1].name.split()[1]), signal.SIGKILL)
                    kills += 1
                if kills == 5:
                    cluster.remove_node(other, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with crew(cluster, Holding(log, seconds=0.3), None, progress=notes) as workers:
        out = world.folder / "study"
        outcome = search(recipe, Settings.parse(recipe), workers, out, progress=notes)
    killer.join(10)
    assert kills == 10
    assert sum("a worker died" in line for line in notes.said) >= 8
    assert [trial.number for trial in outcome.trials] == [*range(60)] and not outcome.left_out
    assert len(set(places(outcome))) == 60
    # The front of what is recorded, computed anew.
    values = [tuple(t.scores.objectives.values()) for t in outcome.trials]
    beaten = {
        a for a, one in enumerate(values) for two in values
        if two != one and all(y >= x for x, y in zip(one, two, strict=True))
    }  # fmt: skip
    assert list(outcome.front) == [a for a in range(60) if a not in beaten]


def test_a_point_that_kills_its_worker_is_left_out_after_four(
    world: World, cluster: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.mkdir()
    recipe = world.recipe(trials=6)
    with crew(cluster, Holding(log, deadly=(2.0, 0.5))) as workers:
        outcome = search(recipe, Settings.parse(recipe), workers, world.folder / "study")
    assert len(outcome.trials) == 5
    (reason,) = outcome.left_out.values()
    assert "4 workers failed at it" in reason


def test_nodes_that_join_are_used(cluster: Any, node: Callable[..., Any], tmp_path: Path) -> None:
    with crew(cluster, Holding(tmp_path, seconds=0.2), None) as workers:
        first = workers.submit("threads")
        workers.wait([first], more=False)
        node()
        ends = time.monotonic() + PATIENCE
        while workers.size < 4 and time.monotonic() < ends:
            asked = [workers.submit("threads") for _ in range(4)]
            workers.wait(asked, more=False)
            time.sleep(0.2)
        assert workers.size == 4


def test_a_node_with_other_versions_is_refused_with_the_difference(
    cluster: Any, node: Callable[..., Any], tmp_path: Path
) -> None:
    """At the start that is an error; of one that comes later a note, and it does nothing."""
    bad = node(env_vars={"DOTS_TEST_MARK": "2"})
    message = r"cannot take part: version of toys is 2 there and 1 here"
    with crew(cluster, Holding(tmp_path), 4) as workers:

        def go_on() -> None:
            ends = time.monotonic() + PATIENCE
            while time.monotonic() < ends:
                workers.wait([workers.submit("threads")], more=False)
                time.sleep(0.1)

        with pytest.raises(DotsError, match=message):
            go_on()
    cluster.remove_node(bad, allow_graceful=False)
    cluster.wait_for_nodes()  # Ray takes a node for dead some seconds after it is
    notes = Notes()
    with crew(cluster, Holding(tmp_path), None, progress=notes) as workers:
        workers.wait([workers.submit("threads")], more=False)
        while workers.size < 2:
            workers.wait([workers.submit("threads")], more=False)
        node(env_vars={"DOTS_TEST_MARK": "2"})
        ends = time.monotonic() + PATIENCE
        difference = "version of toys is 2 there and 1 here"
        while not any(difference in line for line in notes.said) and time.monotonic() < ends:
            workers.wait([workers.submit("threads")], more=False)
            time.sleep(0.1)
        assert any(difference in line for line in notes.said)
        assert workers.size == 2


def test_a_checkpoint_that_is_not_there_is_named_with_the_node(
    cluster: Any, tmp_path: Path
) -> None:
    with (
        crew(cluster, Holding(tmp_path), folders=["models/nowhere"]) as workers,
        pytest.raises(DotsError, match=r"the node \S+ \(.*: there is no checkpoint /.*models/now"),
    ):
        workers.wait([workers.submit("threads")], more=False)
