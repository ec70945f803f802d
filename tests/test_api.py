"""The Python API: README's lines, what is refused before a model is loaded, how it ends."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkpoints import read_tensors, write_checkpoint
from searching import World

import dots_mergekit
from dots_mergekit import (
    DotsError,
    Recipe,
    Silent,
    check,
    evaluate,
    merge,
    preview,
    select_queries,
    tune,
)
from dots_mergekit.errors import RecipeError

ROOT = Path(__file__).resolve().parents[1]


class Heard:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def begin(self, stage: str, total: int, done: int) -> None:
        self.stages.append(stage)

    def advance(self, result: str) -> None:
        pass

    def status(self, message: str) -> None:
        pass

    def note(self, message: str) -> None:
        self.notes.append(message)


def readme_lines() -> str:
    """The example in README, as it stands there."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert isinstance(code, str)
    return code


def test_the_package_and_readme_show_the_same_lines() -> None:
    told = dots_mergekit.__doc__ or ""
    for line in readme_lines().splitlines():
        assert line.strip() in told


def test_readmes_lines_run_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They tune, merge and score, and the merge beats its parents."""
    for folder in ("recipes", "examples"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(readme_lines(), names)
    printed = capsys.readouterr().out
    assert printed.startswith("| model |") and "ties-1" in printed
    outcome = names["outcome"]
    assert len(outcome.trials) == 30
    assert outcome.best.weights() == outcome.choice.point.weights
    assert (tmp_path / "out" / "config.json").exists()
    lines = printed.partition("\n\n")[0].splitlines()
    mean = [cell.strip() for cell in lines[0].split("|")].index("questions") - 1
    rows = {
        cells[1].strip(" *"): float(cells[mean].strip(" *").partition(" ±")[0])
        for cells in (line.split("|") for line in lines[2:])
    }
    assert rows["best"] > max(rows["sft"], rows["rlvr"])
    shown = outcome._repr_markdown_()
    assert "data:image/png;base64," in shown and "](front.png)" not in shown


@pytest.fixture
def world(models: Path, tmp_path: Path) -> World:
    return World(models, tmp_path)


def test_a_merge_is_what_mergekit_writes_and_warnings_are_told(
    world: World, tmp_path: Path
) -> None:
    recipe = world.recipe("dots")
    heard = Heard()
    assert merge(recipe, tmp_path / "out", progress=heard) == tmp_path / "out"
    merged = read_tensors(tmp_path / "out")
    assert merged.keys() == read_tensors(world.models / "base").keys()
    assert heard.notes == [f.message for f in check(recipe, out=tmp_path / "new").warnings]
    with pytest.raises(DotsError, match="is not a folder"):
        merge(recipe, world.folder / "recipe.yml" / "out")


def test_an_older_merge_is_replaced_if_asked_for_and_an_input_never(
    world: World, tmp_path: Path
) -> None:
    recipe, out = world.recipe("dots"), tmp_path / "out"
    merge(recipe, out, progress=Silent())
    before = (out / "model.safetensors").read_bytes()
    other = recipe.with_weights({"sft": 0.3})
    with pytest.raises(DotsError, match="already holds a model, which is replaced with `overw"):
        merge(other, out, progress=Silent())
    assert (out / "model.safetensors").read_bytes() == before
    merge(other, out, overwrite=True, progress=Silent())
    assert (out / "model.safetensors").read_bytes() != before
    assert (out / "README.md").read_text().count("# out") == 1
    source = (world.models / "sft" / "model.safetensors").read_bytes()
    with pytest.raises(DotsError, match="an input, which would be lost"):
        merge(recipe, world.models / "sft", overwrite=True)
    assert (world.models / "sft" / "model.safetensors").read_bytes() == source
    assert any("an input" in f.message for f in check(recipe, out=world.models / "sft").errors)
    assert not check(recipe, out=out, overwrite=True).errors


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none.yml", "No such file or directory"),
        (".", "it is a folder"),
        ("a\0b", "null byte"),
        ("x" * 5000, "File name too long"),
        ("circle", "Too many levels of symbolic links"),
    ],
)
def test_a_path_that_leads_to_no_recipe_is_named_whoever_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    for call in (check, preview, tune, lambda p: merge(p, "out"), lambda p: evaluate(p, tasks="a")):
        with pytest.raises(DotsError) as refused:
            call(path)
        message = str(refused.value)
        assert message.startswith("cannot read the recipe ") and said in message
        assert message.isprintable() and len(message) < 500
    assert list(tmp_path.iterdir()) == [tmp_path / "circle"]


def test_paths_of_recipes_are_taken_for_recipes(world: World) -> None:
    path = world.recipe("dots").origin
    assert preview(path, trials=7) == preview(Recipe.load(path), trials=7)
    assert "7 trials" in preview(path, trials=7)


def test_a_check_looks_into_the_section_of_the_search(world: World) -> None:
    recipe = world.recipe("dots", trails=30, pick="kne")
    messages = [finding.message for finding in check(recipe).errors]
    assert any("tune.trails: unknown key; did you mean `trials`?" in m for m in messages)
    assert any("tune.pick: unknown pick rule `kne`; did you mean `knee`?" in m for m in messages)
    assert not check(world.recipe("dots")).errors
    without = Recipe(yaml.safe_dump({k: v for k, v in recipe.content.items() if k != "tune"}))
    assert not check(without).errors


def test_findings_show_themselves(world: World) -> None:
    found = check(world.recipe("dots", trails=30))
    assert str(found).startswith("error: ")
    assert found._repr_markdown_().startswith("|  | finding |")


def test_a_keyword_that_is_no_key_of_the_section_is_named(world: World) -> None:
    with pytest.raises(RecipeError, match=r"^`trails`: unknown key; did you mean `trials`\?"):
        tune(world.recipe("dots"), trails=5)


def test_options_of_another_backend_are_refused_before_anything_is_written(
    world: World, tmp_path: Path
) -> None:
    with pytest.raises(DotsError, match="`on_disk` goes with backend `hf`"):
        tune(world.recipe("dots"), out=tmp_path / "study", backend="vllm", on_disk=True)
    with pytest.raises(DotsError, match="there is no backend `vlm`; did you mean `vllm`"):
        tune(world.recipe("dots"), out=tmp_path / "study", backend="vlm")
    assert not (tmp_path / "study").exists()


def test_models_that_cannot_be_merged_are_found_before_they_are_loaded(
    world: World, tmp_path: Path
) -> None:
    others = World(tmp_path / "others", world.folder)
    shutil.copytree(world.models, others.models)
    write_checkpoint(others.models / "sft", hidden_size=32, seed=1)
    with pytest.raises(DotsError, match="sft"):
        tune(others.recipe(), out=tmp_path / "study")
    shutil.rmtree(others.models / "sft")
    shutil.copytree(others.models / "base", others.models / "sft")
    with pytest.raises(DotsError, match="its weight has no effect"):
        tune(others.recipe(), out=tmp_path / "study")


def test_an_unusable_folder_is_found_before_any_model_is_looked_at(world: World) -> None:
    recipe = Recipe(world.recipe().text.replace(str(world.models), "/nowhere"))
    (world.folder / "file").write_text("")
    with pytest.raises(DotsError, match="cannot write into the study folder"):
        tune(recipe, out=world.folder / "file" / "study")


def test_progress_is_the_callers_and_logs_are_as_they_were(world: World, tmp_path: Path) -> None:
    """A real search of a tiny model, whose answers are the last lines of its responses."""
    logger = logging.getLogger("lm_eval")
    logger.setLevel(logging.INFO)
    heard = Heard()
    recipe = world.recipe("dots", max_tokens=8, regex="(.+)")
    outcome = tune(
        recipe,
        out=tmp_path / "study",
        merge=tmp_path / "merged",
        progress=heard,
        trials=5,
        confirm=1,
        objectives=["consistency", "perplexity"],
        queries={"source": str(world.folder / "questions.jsonl"), "size": 6, "selection": "all"},
    )
    assert heard.stages == ["queries", "search", "confirmation"]
    assert logger.level == logging.INFO
    assert outcome.settings.trials == len(outcome.trials) == 5
    written = read_tensors(tmp_path / "merged")
    assert written.keys() == read_tensors(world.models / "base").keys()
    assert outcome.best.origin == str(tmp_path / "study" / "best.yml")
    assert "| trial |" in outcome._repr_markdown_()


def test_queries_are_selected_without_models(tmp_path: Path) -> None:
    source = tmp_path / "q.jsonl"
    source.write_text("".join(f'{{"prompt": "{n}"}}\n' for n in range(9)))
    assert len(select_queries(str(source), tmp_path / "out.jsonl", size=4)) == 4
    with pytest.raises(DotsError, match="`sice`: unknown key; did you mean `size`"):
        select_queries(str(source), tmp_path / "out.jsonl", sice=4)
    with pytest.raises(DotsError, match="needs the models"):
        select_queries(str(source), tmp_path / "out.jsonl", selection="difficulty")


def test_silence_shows_nothing(world: World, tmp_path: Path, capfd: Any) -> None:
    merge(world.recipe("dots"), tmp_path / "out", progress=Silent())
    assert capfd.readouterr() == ("", "")
