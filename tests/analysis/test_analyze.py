"""Analyses of whole models: figures by their definitions, names, refusals, advice."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from checkpoints import read_tensors, write_checkpoint
from numpy.typing import NDArray
from safetensors.torch import save_file

from dots_mergekit import DotsError, Recipe, Silent, analyze
from dots_mergekit.analysis.modules import place_of
from dots_mergekit.analysis.result import Analysis

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/arithmetic/checkpoints"

Array = NDArray[np.float64]


def look(out: Path, base: Path, *models: Path) -> Analysis:
    return analyze(base=base, model=list(models), out=out, progress=Silent())


def rewritten(folder: Path, out: Path, change: Mapping[str, torch.Tensor | None]) -> Path:
    """Copy a checkpoint, with some tensors changed, added or left out."""
    shutil.copytree(folder, out)
    tensors: dict[str, torch.Tensor | None] = {**read_tensors(folder), **change}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, out / "model.safetensors", {"format": "pt"})
    return out


# --- figures by their definitions ---------------------------------------------------------------


class Oracle:
    """Every figure of some tensors, from dense arrays in float64, as it is defined."""

    def __init__(self, base: Sequence[Array], sources: Sequence[Sequence[Array]]) -> None:
        self.base = np.concatenate(base)
        self.taus = [
            np.concatenate([t - b for t, b in zip(one, base, strict=True)]) for one in sources
        ]
        self.parts = [[t - b for t, b in zip(one, base, strict=True)] for one in sources]

    def kept(self, source: int, density: float) -> list[NDArray[np.bool_]]:
        """What is kept of each tensor."""
        masks = []
        for tau in self.parts[source]:
            magnitude = np.abs(tau)
            k = max(1, math.floor(density * tau.size))
            masks.append((magnitude >= np.sort(magnitude)[::-1][k - 1]) & (magnitude > 0))
        return masks

    def source(self, i: int, densities: Sequence[float]) -> dict[str, Any]:
        tau = self.taus[i]
        tuned = self.base + tau
        kept = [np.concatenate(self.kept(i, d)) for d in densities]
        squares = np.sum(tau**2)
        return {
            "norm": np.linalg.norm(tau),
            "relative_change": np.linalg.norm(tau) / np.linalg.norm(self.base),
            "zeros": np.mean(tau == 0),
            "cosine_with_base": cosine(self.base, tuned),
            "kept": [mask.mean() for mask in kept],
            "kept_energy": [np.sum(tau[mask] ** 2) / squares if squares else None for mask in kept],
        }

    def pair(self, a: int, b: int, densities: Sequence[float]) -> dict[str, Any]:
        one, other = self.taus[a], self.taus[b]
        found: dict[str, Any] = {"cosine": cosine(one, other)}
        lengths = np.linalg.norm(one), np.linalg.norm(other)
        found["norm_ratio"] = lengths[0] / lengths[1] if lengths[1] else None
        curves = ("conflict", "conflict_by_chance", "conflict_where_both")
        found |= {name: [] for name in (*curves, "jaccard", "jaccard_by_chance")}
        for density in densities:
            x, y = self.kept(a, density), self.kept(b, density)
            first, second = np.concatenate(x), np.concatenate(y)
            both, either = (first & second).sum(), first.sum() + second.sum()
            opposed = (one * other < 0) & first & second
            chance = sum(p.sum() * q.mean() for p, q in zip(x, y, strict=True))
            found["conflict"].append(opposed.mean())
            found["conflict_by_chance"].append(chance / 2 / one.size)
            found["conflict_where_both"].append(opposed.sum() / both if both else None)
            found["jaccard"].append(both / (either - both) if either else None)
            found["jaccard_by_chance"].append(chance / (either - chance) if either else None)
        return found


def cosine(one: Array, other: Array) -> float | None:
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / lengths) if lengths else None


def groups(names: Sequence[str]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """Every part of analysis.json that has figures, with the tensors that they are of."""
    yield ("whole", ""), list(names)
    for name in names:
        yield ("tensors", name), [name]
    for kind in {place_of(name).kind for name in names}:
        yield ("kinds", kind), [name for name in names if place_of(name).kind == kind]
    for layer in {place_of(name).layer for name in names} - {None}:
        yield ("layers", str(layer)), [name for name in names if place_of(name).layer == layer]


def test_every_figure_of_the_example_is_what_its_definition_says(tmp_path: Path) -> None:
    recipe = Recipe.load(ROOT / "recipes/quickstart.yml")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        analyze(recipe, out=tmp_path / "out", progress=Silent())
    finally:
        os.chdir(before)
    written = json.loads((tmp_path / "out/analysis.json").read_text())
    stored = [read_tensors(EXAMPLE / name) for name in ("base", "sft", "rlvr")]
    wide = [{n: t.double().numpy().ravel() for n, t in one.items()} for one in stored]
    assert set(written["tensors"]) == set(wide[0])
    densities, compared = written["densities"], 0
    assert densities == pytest.approx([i / 20 for i in range(1, 21)])
    for (section, key), members in groups(list(wide[0])):
        found = written[section][key] if key else written[section]
        base, *sources = ([one[name] for name in members] for one in wide)
        oracle = Oracle(base, sources)
        assert found["entries"] == oracle.base.size
        assert found["base_norm"] == pytest.approx(np.linalg.norm(oracle.base), rel=1e-6)
        for i, name in enumerate(("sft", "rlvr")):
            compared += same(found["sources"][name], oracle.source(i, densities))
        [pair] = found["pairs"]
        assert pair.pop("between") == ["sft", "rlvr"]
        compared += same(pair, oracle.pair(0, 1, densities))
    assert compared > 10_000


def same(found: dict[str, Any], wanted: dict[str, Any]) -> int:
    """Compare figures to a millionth; give how many there are."""
    assert found.keys() == wanted.keys()
    compared = 0
    for name, value in wanted.items():
        listed = value if isinstance(value, list) else [value]
        others = found[name] if isinstance(value, list) else [found[name]]
        for one, other in zip(listed, others, strict=True):
            wanted_one = None if one is None else pytest.approx(float(one), rel=1e-6, abs=0)
            assert other == wanted_one, name
            compared += 1
    return compared


# --- names and several sources ------------------------------------------------------------------


def test_of_three_sources_every_two_are_compared(tmp_path: Path, models: Path) -> None:
    third = write_checkpoint(tmp_path / "third", seed=3, shift_from=models / "base")
    found = look(tmp_path / "out", models / "base", models / "sft", models / "rlvr", third)
    pairs = [pair.between for pair in found.whole.pairs]
    assert pairs == list(itertools.combinations(("sft", "rlvr", "third"), 2))
    text = (tmp_path / "out/analysis.md").read_text()
    for a, b in pairs:
        assert f"## {a} and {b}\n" in text
    assert len(found.advice) == 0


def test_one_source_has_no_pairs_and_no_pictures_of_pairs(tmp_path: Path, models: Path) -> None:
    found = look(tmp_path / "out", models / "base", models / "sft")
    assert found.whole.pairs == ()
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"analysis.json", "analysis.md", "histogram.png", "magnitude.png"}
    assert "conflict.png" not in (tmp_path / "out/analysis.md").read_text()


def test_pictures_of_other_models_do_not_stay(tmp_path: Path, models: Path) -> None:
    look(tmp_path / "out", models / "base", models / "sft", models / "rlvr")
    assert (tmp_path / "out/conflict.png").exists()
    look(tmp_path / "out", models / "base", models / "sft")
    assert not (tmp_path / "out/conflict.png").exists()


def test_the_page_loads_nothing_and_is_gone_when_it_is_not_asked_for(
    tmp_path: Path, models: Path
) -> None:
    out = tmp_path / "out"
    evil = tmp_path / "</script><script>alert(1)"
    evil.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(models / "rlvr", evil)
    sources = [models / "sft", evil]
    asked: dict[str, Any] = {"base": models / "base", "model": sources, "out": out}
    found = analyze(**asked, html=True, progress=Silent())
    text = (out / "analysis.html").read_text()
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|src=|href=|url\(|@import", text)
    [data] = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text)
    page = json.loads(data)
    assert [row[0] for row in page["rows"]] == list(found.sources)
    conflict = next(one for one in page["curves"] if one["name"].endswith("of all entries"))
    assert conflict["lines"][0]["values"] == list(found.whole.pairs[0].conflict)
    for figure in page["figures"]:
        assert all(len(panel["cells"]) == len(page["places"]) for panel in figure["panels"])
    analyze(**asked, progress=Silent())
    assert not (out / "analysis.html").exists()


def test_a_recipe_of_any_method_names_the_models(tmp_path: Path, models: Path) -> None:
    listed = [
        {"model": str(models / name), "parameters": {"weight": 0.5}}
        for name in ("base", "sft", "rlvr")
    ]
    ties: dict[str, Any] = {
        "merge_method": "ties",
        "base_model": str(models / "base"),
        "models": listed,
    }
    ties["parameters"] = {"density": 0.2}
    recipe = Recipe(yaml.safe_dump(ties))
    found = analyze(recipe, out=tmp_path / "ties", progress=Silent())
    assert list(found.sources) == ["sft", "rlvr"]
    named = look(tmp_path / "named", models / "base", models / "sft", models / "rlvr")
    assert found.whole == named.whole
    linear = {"merge_method": "linear", "models": listed}
    with pytest.raises(DotsError, match="`base_model` is missing"):
        analyze(Recipe(yaml.safe_dump(linear)), out=tmp_path / "linear", progress=Silent())


def test_experts_are_measured_one_by_one_as_checkpoints_have_them(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", "mixtral", seed=0)
    one = write_checkpoint(tmp_path / "one", "mixtral", seed=1, shift_from=base)
    two = write_checkpoint(tmp_path / "two", "mixtral", seed=2, shift_from=base)
    found = look(tmp_path / "out", base, one, two)
    stored = [read_tensors(folder) for folder in (base, one, two)]
    assert {"router", "experts down"} <= set(found.kinds)
    assert any(kind.startswith("experts gate") for kind in found.kinds)
    assert found.whole.entries == sum(t.numel() for t in stored[0].values())
    wide = [[t.double().numpy().ravel() for _, t in sorted(s.items())] for s in stored]
    oracle = Oracle(wide[0], wide[1:])
    densities = [i / 20 for i in range(1, 21)]
    pair = oracle.pair(0, 1, densities)
    written = dataclasses.asdict(found.whole.pairs[0])
    assert written.pop("between") == ("one", "two")
    assert same({n: list(v) if isinstance(v, tuple) else v for n, v in written.items()}, pair) > 100


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_counted_once(tmp_path: Path, tied: bool) -> None:
    base = write_checkpoint(tmp_path / "base", seed=0, tie_word_embeddings=tied)
    one = write_checkpoint(tmp_path / "one", seed=1, shift_from=base, tie_word_embeddings=tied)
    found = look(tmp_path / "out", base, one)
    assert ("head" in found.kinds) == (not tied)
    assert found.whole.entries == sum(t.numel() for t in read_tensors(base).values())


# --- what is refused ----------------------------------------------------------------------------


def test_another_shape_is_named(tmp_path: Path, models: Path) -> None:
    wide = write_checkpoint(tmp_path / "wide", seed=1, intermediate_size=128)
    with pytest.raises(DotsError, match="intermediate_size"):
        look(tmp_path / "out", models / "base", wide)
    assert not (tmp_path / "out").exists()


def test_a_missing_tensor_is_named(tmp_path: Path, models: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    short = rewritten(models / "sft", tmp_path / "short", {name: None})
    with pytest.raises(DotsError, match=name.replace(".", r"\.")):
        look(tmp_path / "out", models / "base", short)


def test_a_tensor_of_one_checkpoint_alone_is_told(tmp_path: Path, models: Path) -> None:
    more = rewritten(models / "sft", tmp_path / "more", {"value_head.weight": torch.ones(4, 4)})
    found = look(tmp_path / "out", models / "base", more)
    assert any("value_head.weight" in warning for warning in found.warnings)
    assert "value_head.weight" in (tmp_path / "out/analysis.md").read_text()


def test_what_is_not_a_number_is_named_with_its_model(tmp_path: Path, models: Path) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    tensor = read_tensors(models / "rlvr")[name].clone()
    tensor[1, 2] = math.nan
    bad = rewritten(models / "rlvr", tmp_path / "bad", {name: tensor})
    with pytest.raises(DotsError, match=rf"{name} of bad: 1 of \d+ entries are NaN"):
        look(tmp_path / "out", models / "base", models / "sft", bad)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "nothing to look at"),
        ({"model": "a"}, "`base` is missing"),
        ({"base": "a"}, "`model`: name at least one"),
        ({"base": "a", "model": ["b", "a"]}, "a is the base itself"),
        ({"recipe": "recipes/quickstart.yml", "base": "a"}, "not both"),
        ({"base": "a", "model": "b+c"}, r"b\+c has a LoRA adapter"),
        ({"base": "./nowhere", "model": "./nor_here"}, "nowhere"),
    ],
)
def test_what_is_asked_in_a_wrong_way(
    asked: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(DotsError, match=message):
        analyze(**asked, out=tmp_path / "out", progress=Silent())


def test_a_folder_is_known_by_every_spelling(tmp_path: Path, models: Path) -> None:
    again = f"{models}/rlvr/../sft/"
    found = look(tmp_path / "out", models / "base", models / "sft", Path(again), models / "rlvr")
    assert list(found.sources) == ["sft", "rlvr"]
    found = analyze(base=models / "base", model=again, out=tmp_path / "out", progress=Silent())
    assert list(found.sources) == ["sft"]
    with pytest.raises(DotsError, match="is the base itself"):
        analyze(base=models / "base", model=f"{models}/sft/../base", out=tmp_path / "out")


def test_nothing_is_written_into_a_model(tmp_path: Path, models: Path) -> None:
    mine = shutil.copytree(models / "sft", tmp_path / "mine")
    before = sorted(path.name for path in mine.iterdir())
    with pytest.raises(DotsError, match="mine is one of the models; choose another `out`"):
        look(mine, models / "base", mine)
    assert sorted(path.name for path in mine.iterdir()) == before


# --- what is advised ----------------------------------------------------------------------------


def test_nothing_is_advised_for_the_example(tmp_path: Path) -> None:
    found = look(tmp_path / "out", EXAMPLE / "base", EXAMPLE / "sft", EXAMPLE / "rlvr")
    assert found.advice == ()
    assert "Nothing speaks against a merge" in (tmp_path / "out/analysis.md").read_text()


def test_another_base_of_the_same_shape_is_recognized(tmp_path: Path, models: Path) -> None:
    other = write_checkpoint(tmp_path / "other", seed=7)
    found = look(tmp_path / "out", other, models / "sft", models / "rlvr")
    assert [one.about for one in found.advice] == ["base", "base"]
    assert all("was not trained from this base" in one.message for one in found.advice)


def test_one_stranger_among_several_is_the_one_that_is_named(tmp_path: Path, models: Path) -> None:
    other = write_checkpoint(tmp_path / "other", seed=7)
    found = look(tmp_path / "out", models / "base", models / "sft", other)
    [advice] = found.advice
    assert advice.about == "base"
    assert advice.message.startswith("other was not")


def test_two_that_are_nearer_to_each_other_than_to_the_base(tmp_path: Path, models: Path) -> None:
    """As when the base that was named is the base's own base."""
    tuned = write_checkpoint(tmp_path / "tuned", seed=5, shift_from=models / "sft", shift=1e-3)
    again = write_checkpoint(tmp_path / "again", seed=6, shift_from=models / "sft", shift=1e-3)
    found = look(tmp_path / "out", models / "base", tuned, again)
    [advice] = found.advice
    assert (advice.about, advice.sure) == ("one parent", "likely")
    assert look(tmp_path / "out", models / "sft", tuned, again).advice == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_copy_of_the_base_is_told(tmp_path: Path, models: Path, dtype: torch.dtype) -> None:
    copied = {name: tensor.to(dtype) for name, tensor in read_tensors(models / "base").items()}
    copy = rewritten(models / "base", tmp_path / "copy", copied)
    found = look(tmp_path / "out", models / "base", models / "sft", copy)
    [advice] = found.advice
    assert (advice.about, advice.sure) == ("no change", "certain")
    assert advice.message.startswith("copy is equal to the base")


def test_what_a_merge_needs_besides_weights_is_not_asked_for(tmp_path: Path, models: Path) -> None:
    """Tokenizers, that is."""
    bare = []
    for name in ("base", "sft"):
        bare.append(tmp_path / name)
        bare[-1].mkdir()
        for file in ("config.json", "model.safetensors"):
            shutil.copy(models / name / file, bare[-1])
    assert look(tmp_path / "out", *bare).whole.entries > 0
