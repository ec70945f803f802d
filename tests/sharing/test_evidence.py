"""A card with a study and its results: what it shows of them, and that they are of this merge."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dots_mergekit import DotsError, Recipe, Silent, evaluate, merge, reproduce, share, tune

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small search, its merge and its evaluation; tests change copies of `out`."""
    folder = tmp_path_factory.mktemp("world")
    content: dict[str, Any] = yaml.safe_load((ROOT / "recipes" / "quickstart.yml").read_text())
    place = ROOT / "examples" / "arithmetic"
    content["base_model"] = str(place / "checkpoints" / "base")
    for model, name in zip(content["models"], ("sft", "rlvr"), strict=True):
        model["model"] = str(place / "checkpoints" / name)
    queries = {"source": str(place / "queries.jsonl"), "size": 4, "candidates": 8, "votes": 2}
    small = {"trials": 5, "votes": 2, "confirm": 1, "max_tokens": 16, "batch_size": 16}
    content["tune"] = {"queries": queries, "weight": [0.0, 3.0], **small}
    (folder / "recipe.yml").write_text(yaml.safe_dump(content))
    outcome = tune(
        folder / "recipe.yml", out=folder / "study", merge=folder / "out", progress=Silent()
    )
    evaluate(outcome.best, tasks=["arithmetic"], limit=1, out=folder / "results", progress=Silent())
    return folder


@pytest.fixture
def out(world: Path, tmp_path: Path) -> Path:
    shutil.copytree(world / "out", tmp_path / "out")
    return tmp_path / "out"


def card(out: Path, **more: Any) -> str:
    share(out, progress=Silent(), **more)
    return (out / "README.md").read_text()


def test_the_card_shows_the_table_the_front_the_pictures_and_the_queries(
    world: Path, out: Path
) -> None:
    text = card(out, study=world / "study", results=world / "results")
    table = (world / "results" / "table.md").read_text()
    assert table.splitlines()[2] in text and "± the standard error" in text
    assert "`dots-tune` scored 5 points (sampler `gp`, seed 0)" in text
    for name, own in (("dots_front.png", "front.png"), ("dots_weights.png", "weights.png")):
        assert f"]({name})" in text
        assert (out / name).read_bytes() == (world / "study" / own).read_bytes()
    pool = (world / "study" / "queries.jsonl").read_bytes()
    assert "4 queries of `queries.jsonl`, selected by `difficulty`" in text
    assert hashlib.sha256(pool).hexdigest() in text
    assert not (out / "dots_queries.jsonl").exists()
    assert str(ROOT) not in text and str(world) not in text
    assert "No scores are given" not in text


def test_the_texts_of_the_queries_go_along_where_that_is_asked(world: Path, out: Path) -> None:
    text = card(out, study=world / "study", with_queries=True)
    assert "[`dots_queries.jsonl`](dots_queries.jsonl)" in text
    pool = (world / "study" / "queries.jsonl").read_bytes()
    assert (out / "dots_queries.jsonl").read_bytes() == pool
    with pytest.raises(DotsError, match="name it with `study`"):
        card(out, with_queries=True)


def test_evidence_stays_when_the_card_is_written_anew_without_it(world: Path, out: Path) -> None:
    full = card(out, study=world / "study", results=world / "results")
    assert card(out) == full


def test_results_of_the_merged_model_itself_will_do(world: Path, out: Path, tmp_path: Path) -> None:
    card(out)
    place = tmp_path / "results"
    evaluate(model=out, tasks=["arithmetic"], limit=1, out=place, progress=Silent())
    assert "## Results" in card(out, results=place)


def test_evidence_of_another_merge_is_refused(world: Path, tmp_path: Path) -> None:
    best = Recipe.load(world / "study" / "best.yml")
    other = tmp_path / "other"
    merge(best.with_weights({"sft": 0.123}), other, progress=Silent())
    with pytest.raises(DotsError, match=r"best\.yml is not what was merged: .* sft 0\.123"):
        card(other, study=world / "study")
    with pytest.raises(DotsError, match=r"the results in .* are of something else"):
        card(other, results=world / "results")
    with pytest.raises(DotsError, match="there is no study"):
        card(other, study=tmp_path)
    with pytest.raises(DotsError, match="there is no table"):
        card(other, results=tmp_path)


def test_the_choice_is_made_again_too(world: Path, out: Path) -> None:
    card(out, study=world / "study")
    before = (world / "study" / "best.yml").read_bytes()
    assert reproduce(out, study=world / "study", progress=Silent()).identical
    assert (world / "study" / "best.yml").read_bytes() == before
