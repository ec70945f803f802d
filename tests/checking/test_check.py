"""Checking as a whole: good recipes pass, and one mistake does not hide another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from checked import errors, of
from checkpoints import write_checkpoint
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from dots_mergekit.checking import check
from dots_mergekit.recipe import Recipe


class TestGood:
    @pytest.mark.parametrize("architecture", ["qwen2", "llama", "mixtral"])
    def test_real_architectures_pass(self, tmp_path: Path, architecture: str) -> None:
        """A base and a fine-tune of a usual architecture give notes only."""
        base = write_checkpoint(tmp_path / "base", architecture)
        tuned = write_checkpoint(tmp_path / "tuned", architecture, shift_from=base, seed=1)
        assert {f.severity for f in check(of(base, tuned), deep=True)} == {"note"}

    def test_tied_embeddings_pass(self, tmp_path: Path) -> None:
        """A checkpoint without its own output matrix is whole."""
        base = write_checkpoint(tmp_path / "base", tie_word_embeddings=True)
        tuned = write_checkpoint(
            tmp_path / "tuned", shift_from=base, seed=1, tie_word_embeddings=True
        )
        assert {f.severity for f in check(of(base, tuned))} == {"note"}

    def test_adapters_pass(self, world: Path, tmp_path: Path) -> None:
        """`model+lora` is checked part by part and planned without merging the adapter."""
        model = AutoModelForCausalLM.from_pretrained(world / "base")
        get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
            str(tmp_path / "lora")
        )
        source = f"{world / 'base'}+{tmp_path / 'lora'}"
        assert {f.severity for f in check(of(world / "base", source), deep=True)} == {"note"}

    def test_slices_pass(self, world: Path) -> None:
        """A recipe of slices is planned as mergekit plans it."""
        slices = [
            {
                "sources": [
                    {"model": str(world / "base"), "layer_range": [layer, layer + 1]},
                    {
                        "model": str(world / "sft"),
                        "layer_range": [layer, layer + 1],
                        "parameters": {"weight": 1.0},
                    },
                ]
            }
            for layer in (0, 1)
        ]
        assert {f.severity for f in check(of(world / "base", models=None, slices=slices))} == {
            "note"
        }

    def test_modules_pass(self, world: Path) -> None:
        """A recipe of modules too."""
        models = [{"model": str(world / "sft"), "parameters": {"weight": 1.0}}]
        recipe = of(world / "base", models=None, modules={"default": {"models": models}})
        assert {f.severity for f in check(recipe)} == {"note"}

    def test_gravest_first_and_versions_last(self, world: Path) -> None:
        """Findings are sorted by gravity; the versions are always there."""
        found = check(of(world / "base", world / "missing", dtype="bfloat17"))
        gravity = ["error", "warning", "note"]
        assert [f.severity for f in found] == sorted((f.severity for f in found), key=gravity.index)
        assert "mergekit 0." in found[-1].message
        assert "torch" in found[-1].message
        assert str(found[0]).startswith("error: ")


class TestBad:
    def test_mistakes_become_findings_and_do_not_end_the_check(self, world: Path) -> None:
        """A typo is reported beside what is wrong with the checkpoints."""
        found = errors(check(of(world / "base", world / "missing", dtyp="x")))
        assert any("did you mean `dtype`?" in message for message in found)
        assert any("does not exist" in message for message in found)

    def test_what_mergekit_cannot_read_ends_it(self) -> None:
        """Without models there is nothing else to check."""
        found = errors(check(Recipe("merge_method: linear\n")))
        assert len(found) == 1
        assert "Exactly one of" in found[0]


def test_the_folder_is_looked_at_whatever_the_recipe_has(world: Path, tmp_path: Path) -> None:
    """Mistakes that mergekit refuses, that it passes over, and such of the search."""
    models = [{"model": str(world / name), "parameters": {"weight": 1.0}} for name in ("sft",)]
    wrong: list[dict[str, Any]] = [
        {"merge_method": "nope"},
        {"parameterz": {}},
        {"tune": {"trails": 5}},
        {"slices": []},
    ]
    for more in wrong:
        content = {"merge_method": "dots", "models": models, "base_model": str(world / "base")}
        recipe = Recipe(yaml.safe_dump({**content, **more}))
        found = check(recipe, out=world / "sft")
        said = [finding.message for finding in found.errors]
        assert sum("cannot write a merge to" in message for message in said) == 1, (more, said)
