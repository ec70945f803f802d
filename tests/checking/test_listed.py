"""What a recipe lists: models without effect or counted twice, λ that no merge can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from checked import errors, of, warnings

from dots_mergekit.checking import check


def entry(path: Any, **parameters: Any) -> dict[str, Any]:
    return {"model": str(path), "parameters": parameters}


def linked(world: Path) -> Path:
    link = world / "link"
    if not link.is_symlink():
        link.symlink_to(world / "sft")
    return link


ERRORS: Mapping[str, tuple[Callable[[Path], list[Any]], str]] = {
    "the base among the models": (
        lambda w: [entry(w / "base", weight=1.0), entry(w / "sft", weight=1.0)],
        "`weight` of {world}/base has no effect, as it is the base model",
    ),
    "one model twice": (
        lambda w: [entry(w / "sft", weight=1.0), entry(w / "sft", weight=0.5)],
        "{world}/sft is one model, which is listed twice",
    ),
    "one model twice, with a slash": (
        lambda w: [entry(w / "sft", weight=1.0), entry(f"{w / 'sft'}/", weight=0.5)],
        "{world}/sft/ and {world}/sft is one model",
    ),
    "one model twice, with a detour": (
        lambda w: [entry(w / "sft", weight=1.0), entry(f"{w}/base/../sft", weight=0.5)],
        "is one model, which is listed twice",
    ),
    "one model twice, by a link": (
        lambda w: [entry(w / "sft", weight=1.0), entry(linked(w), weight=0.5)],
        "is one model, which is listed twice",
    ),
    "a weight that is a truth": (
        lambda w: [entry(w / "sft", weight=True)],
        "a number is needed, got True",
    ),
    "a density that is a truth": (
        lambda w: [entry(w / "sft", weight=1.0, density=True)],
        "a number is needed, got True",
    ),
    "a weight of 1e308": (
        lambda w: [entry(w / "sft", weight=1e308)],
        "the weight 1e+308 of sft is beyond what a merge can hold",
    ),
    "a weight of -1e7 among filters": (
        lambda w: [entry(w / "sft", weight=[{"filter": "mlp", "value": -1e7}, {"value": 1.0}])],
        "the weight -1e+07 of sft/mlp is beyond",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_must_not_be_merged(world: Path, name: str) -> None:
    models, said = ERRORS[name]
    found = errors(check(of(world / "base", models=models(world))))
    assert any(said.format(world=world) in message for message in found), found


def test_float16_holds_less(world: Path) -> None:
    models = [entry(world / "sft", weight=70_000.0)]
    (message,) = errors(check(of(world / "base", models=models, dtype="float16")))
    assert "at most 65504" in message


def test_what_is_only_odd(world: Path) -> None:
    """A large weight, and settings that mergekit passes over, are warnings."""
    recipe = of(world / "base", models=[entry(world / "sft", weight=200.0)])
    assert "far from usual ones" in warnings(check(recipe))[0]
    settings = {"normalize": True, "int8_mask": True, "lambda": 1.0}
    recipe = of(world / "base", world / "sft", merge_method="dots", parameters=settings)
    found = check(recipe)
    assert not found.errors
    said = [m for m in warnings(found) if "has no effect" in m]
    assert len(said) == 3
    assert any("`normalize` has no effect: it is a setting of linear, task" in m for m in said)


def test_what_is_in_order(world: Path) -> None:
    """The base without settings, as mergekit's examples list it; a linear merge with the base."""
    models = [{"model": str(world / "base")}, entry(world / "sft", weight=1.0)]
    assert {f.severity for f in check(of(world / "base", models=models))} == {"note"}
    models = [entry(world / "base", weight=1.0), entry(world / "sft", weight=1000.0)]
    recipe = of(world / "base", models=models, merge_method="linear")
    assert {f.severity for f in check(recipe)} == {"note"}
    settings = {"normalize": True, "int8_mask": True, "lambda": 1.0}
    recipe = of(world / "base", world / "sft", merge_method="ties", parameters=settings)
    assert {f.severity for f in check(recipe)} == {"note"}
