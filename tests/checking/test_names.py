"""What a recipe names: its base, its dtypes, paths that mergekit misreads."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest
from checked import errors, of, warnings

from dots_mergekit.checking import check


class TestRecipe:
    def test_missing_base_model(self, world: Path) -> None:
        """Said before the planner says it less well, with the remedy."""
        recipe = of(world / "base", world / "sft", world / "rlvr", base_model=None)
        assert any("`base_model` is missing" in m for m in errors(check(recipe)))

    @pytest.mark.parametrize("key", ["dtype", "out_dtype"])
    def test_unknown_dtypes(self, world: Path, key: str) -> None:
        """Mergekit would find out in the middle of the merge."""
        found = errors(check(of(world / "base", world / "sft", **{key: "bf16"})))
        assert any(f"`{key}: bf16`" in m and "bfloat16" in m for m in found)

    def test_unknown_chat_templates(self, world: Path) -> None:
        """Mergekit refuses them when the weights are written."""
        models = (world / "base", world / "sft")
        (message,) = errors(check(of(*models, chat_template="chatlm")))
        assert "unknown `chat_template: chatlm`; did you mean `chatml`?" in message
        assert errors(check(of(*models, chat_template="chatml"))) == []
        template = "{% for m in messages %}{{ m.content }}{% endfor %}"
        assert errors(check(of(*models, chat_template=template))) == []
        (message,) = errors(check(of(*models, chat_template=f"{template}{{% if %}}")))
        assert "the chat template of the recipe is broken, line 1" in message


class TestPaths:
    def test_local_paths_that_look_like_hub_ids(
        self, world: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Mergekit asks the Hub about `a/b`, and fails offline with the merge half written."""
        monkeypatch.chdir(world.parent)
        name = f"{world.name}/sft"
        assert any(f"write ./{name}" in m for m in errors(check(of(world / "base", name))))
        assert errors(check(of(world / "base", f"./{name}"))) == []
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        assert any(f"write ./{name}" in m for m in warnings(check(of(world / "base", name))))

    @pytest.mark.parametrize("sign", ["+", "@"])
    def test_signs_that_mergekit_reads(self, world: Path, tmp_path: Path, sign: str) -> None:
        """A folder with `+` or `@` in its name needs the long spelling, which works."""
        odd = tmp_path / f"a{sign}b"
        shutil.copytree(world / "sft", odd)
        assert any("{model: {path:" in m for m in errors(check(of(world / "base", odd))))
        long = [{"model": {"model": {"path": str(odd)}}, "parameters": {"weight": 1.0}}]
        found = check(of(world / "base", models=long))
        assert not any("No such" in m or "does not exist" in m for m in errors(found))
