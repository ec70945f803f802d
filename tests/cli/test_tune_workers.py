"""dots-tune with workers of Ray: the same scores, the same study, and nothing left behind."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import finish, left_after, log_of, marked, start, stop, trials, write_search
from engines import SMALL
from evaluations import CHECKPOINTS

from dots_mergekit.api.scoring import Scoring
from dots_mergekit.objectives.queries import read_pool
from dots_mergekit.objectives.scores import Generation
from dots_mergekit.recipe import Recipe
from dots_mergekit.threads import computing
from dots_mergekit.tuning.again import recorded
from dots_mergekit.tuning.seeds import seed_for
from dots_mergekit.tuning.seen import read_seen

pytestmark = pytest.mark.ray

TWO = ("--workers", "2")
TRIALS = 9
ANSWERED = ["consistency", "agreement"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Over the example's checkpoints; trials answer, so that they take a while."""
    return write_search(
        tmp_path_factory.mktemp("recipe"),
        objectives=ANSWERED,
        votes=4,
        trials=TRIALS,
        confirm=2,
    )


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of a search in batches of two."""
    out = tmp_path_factory.mktemp("whole") / "study"
    finish(recipe, out, *TWO, "--synchronous")
    return out


def test_batches_give_the_same_study_again(recipe: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    finish(recipe, out, *TWO, "--synchronous")
    assert len(trials(out)) == TRIALS
    assert trials(out) == trials(whole)
    assert (out / "queries.jsonl").read_text() == (whole / "queries.jsonl").read_text()
    chosen, wanted = (Recipe.load(folder / "best.yml").weights() for folder in (out, whole))
    assert chosen == wanted
    assert {p.name: p.read_text() for p in (out / "votes").iterdir()} == {
        p.name: p.read_text() for p in (whole / "votes").iterdir()
    }


def test_a_worker_scores_as_this_process_does_bit_for_bit(recipe: Path, whole: Path) -> None:
    study = recorded(whole)
    settings, pool = study.settings, read_pool(whole / "queries.jsonl")
    generation = Generation(**{k: getattr(settings, k) for k in Generation.model_fields})
    plan = Scoring(study.recipe, generation, settings.objectives, "hf", {})
    with contextlib.ExitStack() as stack:
        stack.enter_context(computing(1))
        scorer = plan.open(stack, None)
        for row in trials(whole)[-3:]:
            point = Recipe.load(whole / "trials" / f"{int(row['trial']):04d}.yml")
            scores = scorer.score(point, pool, seed=seed_for(settings.seed, "search"))
            assert scores.answered == read_seen(whole, int(row["trial"]))
            assert {k: float(row[k]) for k in scores.objectives} == dict(scores.objectives)


def test_killed_it_leaves_no_process_and_goes_on(recipe: Path, tmp_path: Path) -> None:
    out, mark = tmp_path / "study", uuid.uuid4().hex
    process = start(recipe, out, *TWO, mark=mark)
    third = out / "trials" / "0002.yml"
    assert stop(process, third.exists, signal.SIGKILL) == -signal.SIGKILL
    assert len(marked(mark)) > 2
    assert left_after(mark, 60) == []
    finish(recipe, out, *TWO)
    assert [int(row["trial"]) for row in trials(out)] == [*range(TRIALS)]
    assert len({(row["sft"], row["rlvr"]) for row in trials(out)}) == TRIALS


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_two_vllm_engines_score_side_by_side(tmp_path: Path) -> None:
    """And end with their command, also where that is killed."""
    recipe = write_search(
        tmp_path, objectives=ANSWERED, votes=2, trials=100, confirm=0, sampler="random"
    )
    out, mark = tmp_path / "study", uuid.uuid4().hex
    small = ",".join(f"{name}={value}" for name, value in SMALL.items())
    options = ("--backend", "vllm", "--backend-args", small, *TWO, "--verbose")
    seventh = out / "trials" / "0006.yml"
    killed = start(recipe, out, *options, mark=mark)
    assert stop(killed, seventh.exists, signal.SIGKILL) == -signal.SIGKILL
    assert left_after(mark, 60) == []
    assert "2 workers, 1 more trials in flight" in log_of(out).read_text()


def test_ctrl_c_saves_and_leaves_no_process(recipe: Path, tmp_path: Path) -> None:
    out, mark = tmp_path / "study", uuid.uuid4().hex
    second = out / "trials" / "0001.yml"
    assert stop(start(recipe, out, *TWO, mark=mark), second.exists, signal.SIGINT) == 130
    said = log_of(out).read_text()
    assert f"all finished trials are kept in {out}; the same command goes on from there" in said
    assert "Traceback" not in said
    assert left_after(mark, 15) == []
    assert 1 <= len(trials(out)) < TRIALS


@contextlib.contextmanager
def deaf() -> Iterator[int]:
    """A port where somebody listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def refusal(recipe: Path, out: Path, *options: str) -> str:
    """The one line that a command ends with, which is a mistake of the user's."""
    process = start(recipe, out, *options)
    assert process.wait() == 2, log_of(out).read_text()
    said = log_of(out).read_text()
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    return line


def test_an_address_where_nobody_is(recipe: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    line = refusal(recipe, tmp_path / "study", "--ray-address", f"127.0.0.1:{port}")
    assert f"nothing answers at 127.0.0.1:{port}" in line


def test_an_address_where_somebody_else_is(recipe: Path, tmp_path: Path) -> None:
    with deaf() as port:
        line = refusal(recipe, tmp_path / "study", "--ray-address", f"127.0.0.1:{port}")
    assert f"what answers at 127.0.0.1:{port} is no Ray head" in line


def test_more_gpus_than_there_are(recipe: Path, tmp_path: Path) -> None:
    options = ("--workers", "1", "--gpus-per-worker", "64")
    line = refusal(recipe, tmp_path / "study", *options)
    assert re.search(r"a worker is to have 64 GPUs, and no node has more than \d+$", line)


def test_a_checkpoint_that_one_node_lacks(
    recipe: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The second node sees an empty folder where the first one has the checkpoints."""
    from ray.cluster_utils import Cluster

    models = tmp_path / "models"
    shutil.copytree(CHECKPOINTS, models)
    text = recipe.read_text().replace(str(CHECKPOINTS), str(models))
    (tmp_path / "recipe.yml").write_text(text)
    cluster: Any = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 << 20}
    )
    request.addfinalizer(cluster.shutdown)
    ray = Path(sys.executable).with_name("ray")
    hidden = (
        f"mount -t tmpfs tmpfs {models} && exec {ray} start --address={cluster.address} "
        f"--num-cpus=1 --object-store-memory={100 << 20} --disable-usage-stats --block"
    )
    apart = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "-m"]
    node = subprocess.Popen(
        [*apart, "bash", "-c", hidden], stdout=subprocess.DEVNULL, start_new_session=True
    )
    request.addfinalizer(lambda: os.killpg(node.pid, signal.SIGTERM))
    cluster.connect()
    import ray as library

    ends = time.monotonic() + 60
    while len(library.nodes()) < 2 and time.monotonic() < ends:
        time.sleep(0.5)
    assert len(library.nodes()) == 2 and node.poll() is None
    library.shutdown()
    options = ("--workers", "2", "--ray-address", cluster.address)
    line = refusal(tmp_path / "recipe.yml", tmp_path / "study", *options)
    assert re.search(rf"the node \S+ \(.*: there is no checkpoint {models}/base", line)
