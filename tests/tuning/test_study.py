"""The study's folder: what tells it from another one, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import optuna
import pytest
from checkpoints import write_checkpoint
from searching import World, refuse

from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.scores import Scorer

optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_whatever_decides_the_scores_may_not_change(world: World) -> None:
    world.tune(world.recipe())
    changes: list[tuple[dict[str, Any], str]] = [
        ({"votes": 9}, "votes: was 7, is now 9"),
        ({"weight": [0.5, 3]}, r"range of λ sft: was \[0.5, 2.0\], is now \[0.5, 3.0\]"),
        ({"seed": 1}, "seed: was 0, is now 1"),
        ({"temperature": 1.0}, "temperature: was 0.6, is now 1.0"),
        ({"sampler": "tpe"}, 'sampler: was "random", is now "tpe"'),
        ({"objectives": ["consistency", "perplexity"]}, "objectives: was"),
    ]
    for change, message in changes:
        with pytest.raises(DotsError, match=message):
            world.tune(world.recipe(**change), scorer=refuse)
    with pytest.raises(DotsError, match='merge_method: was "task_arithmetic", is now "ties"'):
        world.tune(world.recipe("ties"), scorer=refuse)
    with pytest.raises(DotsError, match="its trials are in another `storage`"):
        world.tune(world.recipe(), scorer=refuse, storage="sqlite:///elsewhere.db")


def test_other_starting_weights_are_the_same_study(world: World) -> None:
    world.tune(world.recipe())
    recipe = world.recipe()
    world.tune(recipe.with_weights({"sft": 0.123}), scorer=refuse)


def test_a_moved_checkpoint_is_the_same_and_a_changed_one_is_not(world: World) -> None:
    moved = World(world.folder / "models", world.folder)
    shutil.copytree(world.models, moved.models)
    world.tune(world.recipe())
    world.tune(moved.recipe(), scorer=refuse)
    write_checkpoint(moved.models / "sft", seed=7, shift_from=moved.models / "base")
    with pytest.raises(DotsError, match=r"contents of checkpoint 1 \(sft\): was"):
        world.tune(moved.recipe(), scorer=refuse)


def test_a_changed_pool_is_refused(world: World) -> None:
    pool = world.tune(world.recipe()).folder / "queries.jsonl"
    pool.write_text("".join(pool.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(DotsError, match=r"queries\.jsonl is not the pool"):
        world.tune(world.recipe(), scorer=refuse)


def test_a_first_attempt_that_scored_nothing_may_be_mended(world: World) -> None:
    def fail() -> Scorer:
        raise DotsError("no such device")

    with pytest.raises(DotsError, match="no such device"):
        world.tune(world.recipe(votes=3), scorer=fail)
    changed = world.recipe(objectives=["consistency", "agreement", "perplexity"])
    assert len(world.tune(changed).trials) == 8


def test_an_older_library_is_worth_a_note(world: World) -> None:
    path = world.tune(world.recipe()).folder / "study.json"
    record = json.loads(path.read_text())
    record["circumstances"]["version of torch"] = "2.0"
    path.write_text(json.dumps(record))
    outcome = world.tune(world.recipe(), scorer=refuse)
    assert any('version of torch: was "2.0"' in note for note in outcome.notes)


def test_another_backend_is_worth_a_note(world: World) -> None:
    world.tune(world.recipe())
    notes = world.tune(world.recipe(), scorer=refuse, backend="vllm").notes
    assert any('backend: was "hf", is now "vllm"' in note for note in notes)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(world: World) -> None:
    (world.folder / "study").mkdir(mode=0o500)
    with pytest.raises(DotsError, match="Permission denied; choose another `out`"):
        world.tune(world.recipe(), scorer=refuse)


def test_a_folder_of_other_things_is_refused(world: World) -> None:
    world.recipe()
    with pytest.raises(DotsError, match=r"holds other things \(questions.jsonl, recipe.yml\)"):
        world.tune(world.recipe(), ".", scorer=refuse)


def test_a_broken_storage_is_named(world: World) -> None:
    (world.folder / "study").mkdir()
    recipe = world.recipe()
    with pytest.raises(DotsError, match="cannot open the `storage` URL"):
        world.tune(recipe, scorer=refuse, storage="nonsense://x")
