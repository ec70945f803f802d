"""A card with a study and its results: what it shows of them, and that they are of this merge."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries
from loopback_hub import Hub, running, speak_to

from dots_mergekit import (
    DotsError,
    Recipe,
    Silent,
    analyze,
    evaluate,
    merge,
    reproduce,
    share,
    tune,
)
from dots_mergekit.recipe.fingerprint import fingerprint

ROOT = Path(__file__).resolve().parents[2]

BIBTEX = "@misc{base,\n  title = {{T}he base}\n}"
CARDS = {
    "base": f"---\nlicense: mit\n---\nCite\n\n```bibtex\n{BIBTEX}\n```\n",
    "rlvr": "---\nlicense: mit\n---\n# RLVR\n",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a small search, its merge, its evaluation and an analysis of its models.

    Two of the models are of the Hub, one is a folder. Tests change copies of `out`.
    """
    folder = tmp_path_factory.mktemp("world")
    with running(Hub()) as hub, pytest.MonkeyPatch.context() as patch:
        speak_to(hub, folder / "cache", patch)
        _make(folder, hub)
        yield folder


def _make(folder: Path, hub: Hub) -> None:
    content: dict[str, Any] = yaml.safe_load((ROOT / "recipes" / "quickstart.yml").read_text())
    place = ROOT / "examples" / "arithmetic"
    for name in ("base", "rlvr"):
        files = {path.name: path.read_bytes() for path in (place / "checkpoints" / name).iterdir()}
        hub.put(f"org/{name}", {**files, "README.md": CARDS[name].encode()})
    content["base_model"] = "org/base"
    content["models"][0]["model"] = str(place / "checkpoints" / "sft")
    content["models"][1]["model"] = "org/rlvr"
    queries = {"source": str(place / "queries.jsonl"), "size": 4, "candidates": 8, "votes": 2}
    small = {"trials": 5, "votes": 2, "confirm": 1, "max_tokens": 16, "batch_size": 16}
    content["tune"] = {"queries": queries, "weight": [0.0, 3.0], **small}
    (folder / "recipe.yml").write_text(yaml.safe_dump(content))
    outcome = tune(
        folder / "recipe.yml", out=folder / "study", merge=folder / "out", progress=Silent()
    )
    evaluate(
        outcome.best,
        tasks=["dots_arithmetic_add"],
        limit=1,
        out=folder / "results",
        progress=Silent(),
    )
    analyze(outcome.best, out=folder / "analysis", progress=Silent())


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


def test_the_card_shows_what_an_analysis_found(world: Path, out: Path) -> None:
    place = world / "analysis"
    text = card(out, analysis=place / "analysis.json")
    found = json.loads((place / "analysis.json").read_text())["whole"]
    (pair,) = found["pairs"]
    assert f"{pair['norm_ratio']:.1f} times as long as that of rlvr" in text
    assert f"their cosine is {pair['cosine']:.3f}" in text
    for name in ("magnitude", "conflict"):
        assert f"](dots_{name}.png)" in text
        drawn = (place / f"{name}.png").read_bytes()
        assert (out / f"dots_{name}.png").read_bytes() == drawn
    assert card(out, analysis=place) == text  # its folder will do


def test_warnings_of_an_analysis_name_no_folder_of_this_machine(
    world: Path, out: Path, tmp_path: Path
) -> None:
    content = json.loads((world / "analysis" / "analysis.json").read_text())
    sft = content["sources"]["sft"]
    content["warnings"] = [f"{sft} and org/rlvr have different chat templates"]
    (tmp_path / "analysis.json").write_text(json.dumps(content))
    text = card(out, analysis=tmp_path)
    assert "- warning: sft and org/rlvr have different chat templates" in text
    assert sft not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"contents": {"org/base": "0" * 40}}, "is of other models: org/base is none of those"),
        ({"contents": {"elsewhere": None}}, "is of other models: elsewhere"),
        ({"whole": {}}, "is no analysis, or one of another version: whole"),
        ({"base": 7}, "is no analysis, or one of another version: base"),
    ],
)
def test_an_analysis_of_something_else_is_refused(
    world: Path, out: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    content = json.loads((world / "analysis" / "analysis.json").read_text())
    (tmp_path / "analysis.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(DotsError, match=said):
        card(out, analysis=tmp_path / "analysis.json")


def test_the_card_cites_the_method_the_tools_and_what_the_models_cards_ask_for(
    world: Path, out: Path
) -> None:
    text = card(out)
    (block,) = re.findall(r"```bibtex\n(.*?)```", text, re.DOTALL)
    for key in ("yuan2026decouple", "goddard-etal-2024-arcees", "base"):
        assert block.count(f"{{{key},") == 1
    assert BIBTEX in block and "2605.00610" in block and "eval-harness" not in block
    assert "The models that were merged: [org/rlvr](https://huggingface.co/org/rlvr)." in text
    assert "{eval-harness," in card(out, results=world / "results")


def with_benchmark(world: Path, folder: Path, questions: int) -> Path:
    """Results of the merge that have GSM8K's, too."""
    shutil.copytree(world / "results", folder)
    (home,) = folder.glob("best-*")
    content = json.loads(next(home.glob("results_*.json")).read_text())
    content["configs"] = {"gsm8k": {"dataset_path": "openai/gsm8k", "dataset_name": "main"}}
    content["results"] = {"gsm8k": {"exact_match,strict-match": 0.5, "exact_match,other": 0.61375}}
    content["n-samples"] = {"gsm8k": {"original": 1319, "effective": questions}}
    content["n-shot"] = {"gsm8k": 5}
    (home / "results_gsm8k.json").write_text(json.dumps(content))
    head, *rows = (folder / "table.csv").read_text().splitlines()
    rows = [f"{row},{'61.3750' if row.startswith('best,') else '40.0000'}" for row in rows]
    (folder / "table.csv").write_text("\n".join([f"{head},gsm8k", *rows]) + "\n")
    return folder


def test_scores_in_whole_benchmarks_of_the_hub_are_written_for_its_leaderboards(
    world: Path, out: Path, tmp_path: Path
) -> None:
    """In percent, as the table has them; and they go when they are not true any more."""
    before = fingerprint(str(out))
    card(out, results=with_benchmark(world, tmp_path / "results", 1319))
    file = out / ".eval_results" / "dots-eval.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(file.read_text()))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("openai/gsm8k", "gsm8k", 61.38)
    assert entry.notes is not None
    assert entry.notes.endswith("task gsm8k, exact_match (other), 5-shot")
    assert fingerprint(str(out)) == before
    assert ".eval_results/dots-eval.yaml" in share(out, progress=Silent()).files
    card(out, results=world / "results")
    assert not file.exists()


def test_a_share_of_a_benchmark_is_no_score_in_it(world: Path, out: Path, tmp_path: Path) -> None:
    card(out, results=with_benchmark(world, tmp_path / "results", 660))
    assert not (out / ".eval_results").exists()


def test_evidence_stays_when_the_card_is_written_anew_without_it(world: Path, out: Path) -> None:
    full = card(out, study=world / "study", results=world / "results", analysis=world / "analysis")
    assert card(out) == full


def test_results_of_the_merged_model_itself_will_do(world: Path, out: Path, tmp_path: Path) -> None:
    card(out)
    place = tmp_path / "results"
    evaluate(model=out, tasks=["dots_arithmetic_add"], limit=1, out=place, progress=Silent())
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
    with pytest.raises(DotsError, match=r"analysis\.json"):
        card(other, analysis=tmp_path)


def test_mistaken_evidence_is_said_before_anything_takes_time(
    world: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dots_mergekit.sharing.share.sources_of", lambda *_: pytest.fail("begun"))
    for wrong in ({"study": out}, {"results": world / "study"}, {"analysis": world / "results"}):
        with pytest.raises(DotsError):
            card(out, **wrong)


def test_the_choice_is_made_again_too(world: Path, out: Path) -> None:
    card(out, study=world / "study")
    before = (world / "study" / "best.yml").read_bytes()
    assert reproduce(out, study=world / "study", progress=Silent()).identical
    assert (world / "study" / "best.yml").read_bytes() == before
