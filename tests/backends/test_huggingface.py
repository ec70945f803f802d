"""The live Hugging Face model beyond what every backend must do (test_contract.py)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints import write_checkpoint, write_triple
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from transformers import AutoModelForCausalLM, AutoTokenizer

from dots_mergekit.backends.huggingface import LiveModel, open_model
from dots_mergekit.backends.huggingface_lm import HuggingFaceLM
from dots_mergekit.backends.on_disk import OnDiskModel
from dots_mergekit.merging.kernel import select
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.objectives.harness import LmEvalScorer
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Generation
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import selected_from
from dots_mergekit.recipe.mergekit import configuration
from recipes import recipe_of

CHECKPOINTS = Path(__file__).resolve().parents[2] / "examples" / "arithmetic" / "checkpoints"
COUNTED = ("no_answer_rate", "distinct_answers", "mean_answer_length", "truncation_rate", "tokens")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_triple(tmp_path_factory.mktemp("world"))


def assert_equals_disk(model: LiveModel, recipe: Recipe, folder: Path) -> None:
    run_merge(configuration(recipe), str(folder), MergeOptions(quiet=True))
    wanted = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()
    found = model.lm.model.state_dict()
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert torch.equal(found[name], wanted[name]), name


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_model_that_is_closed_gives_its_memory_back(
    world: dict[str, Path], on_disk: bool
) -> None:
    with open_model(recipe_of(world), on_disk=on_disk) as model:
        network = weakref.ref(model.lm.model)
        assert network() is not None
    assert network() is None
    model.close()  # once more does no harm


def test_tied_embeddings_and_other_tokenizers(tmp_path: Path) -> None:
    """A source with more tokens, `tokenizer: {source: union}`, and embeddings that are tied."""
    base = write_checkpoint(tmp_path / "base", tie_word_embeddings=True)
    sft = write_checkpoint(
        tmp_path / "sft",
        seed=1,
        extra_tokens=["<think>"],
        vocab_size=289,
        tie_word_embeddings=True,
    )
    rlvr = write_checkpoint(tmp_path / "rlvr", seed=2, tie_word_embeddings=True)
    world = {"base": base, "sft": sft, "rlvr": rlvr}
    union: dict[str, Any] = {"tokenizer": {"source": "union"}}
    model = open_model(recipe_of(world, **union))
    assert isinstance(model, LiveModel)
    recipe = recipe_of(world, (0.5, 2.0), **union)
    model.use(recipe)
    assert_equals_disk(model, recipe, tmp_path / "out")


def test_a_mixture_of_experts_is_swapped_too(tmp_path: Path) -> None:
    names = ("base", "sft", "rlvr")
    world = {n: write_checkpoint(tmp_path / n, "mixtral", seed=i) for i, n in enumerate(names)}
    model = open_model(recipe_of(world))
    recipe = recipe_of(world, (0.5, 2.0))
    model.use(recipe)
    assert isinstance(model, LiveModel)
    assert_equals_disk(model, recipe, tmp_path / "out")


def test_a_method_without_λ_is_merged_on_disk_and_says_so(
    world: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    content = recipe_of(world, merge_method="ram").content
    for entry in content["models"]:
        del entry["parameters"]
    text = yaml.safe_dump(content)
    model = open_model(Recipe(text))
    assert isinstance(model, OnDiskModel)
    assert "merged on disk, which is slower: the merge method ram has no λ" in caplog.text
    before = model.lm
    model.use(Recipe(f"{text}parameters: {{epsilon: 0.001}}\n"))
    assert model.lm is not before


def test_kept_selections_are_used_again_and_give_the_same_bits(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier process kept is not computed again; another density is, and is kept too."""

    def kept() -> SelectionFile:
        return SelectionFile(tmp_path / "kept.json", lambda: selected_from(recipe_of(world)))

    open_model(recipe_of(world), kept=kept())
    asked = []

    def counted(base: Any, tuned: Any, density: float, **rest: Any) -> Any:
        asked.append(density)
        return select(base, tuned, density, **rest)

    monkeypatch.setattr("dots_mergekit.backends.live.select", counted)
    recipe = recipe_of(world, (0.5, 1.37))
    model = open_model(recipe, kept=kept())
    assert isinstance(model, LiveModel)
    model.use(recipe)
    assert asked == []
    assert_equals_disk(model, recipe, tmp_path / "out")
    model.use(recipe.with_density(0.7))
    assert set(asked) == {0.7}
    asked.clear()
    open_model(recipe, kept=kept()).use(recipe.with_density(0.7))
    assert asked == []


def test_selections_of_other_weights_are_computed_anew(
    world: dict[str, Path], tmp_path: Path
) -> None:
    """A checkpoint of the same names and shapes in the same place, trained further."""
    moved = {name: Path(shutil.copytree(path, tmp_path / name)) for name, path in world.items()}

    def kept() -> SelectionFile:
        return SelectionFile(tmp_path / "kept.json", lambda: selected_from(recipe_of(moved)))

    open_model(recipe_of(moved), kept=kept())
    write_checkpoint(moved["sft"], seed=7, shift_from=moved["base"])
    model = open_model(recipe_of(moved), kept=kept())
    assert isinstance(model, LiveModel)
    recipe = recipe_of(moved, (0.5, 1.37))
    model.use(recipe)
    assert_equals_disk(model, recipe, tmp_path / "out")


class Loaded:
    """A checkpoint as transformers loads it, for any recipe."""

    def __init__(self, folder: Path) -> None:
        self.lm = HuggingFaceLM(
            pretrained=AutoModelForCausalLM.from_pretrained(folder, dtype="auto"),
            tokenizer=AutoTokenizer.from_pretrained(folder),
            batch_size=8,
        )

    def use(self, recipe: Recipe) -> None:
        """Stay as it is."""


@pytest.mark.skipif(not CHECKPOINTS.is_dir(), reason="the example's checkpoints are not here")
def test_live_scores_are_exactly_those_of_the_merge_that_mergekit_yaml_writes(
    tmp_path: Path,
) -> None:
    """With trained models, after other λ and another density: parameters, objectives, tokens."""
    world = {name: CHECKPOINTS / name for name in ("base", "sft", "rlvr")}
    first = recipe_of(world)
    live = open_model(first, batch_size=8)
    assert isinstance(live, LiveModel)
    live.use(first.with_density(0.7))
    live.use(first.with_weights({"sft": -1.0}))
    recipe = first.with_weights({"sft": 0.7, "rlvr": 1.9})
    recipe.write(tmp_path / "recipe.yml")
    out = tmp_path / "out"
    subprocess.run(
        [Path(sys.executable).with_name("mergekit-yaml"), tmp_path / "recipe.yml", out, "--quiet"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        check=True,
    )
    questions = {"12+34=?": "46", "7*8=?": "56", "reverse abcd": "dcba", "max 3 9 4": "9"}
    pool = [Query(question, pseudo_label=label) for question, label in questions.items()]
    sampling = Generation(votes=4, temperature=1.0, max_tokens=32, batch_size=8)
    asked = ("consistency", "agreement", "perplexity", "response_perplexity")
    with LmEvalScorer(live, sampling, asked) as scorer:
        found = scorer.score(recipe, pool, seed=3)
    with LmEvalScorer(Loaded(out), sampling, asked) as scorer:
        wanted = scorer.score(recipe, pool, seed=3)
    on_disk = AutoModelForCausalLM.from_pretrained(out, dtype="auto").state_dict()
    in_memory = live.lm.model.state_dict()
    assert found.objectives == wanted.objectives
    assert 0 < found.objectives["consistency"] < 1, "equal for a better reason than being trivial"
    assert [found.details[name] for name in COUNTED] == [wanted.details[name] for name in COUNTED]
    assert in_memory.keys() == on_disk.keys()
    assert all(torch.equal(in_memory[name], on_disk[name]) for name in on_disk)
