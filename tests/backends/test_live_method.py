"""Methods of mergekit's own, their λ changed in a loaded model: the bits that mergekit writes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint

from dots_mergekit.backends.huggingface import LiveModel, open_model
from dots_mergekit.backends.huggingface_lm import load_checkpoint
from dots_mergekit.backends.live_method import LiveMethod
from dots_mergekit.backends.on_disk import SEED
from dots_mergekit.errors import NonFiniteError
from dots_mergekit.evaluation.baselines import BASELINES
from dots_mergekit.evaluation.making import baselines
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import write_merge
from dots_mergekit.recipe.plans import NotLiveError
from recipes import recipe_of

WITH_WEIGHTS = [name for name in BASELINES if name.endswith("-1") and name != "dots-1"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("world")
    made = {"base": write_checkpoint(folder / "base")}
    for seed, name in enumerate(("sft", "rlvr"), start=1):
        made[name] = write_checkpoint(folder / name, seed=seed, shift_from=made["base"])
    return made


def of_method(world: dict[str, Path], name: str) -> Recipe:
    made = baselines(recipe_of(world), (name,), lambda _: {"sft": 1.0, "rlvr": 1.0})
    return made.baselines[0].recipe


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_any_λ_gives_what_mergekit_writes(
    world: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Random masks included, and whatever was merged before."""
    recipe = of_method(world, name)
    caplog.set_level(logging.WARNING, "dots_mergekit")
    model = open_model(recipe, device="cpu")
    assert isinstance(model, LiveModel) and "merged on disk" not in caplog.text
    values = dict(zip(recipe.weights(), (0.5, 1.75), strict=True))
    model.use(recipe.with_weights(dict.fromkeys(values, 2.0)))
    torch.manual_seed(99)
    state = torch.get_rng_state()
    model.use(recipe.with_weights(values))
    assert torch.equal(torch.get_rng_state(), state), "sampling is not disturbed"
    write_merge(recipe.with_weights(values), tmp_path / "out", seed=SEED)
    written = load_checkpoint(str(tmp_path / "out"), device="cpu").model.state_dict()
    held = model.lm.model.state_dict()
    assert all(torch.equal(held[key], tensor) for key, tensor in written.items())


def test_λ_that_divide_by_zero_are_an_error_that_names_the_tensor(
    world: dict[str, Path],
) -> None:
    recipe = of_method(world, "linear-1")
    model = open_model(recipe, device="cpu")
    with pytest.raises(NonFiniteError, match=r"the merged tensor \S+ has NaN or infinity"):
        model.use(recipe.with_weights(dict.fromkeys(recipe.weights(), 0.0)))
    model.use(recipe)


def test_what_has_no_λ_is_not_live(world: dict[str, Path]) -> None:
    with pytest.raises(NotLiveError, match="ram has no λ to change"):
        LiveMethod(of_method(world, "ram"), seed=0)
    text: Any = recipe_of(world).text.replace(str(world["sft"]), f"{world['sft']}+{world['rlvr']}")
    with pytest.raises(NotLiveError, match="adapter"):
        LiveMethod(Recipe(text.replace("dots", "linear", 1)), seed=0)
