"""Every recipe that we ship is loaded and planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_stub
from safetensors import safe_open

from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import plan
from dots_mergekit.recipe.places import with_paths
from dots_mergekit.tuning.settings import Settings

ROOT = Path(__file__).parent.parent
RECIPES = [
    path
    for folder in ("recipes", "examples")
    for path in sorted((ROOT / folder).rglob("*.y*ml"))
    if "merge_method:" in path.read_text(encoding="utf-8")
]

TUNED = [path for path in RECIPES if len(Recipe.load(path).sources) > 1]

QWEN_MATH_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
QWEN_MATH_1_5B = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
SHAPES: dict[str, dict[str, Any]] = {
    "Elliott/Qwen2.5-Math-7B-16k-think": QWEN_MATH_7B,
    "Elliott/Qwen2.5-Math-7B-SFT": QWEN_MATH_7B,
    "Elliott/LUFFY-Qwen-Math-7B-Zero-On-Policy": QWEN_MATH_7B,
    "rzzhan/ExGRPO-Qwen2.5-Math-7B-Zero": QWEN_MATH_7B,
    "RoadQAQ/ReLIFT-Qwen2.5-Math-7B-Zero": QWEN_MATH_7B,
    "RoadQAQ/Qwen2.5-Math-1.5B-16k-think": QWEN_MATH_1_5B,
    "RoadQAQ/ReLIFT-Qwen2.5-Math-1.5B-Zero": QWEN_MATH_1_5B,
    "Elliott/LUFFY-Qwen-Math-1.5B-Zero": QWEN_MATH_1_5B,
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_loads_and_plans(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no mistakes, and mergekit plans a tensor for every weight of its models.

    Hub models are stood in for by checkpoints of the same shapes whose weights are holes.
    """
    monkeypatch.chdir(ROOT)
    recipe = Recipe.load(path)
    stubs = {
        name: write_stub(tmp_path / name.replace("/", "--"), "qwen2", **SHAPES[name])
        for name in recipe.paths
        if not name.startswith("./")
    }
    local = recipe.changed(with_paths(recipe.content, stubs))
    tasks = plan(local)
    with safe_open(Path(local.paths[0]) / "model.safetensors", framework="pt") as base:
        assert {task.tensor_name for task in tasks} == set(base.keys())
    for task in tasks:
        merge = task.tensor_task
        values = [dict(merge.input_parameters[model].items()) for model in merge.model_order]
        assert len(values) == len(recipe.models)
        assert sum("weight" in value for value in values) == len(recipe.sources)


@pytest.mark.parametrize("path", TUNED, ids=lambda path: str(path.relative_to(ROOT)))
def test_it_says_how_to_tune_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    settings = Settings.parse(Recipe.load(path))
    assert len(settings.weights) == (6 if path.name == "kinds.yml" else 2)
    assert (settings.queries.selection, settings.queries.size) == ("random", 192)


def test_the_ones_we_promise_are_there() -> None:
    """The glob above finds the recipes that people are told to run."""
    names = {path.name for path in RECIPES}
    assert {"quickstart.yml", "dots.yml", "exgrpo_relift.yml", "qwen2.5-math-1.5b.yml"} <= names
    assert {"sparse.yml", "kinds.yml"} <= names
