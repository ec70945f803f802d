"""dots-check: every bad input has its sentence, and good ones pass."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from checkpoints import read_tensors, write_checkpoint
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from dots_mergekit.checking import Findings, check
from dots_mergekit.recipe import Recipe

QUANTIZED = {"quant_method": "gptq", "bits": 4}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test asks the Hub or sees this user's cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "no-cache"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base and two fine-tunes of it, written once; tests change copies."""
    folder = tmp_path_factory.mktemp("world")
    base = write_checkpoint(folder / "base")
    write_checkpoint(folder / "sft", shift_from=base, seed=1, shards=3)
    write_checkpoint(folder / "rlvr", shift_from=base, seed=2, safetensors=False)
    return folder


@pytest.fixture
def sft(world: Path, tmp_path: Path) -> Path:
    """A fine-tune of its own for a test to spoil, in one file."""
    return write_checkpoint(tmp_path / "spoiled", shift_from=world / "base", seed=3)


def of(base: Any, *models: Any, **changes: Any) -> Recipe:
    """Make a recipe of these paths; task_arithmetic, because `dots` asks a process of its own."""
    content = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [{"model": str(m), "parameters": {"weight": 1.0}} for m in models],
        "dtype": "bfloat16",
        **changes,
    }
    return Recipe(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))


def errors(findings: Findings) -> list[str]:
    """Give the messages of the errors."""
    return [finding.message for finding in findings if finding.severity == "error"]


def warnings(findings: Findings) -> list[str]:
    """Give the messages of the warnings."""
    return [finding.message for finding in findings if finding.severity == "warning"]


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of a checkpoint in one file."""
    tensors = read_tensors(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    """Change fields of a checkpoint's config; None removes one."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


class TestGood:
    @pytest.mark.parametrize("architecture", ["qwen2", "llama", "mixtral"])
    def test_real_architectures_pass(self, tmp_path: Path, architecture: str) -> None:
        """A base and a fine-tune of a usual architecture give notes only."""
        base = write_checkpoint(tmp_path / "base", architecture)
        tuned = write_checkpoint(tmp_path / "tuned", architecture, shift_from=base, seed=1)
        assert {f.severity for f in check(of(base, tuned), deep=True)} == {"note"}

    def test_dots_is_asked_of_a_stock_process(self, world: Path) -> None:
        """For `dots`, one line says whether a plain mergekit knows the method."""
        found = check(of(world / "base", world / "sft", world / "rlvr", merge_method="dots"))
        assert errors(found) == []
        said = [f for f in found if "mergekit-yaml of this environment" in f.message]
        assert len(said) == 1
        assert ("knows" in said[0].message) == (said[0].severity == "note")

    def test_the_off_switch_is_honoured(self, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With autoload switched off the stock command does not know `dots`, and is told so."""
        monkeypatch.setenv("DOTS_MERGEKIT_AUTOLOAD", "0")
        found = check(of(world / "base", world / "sft", merge_method="dots"))
        assert any("python -m dots_mergekit merge" in message for message in warnings(found))

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


class TestRecipe:
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

    def test_missing_base_model(self, world: Path) -> None:
        """Said before the planner says it less well, with the remedy."""
        recipe = of(world / "base", world / "sft", world / "rlvr", base_model=None)
        assert any("`base_model` is missing" in m for m in errors(check(recipe)))

    def test_missing_weight(self, world: Path) -> None:
        """The planner's message gets a remedy."""
        recipe = of(world / "base", models=[{"model": str(world / "sft")}])
        (message,) = errors(check(recipe))
        assert "Missing required parameter weight" in message
        assert "give each source model" in message

    def test_no_source_at_all(self, world: Path) -> None:
        """A merge of the base with itself alone is refused by the method's contract."""
        assert any(
            "requires at least" in m
            for m in errors(check(of(world / "base", world / "base", merge_method="dots")))
        )

    def test_filters_that_match_nothing(self, world: Path) -> None:
        """A mistyped filter is as silent in mergekit as a mistyped key."""
        weight = [{"filter": "mpl", "value": 2}, {"value": 1}]
        recipe = of(
            world / "base", models=[{"model": str(world / "sft"), "parameters": {"weight": weight}}]
        )
        assert any("`mpl` matches no tensor" in m for m in warnings(check(recipe)))

    @pytest.mark.parametrize("key", ["dtype", "out_dtype"])
    def test_unknown_dtypes(self, world: Path, key: str) -> None:
        """Mergekit would find out in the middle of the merge."""
        found = errors(check(of(world / "base", world / "sft", **{key: "bf16"})))
        assert any(f"`{key}: bf16`" in m and "bfloat16" in m for m in found)

    def test_a_narrow_dtype_rounds_before_subtracting(self, tmp_path: Path) -> None:
        """float32 checkpoints under `dtype: bfloat16` lose the small differences."""
        base = write_checkpoint(tmp_path / "base", dtype="float32")
        tuned = write_checkpoint(tmp_path / "tuned", dtype="float32", shift_from=base, seed=1)
        (message,) = warnings(check(of(base, tuned)))
        assert "rounds" in message
        assert "`dtype: float32` and `out_dtype: bfloat16`" in message
        assert warnings(check(of(base, tuned, dtype="float32", out_dtype="bfloat16"))) == []

    def test_no_dtype(self, world: Path, tmp_path: Path) -> None:
        """Without `dtype` the result's is said; differing ones are a warning."""
        assert any(
            "no `dtype`" in f.message for f in check(of(world / "base", world / "sft", dtype=None))
        )
        wide = write_checkpoint(
            tmp_path / "wide", dtype="float32", shift_from=world / "base", seed=1
        )
        found = warnings(check(of(world / "base", wide, dtype=None)))
        assert any("they differ" in m for m in found)


class TestPaths:
    def test_missing_folder(self, world: Path) -> None:
        """The message tells from where relative paths count."""
        (message,) = errors(check(of(world / "base", "./no/such/model")))
        assert "./no/such/model does not exist" in message
        assert os.getcwd() in message

    def test_tilde(self, world: Path) -> None:
        """Mergekit does not expand a home directory."""
        assert "does not expand `~`" in errors(check(of(world / "base", "~/model")))[0]

    def test_a_file_is_no_model(self, world: Path) -> None:
        """A path to the weights themselves is a common slip."""
        file = world / "base" / "model.safetensors"
        assert "is a file" in errors(check(of(world / "base", file)))[0]

    def test_missing_tokenizer_source(self, world: Path) -> None:
        """A model named only as a tokenizer must exist as well."""
        recipe = of(world / "base", world / "sft", tokenizer={"source": "./no/tokenizer"})
        assert "./no/tokenizer does not exist" in errors(check(recipe))[0]

    def test_hub_ids_offline_are_noted(self, world: Path) -> None:
        """Offline, a Hub id is neither right nor wrong, and nothing waits for it."""
        found = check(of(world / "base", "org/model"))
        assert errors(found) == []
        assert any("org/model" in f.message and "not checked" in f.message for f in found)

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            (RepositoryNotFoundError, "is neither a folder here nor a public model on the Hub"),
            (GatedRepoError, "is gated"),
            (RevisionNotFoundError, "has no revision v1"),
        ],
    )
    def test_what_the_hub_answers(
        self, world: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], message: str
    ) -> None:
        """A reachable Hub's answer is an error in plain words."""

        def answer(*_: Any, **__: Any) -> None:
            raise kind.__new__(kind)

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", answer)
        assert any(message in m for m in errors(check(of(world / "base", "org/model@v1"))))

    def test_an_unreachable_hub_is_asked_once(
        self, world: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without network there is one attempt, then notes."""
        asked = []

        def fail(_: Any, name: str, **__: Any) -> None:
            asked.append(name)
            raise OSError("no network")

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
        found = check(of(world / "base", "org/one", "org/two"))
        assert asked == ["org/one"]
        assert errors(found) == []

    def test_cached_hub_models_are_checked(
        self, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A cached model is checked like a folder; mergekit itself cannot use it offline."""
        cache = tmp_path / "cache" / "models--org--model"
        snapshot = cache / "snapshots" / "abc"
        shutil.copytree(world / "sft", snapshot)
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text("abc")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        found = check(of(world / "base", "org/model"))
        assert errors(found) == []
        assert any(str(snapshot) in m and "offline" in m for m in warnings(found))
        assert any("the merged weights take" in f.message for f in found)
        twice = errors(check(of(world / "base", "org/model", "org/model@main")))
        assert any("names one checkpoint in two ways" in m for m in twice)

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


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda p: (p / "config.json").unlink(), "has no config.json"),
            (lambda p: (p / "config.json").write_text("{"), "cannot be read as JSON"),
            (lambda p: configure(p, architectures=None), "must name one architecture"),
            (lambda p: (p / "model.safetensors").unlink(), "has no weights"),
            (
                lambda p: (p / "model.safetensors").rename(p / "model-00001-of-00001.safetensors"),
                "found model-00001-of-00001.safetensors",
            ),
            (
                lambda p: (p / "model.safetensors").write_text(
                    "version https://git-lfs.github.com/spec/v1\n"
                ),
                "Git LFS pointer",
            ),
            (lambda p: (p / "model.safetensors").write_bytes(b"123"), "is not a safetensors file"),
            (lambda p: (p / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{{"), "broken"),
            (lambda p: os.truncate(p / "model.safetensors", 9000), "is truncated"),
            (lambda p: configure(p, quantization_config=QUANTIZED), "is quantized (gptq)"),
            (lambda p: configure(p, model_type="unheard-of"), "refuses its config"),
            (
                lambda p: rewrite(p, lambda t: t.pop("model.layers.0.mlp.up_proj.weight")),
                "has no model.layers.0.mlp.up_proj.weight, and the merge needs it",
            ),
        ],
    )
    def test_broken_checkpoints(
        self, world: Path, sft: Path, spoil: Callable[[Path], Any], message: str
    ) -> None:
        """Each way a folder can fail to be a checkpoint is told by name."""
        spoil(sft)
        found = errors(check(of(world / "base", sft)))
        assert any(message in m for m in found), found
        assert all(str(sft) in m for m in found)

    def test_an_adapter_is_no_model(self, world: Path, tmp_path: Path) -> None:
        """The remedy is the spelling that mergekit wants."""
        (tmp_path / "adapter_config.json").write_text("{}")
        assert "MODEL+" in errors(check(of(world / "base", tmp_path)))[0]

    def test_a_model_is_no_adapter(self, world: Path) -> None:
        """What stands after `+` must be an adapter."""
        source = f"{world / 'base'}+{world / 'sft'}"
        assert "not a LoRA adapter" in errors(check(of(world / "base", source)))[0]

    def test_broken_indexes(self, world: Path, tmp_path: Path) -> None:
        """A missing shard, and a shard without what the index promises, are told apart."""
        sharded = tmp_path / "sharded"
        shutil.copytree(world / "sft", sharded)
        shard = sharded / "model-00002-of-00003.safetensors"
        shutil.copy(sharded / "model-00001-of-00003.safetensors", shard)
        assert "the index promises" in errors(check(of(world / "base", sharded)))[0]
        shard.unlink()
        assert f"{shard.name}, which is not there" in errors(check(of(world / "base", sharded)))[0]

    def test_pickles_that_could_run_code_are_refused(self, world: Path, tmp_path: Path) -> None:
        """A `.bin` file is read as tensors or not at all."""
        odd = tmp_path / "odd"
        shutil.copytree(world / "rlvr", odd)
        torch.save({"x": print}, odd / "pytorch_model.bin")
        assert "cannot be read as PyTorch weights" in errors(check(of(world / "base", odd)))[0]

    def test_eight_bit_weights(self, world: Path, sft: Path) -> None:
        """Integer weights without a word in the config are seen all the same."""
        name = "model.layers.0.mlp.up_proj.weight"
        rewrite(sft, lambda t: t.update({name: t[name].to(torch.int8)}))
        assert f"{name} is int8" in errors(check(of(world / "base", sft)))[0]

    def test_no_floating_point(self, world: Path, sft: Path) -> None:
        """Nothing to merge."""
        save_file({"mask": torch.ones(3, dtype=torch.int64)}, sft / "model.safetensors")
        assert "no floating-point tensors" in errors(check(of(world / "base", sft)))[0]

    def test_left_out_tensors(self, world: Path, sft: Path) -> None:
        """What mergekit does not know of is left out of the result; here that is said."""
        rewrite(sft, lambda t: t.update({"v_head.weight": torch.ones(3)}))
        (message,) = warnings(check(of(world / "base", sft)))
        assert "v_head.weight, which mergekit leaves out" in message

    def test_optional_tensors_in_one_checkpoint_only(self, world: Path, tmp_path: Path) -> None:
        """A base that ties its embeddings merges with a source that does not, with a warning."""
        tied = write_checkpoint(tmp_path / "tied", tie_word_embeddings=True)
        found = warnings(check(of(tied, world / "sft")))
        assert any("tie_word_embeddings is False instead of True" in m for m in found)


class TestBesideEachOther:
    def test_architectures(self, world: Path, tmp_path: Path) -> None:
        """Two families do not mix."""
        llama = write_checkpoint(tmp_path / "llama", "llama")
        (message,) = errors(check(of(world / "base", llama)))
        assert "LlamaForCausalLM" in message
        assert "Qwen2ForCausalLM" in message

    def test_shapes(self, world: Path, tmp_path: Path) -> None:
        """Another width is said once for the config and once for the tensors."""
        wide = write_checkpoint(tmp_path / "wide", intermediate_size=128)
        found = errors(check(of(world / "base", wide)))
        assert any("intermediate_size is 128 instead of 96" in m for m in found)
        assert any(
            "shapes differ: model.layers.0.mlp.down_proj.weight is [64, 128]" in m for m in found
        )

    def test_depths(self, world: Path, tmp_path: Path) -> None:
        """Another number of layers cannot be planned."""
        deep = write_checkpoint(tmp_path / "deep", num_hidden_layers=3)
        found = errors(check(of(world / "base", deep)))
        assert any("num_hidden_layers is 3 instead of 2" in m for m in found)

    def test_equal_shapes_that_mean_other_things(self, world: Path, sft: Path) -> None:
        """Two heads of 32 are not four heads of 16, though every shape agrees."""
        configure(sft, num_attention_heads=4, num_key_value_heads=2)
        (message,) = errors(check(of(world / "base", sft)))
        assert "num_attention_heads is 4 instead of 2" in message

    def test_settings_that_the_result_loses(self, world: Path, sft: Path) -> None:
        """Another rope base or end token is a warning: the result takes the base's."""
        configure(sft, rms_norm_eps=1e-5, eos_token_id=7)
        (message,) = warnings(check(of(world / "base", sft)))
        assert "rms_norm_eps is 1e-05 instead of 1e-06" in message
        assert "eos_token_id is 7 instead of None" in message

    def test_vocabulary_sizes(self, world: Path, tmp_path: Path) -> None:
        """Embeddings of different lengths need mergekit's tokenizer matching."""
        more = write_checkpoint(tmp_path / "more", vocab_size=290)
        (message,) = errors(check(of(world / "base", more)))
        assert "vocabulary sizes differ" in message
        assert "{source: base}" in message
        assert errors(check(of(world / "base", more, tokenizer={"source": "base"}))) == []

    def test_more_tokens(self, world: Path, tmp_path: Path) -> None:
        """Added tokens would be lost with the base's tokenizer."""
        more = write_checkpoint(
            tmp_path / "more", shift_from=world / "base", seed=1, extra_tokens=["<think>"]
        )
        (message,) = warnings(check(of(world / "base", more)))
        assert "'<think>'" in message
        assert "union" in message
        assert warnings(check(of(world / "base", more, tokenizer_source="union"))) == []

    def test_tokens_with_other_numbers(self, world: Path, sft: Path) -> None:
        """The same row must not mean two tokens."""
        file = sft / "tokenizer.json"
        content = json.loads(file.read_text())
        vocabulary = content["model"]["vocab"]
        vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
        file.write_text(json.dumps(content))
        (message,) = errors(check(of(world / "base", sft)))
        assert "token 'A' has number" in message
        assert "2 such" in message

    def test_other_rules(self, world: Path, sft: Path) -> None:
        """The same tokens with other merges still split text differently."""
        file = sft / "tokenizer.json"
        content = json.loads(file.read_text())
        content["normalizer"] = {"type": "Lowercase"}
        file.write_text(json.dumps(content))
        assert "splits text differently" in warnings(check(of(world / "base", sft)))[0]

    def test_no_tokenizer_to_copy(self, world: Path, tmp_path: Path) -> None:
        """The result would come without a tokenizer."""
        bare = tmp_path / "bare"
        shutil.copytree(world / "base", bare)
        for file in bare.glob("tokenizer*"):
            file.unlink()
        assert "has no tokenizer to copy" in warnings(check(of(bare, world / "sft")))[0]

    def test_a_lost_chat_template(self, world: Path, tmp_path: Path) -> None:
        """Fine-tunes that chat over a base that does not: the template would be lost."""
        plain = tmp_path / "plain"
        shutil.copytree(world / "base", plain)
        (plain / "chat_template.jinja").unlink()
        assert "`chat_template: auto`" in warnings(check(of(plain, world / "sft")))[0]
        assert warnings(check(of(plain, world / "sft", chat_template="auto"))) == []

    def test_the_same_folder_as_the_base(self, world: Path) -> None:
        """Two spellings of one folder are one model."""
        other = f"{world}/../{world.name}/base"
        (message,) = errors(check(of(world / "base", world / "sft", other)))
        assert "is the same folder as the base model" in message

    def test_the_same_weights_as_the_base(self, world: Path, tmp_path: Path) -> None:
        """A copy has no effect, whatever files it is spread over."""
        copy = write_checkpoint(tmp_path / "copy", shift_from=world / "base", shift=0.0, shards=2)
        (message,) = errors(check(of(world / "base", copy)))
        assert "has exactly the weights of the base model" in message

    def test_one_different_number_is_enough(self, world: Path, sft: Path) -> None:
        """A source that differs in its last number is a source."""

        def almost(tensors: dict[str, torch.Tensor]) -> None:
            tensors.update(read_tensors(world / "base"))
            tensors["model.embed_tokens.weight"][-1, -1] += 1

        rewrite(sft, almost)
        assert errors(check(of(world / "base", sft))) == []


class TestDeep:
    @pytest.mark.parametrize("value", [float("nan"), float("-inf")])
    def test_non_finite_values(self, world: Path, sft: Path, value: float) -> None:
        """Only `deep` reads the weights, and names model and tensor."""
        name = "model.layers.1.mlp.up_proj.weight"
        rewrite(sft, lambda t: t[name].__setitem__((3, 3), value))
        assert errors(check(of(world / "base", sft))) == []
        (message,) = errors(check(of(world / "base", sft), deep=True))
        assert str(sft) in message
        assert name in message

    def test_many(self, world: Path, tmp_path: Path) -> None:
        """Also in `.bin` files; a model that is all NaN does not fill the screen."""
        bad = write_checkpoint(tmp_path / "bad", dtype="float16", safetensors=False)
        tensors = torch.load(bad / "pytorch_model.bin", weights_only=True)
        torch.save({n: t * torch.nan for n, t in tensors.items()}, bad / "pytorch_model.bin")
        (message,) = errors(check(of(world / "base", bad), deep=True))
        assert "and 19 more" in message


class TestOutput:
    def test_space(self, world: Path, tmp_path: Path) -> None:
        """The size is estimated from headers, and compared with what is free."""
        found = check(of(world / "base", world / "sft"), out=tmp_path / "new" / "out")
        assert any("0.2 MB" in f.message and "free" in f.message for f in found)

    def test_too_little_space(
        self, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A merge that cannot fit is an error before it starts."""
        usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        (message,) = errors(check(of(world / "base", world / "sft"), out=tmp_path / "out"))
        assert "0.1 MB free" in message

    def test_places_that_cannot_be_written(self, world: Path, tmp_path: Path) -> None:
        """A file in the way is found before any work."""
        (tmp_path / "file").write_text("")
        found = errors(check(of(world / "base", world / "sft"), out=tmp_path / "file" / "out"))
        assert any("is not a folder" in m for m in found)

    def test_a_model_in_the_way(self, world: Path) -> None:
        """An existing model would be overwritten."""
        found = check(of(world / "base", world / "sft"), out=world / "base")
        assert any("already holds a model" in m for m in warnings(found))


class TestCommand:
    def run(self, *arguments: Any) -> subprocess.CompletedProcess[str]:
        """Run the real process."""
        return subprocess.run(
            [sys.executable, "-m", "dots_mergekit.cli.check", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )

    def test_a_good_recipe_ends_with_0(self, world: Path, tmp_path: Path) -> None:
        """One line per finding, nothing else, and exit code 0."""
        of(world / "base", world / "sft", world / "rlvr").write(tmp_path / "recipe.yml")
        done = self.run(tmp_path / "recipe.yml", "--out", tmp_path / "out", "--deep")
        assert done.returncode == 0, done.stdout + done.stderr
        assert all(line.startswith("note: ") for line in done.stdout.splitlines())
        assert done.stderr == ""

    def test_a_bad_recipe_ends_with_2(self, world: Path, tmp_path: Path) -> None:
        """Errors come first, without a traceback."""
        of(world / "base", world / "base", densty=0.3).write(tmp_path / "recipe.yml")
        done = self.run(tmp_path / "recipe.yml")
        assert done.returncode == 2
        assert done.stdout.startswith(f"error: {tmp_path / 'recipe.yml'}, line ")
        assert "Traceback" not in done.stdout + done.stderr

    @pytest.mark.parametrize("text", [None, "models: [\n"])
    def test_no_recipe_ends_with_2(self, tmp_path: Path, text: str | None) -> None:
        """A recipe that is missing or not YAML is one line on stderr."""
        if text is not None:
            (tmp_path / "recipe.yml").write_text(text)
        done = self.run(tmp_path / "recipe.yml")
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1

    def test_help_teaches(self) -> None:
        """--help shows how it is used and what the exit codes mean."""
        done = self.run("--help")
        assert done.returncode == 0
        assert "examples:" in done.stdout
        assert "exit codes:" in done.stdout
