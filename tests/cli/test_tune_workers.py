"""dots-tune with workers of Ray: the same scores, the same study, and nothing left behind."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dots_mergekit.api.scoring import Scoring
from dots_mergekit.objectives.queries import read_pool
from dots_mergekit.objectives.scores import Generation
from dots_mergekit.recipe import Recipe
from dots_mergekit.threads import computing
from dots_mergekit.tuning.again import recorded
from dots_mergekit.tuning.seeds import seed_for
from dots_mergekit.tuning.seen import read_seen

pytestmark = pytest.mark.ray

CHECKPOINTS = Path(__file__).resolve().parents[2] / "examples" / "arithmetic" / "checkpoints"
MARK = "DOTS_TEST_MARK"
TRIALS = 9


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Over the example's checkpoints; trials answer, so that they take a while."""
    folder = tmp_path_factory.mktemp("recipe")
    questions = [f"{10 + n}+{20 + 3 * n}=?" for n in range(10)] + ["reverse abcd", "sort dbca"]
    (folder / "questions.jsonl").write_text(
        "".join(json.dumps({"prompt": question}) + "\n" for question in questions)
    )
    content = {
        "merge_method": "dots",
        "base_model": str(CHECKPOINTS / "base"),
        "models": [
            {"model": str(CHECKPOINTS / name), "parameters": {"weight": 1.0}}
            for name in ("sft", "rlvr")
        ],
        "parameters": {"density": 0.3},
        "dtype": "bfloat16",
        "tune": {
            "queries": {"source": str(folder / "questions.jsonl"), "size": 6, "votes": 2},
            "objectives": ["consistency", "agreement"],
            "votes": 4,
            "max_tokens": 32,
            "trials": TRIALS,
            "confirm": 2,
        },
    }
    (folder / "recipe.yml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "recipe.yml"


def heed_ctrl_c() -> None:
    """Undo what a shell does to what it runs in the background: there SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(recipe: Path, out: Path, *options: str, mark: str = "") -> subprocess.Popen[bytes]:
    """Start the real command, with workers; all its processes are known by the mark."""
    program = Path(sys.executable).with_name("dots-tune")
    command: list[str | Path] = [program, "--recipe", recipe, "--out", out]
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--threads", "1", *(options or ("--workers", "2"))],
            env={**os.environ, "HF_HUB_OFFLINE": "1", MARK: mark},
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=heed_ctrl_c,
        )


def marked(mark: str) -> list[str]:
    """The processes that have the mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80])
    return found


def left_after(mark: str, seconds: float) -> list[str]:
    """What is left of a command after so many seconds, or as soon as nothing is."""
    ends = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < ends:
        time.sleep(0.5)
    return marked(mark)


def trials(out: Path) -> list[Mapping[str, str]]:
    rows = csv.DictReader((out / "trials.csv").open())
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows]


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of a search in batches of two."""
    out = tmp_path_factory.mktemp("whole") / "study"
    ended = start(recipe, out, "--workers", "2", "--synchronous").wait()
    assert ended == 0, out.with_suffix(".log").read_text()
    return out


def test_batches_give_the_same_study_again(recipe: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    assert start(recipe, out, "--workers", "2", "--synchronous").wait() == 0
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
    process = start(recipe, out, mark=mark)
    while not (out / "trials" / "0002.yml").exists():
        assert process.poll() is None, out.with_suffix(".log").read_text()
        time.sleep(0.05)
    assert len(marked(mark)) > 3
    process.kill()
    process.wait()
    computing = [line for line in left_after(mark, 30) if "Agent" not in line]
    assert computing == []
    assert left_after(mark, 150) == []  # two agents of Ray's own wait until they give up
    assert start(recipe, out).wait() == 0, out.with_suffix(".log").read_text()
    assert [int(row["trial"]) for row in trials(out)] == [*range(TRIALS)]
    assert len({(row["sft"], row["rlvr"]) for row in trials(out)}) == TRIALS


def test_ctrl_c_saves_and_leaves_no_process(recipe: Path, tmp_path: Path) -> None:
    out, mark = tmp_path / "study", uuid.uuid4().hex
    process = start(recipe, out, mark=mark)
    while not (out / "trials" / "0001.yml").exists():
        assert process.poll() is None, out.with_suffix(".log").read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    said = out.with_suffix(".log").read_text()
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
    assert process.wait() == 2, out.with_suffix(".log").read_text()
    said = out.with_suffix(".log").read_text()
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
