"""`merge_method: dots` through the real mergekit commands, against the float64 oracle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from checkpoints import read_tensors, write_checkpoint, write_triple
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from oracle import in_units_of_last_place, merged_in_float64, selection_in_float64
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

import dots_mergekit
from dots_mergekit import Selection, combine, select
from dots_mergekit.errors import NonFiniteError

WEIGHTS = [0.0, 0.5, 1.0, 1.37, 2.0, -1.0]
DENSITIES = [0.01, 0.3, 0.999, 1.0]


def run(command: str, *arguments: str | os.PathLike[str], ok: bool = True) -> str:
    """Run one of mergekit's own commands, as installed beside this Python; give its output."""
    script = Path(sys.executable).with_name(command)
    done = subprocess.run(
        [str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def merge(recipe: Mapping[str, Any], out: Path, **options: Any) -> None:
    """Merge in this process, for what differs between recipes rather than between commands."""
    config = MergeConfiguration.model_validate(recipe)
    run_merge(config, str(out), MergeOptions(quiet=True, **options))


def write_yaml(path: Path, recipe: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(recipe)))
    return path


def recipe_of(base: Path, *sources: Path, weight: Any = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "merge_method": "dots",
        "base_model": str(base),
        "models": [{"model": str(s), "parameters": {"weight": weight}} for s in sources],
        **more,
    }


def expected(
    base: Path, sources: list[Path], weights: list[float], density: float = 0.3
) -> dict[str, Tensor]:
    """The kernel's own merge of whole checkpoints: exact equality is asked for."""
    base_tensors, *tuned = (read_tensors(path) for path in (base, *sources))
    return {
        name: combine(
            tensor,
            [source[name] for source in tuned],
            [select(tensor, source[name], density) for source in tuned],
            weights,
        )
        for name, tensor in base_tensors.items()
    }


def assert_same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert found[name].dtype == wanted[name].dtype, name
        assert torch.equal(found[name], wanted[name]), name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_triple(tmp_path_factory.mktemp("world"))


# --- against the oracle --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "share", "ulp"),
    [("bfloat16", 1e-5, 1), ("float16", 1e-3, 1), ("float32", 1.0, 4)],
)
def test_mergekit_yaml_equals_the_oracle(
    tmp_path: Path, dtype: str, share: float, ulp: int
) -> None:
    """Each layer of one merge has its own λ and density: all pairs of them, in one process.

    In bfloat16 fewer than 1 entry in 100,000 differs from the correctly rounded float64 value, and
    none by more than one unit in the last place (of the larger of base and result). In float16
    fewer than 1 in 1,000 does, since float32 arithmetic has 13 bits more than the result rather
    than 16; in float32 no entry is more than 4 units off (of the largest magnitude that takes part:
    steps of opposite signs can be larger than both base and result).
    """
    pairs = [(weight, density) for weight in WEIGHTS for density in DENSITIES]
    shape: dict[str, Any] = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": len(pairs),
    }
    base = write_checkpoint(tmp_path / "base", dtype=dtype, **shape)
    sft = write_checkpoint(
        tmp_path / "sft", dtype=dtype, seed=1, shift_from=base, shift=2e-3, **shape
    )
    # What RLVR leaves in a 16-bit checkpoint: a few steps of the last place in a third of entries.
    generator = torch.Generator().manual_seed(2)
    stepped = {}
    for name, tensor in read_tensors(base).items():
        step = torch.randint(1, 3, tensor.shape, generator=generator) * 2.0**-11
        step *= torch.rand(tensor.shape, generator=generator).lt(0.5) * 2 - 1
        step *= torch.rand(tensor.shape, generator=generator) < 1 / 3
        stepped[name] = (tensor.float() + step).to(tensor.dtype)
    rlvr = shutil.copytree(base, tmp_path / "rlvr")
    save_file(stepped, rlvr / "model.safetensors", {"format": "pt"})

    def by_layer(values: list[float]) -> list[dict[str, Any]]:
        filters = [f"layers.{i}." for i in range(len(pairs))]
        entries = [{"filter": f, "value": v} for f, v in zip(filters, values, strict=True)]
        return [*entries, {"value": values[-1]}]

    settings = {  # the second source walks through the pairs backwards
        sft: ([w for w, _ in pairs], [d for _, d in pairs]),
        rlvr: ([w for w, _ in reversed(pairs)], [d for _, d in reversed(pairs)]),
    }
    recipe = recipe_of(base, dtype=dtype)
    recipe["models"] = [
        {"model": str(path), "parameters": {"weight": by_layer(w), "density": by_layer(d)}}
        for path, (w, d) in settings.items()
    ]
    run("mergekit-yaml", write_yaml(tmp_path / "recipe.yml", recipe), tmp_path / "out")

    base_tensors, found = read_tensors(base), read_tensors(tmp_path / "out")
    sources = [read_tensors(path) for path in settings]
    assert found.keys() == base_tensors.keys()
    entries = different = 0
    for name, tensor in base_tensors.items():
        layer = int(name.split(".")[2]) if ".layers." in name else len(pairs) - 1
        weights = [w[layer] for w, _ in settings.values()]
        densities = [d[layer] for _, d in settings.values()]
        tuned = [source[name] for source in sources]
        selections = [
            selection_in_float64(tensor, t, d) for t, d in zip(tuned, densities, strict=True)
        ]
        want, largest = merged_in_float64(tensor, tuned, selections, weights)
        if tensor.dtype.itemsize == 2:
            largest = np.maximum(np.abs(want), np.abs(tensor.double().numpy().ravel()))
        off = in_units_of_last_place(found[name], want, largest)
        assert off.max() <= ulp, (name, weights, densities)
        entries, different = entries + off.size, different + int((off > 0).sum())
    assert entries > 5_000_000
    assert different < share * entries


# --- mergekit's own switches ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "switches",
    [
        ["--num-threads", "1"],
        ["--num-threads", "8", "--lazy-unpickle", "--low-cpu-memory"],
        ["--async-write", "--write-threads", "2", "--out-shard-size", "20K", "--clone-tensors"],
    ],
    ids=" ".join,
)
def test_every_switch_gives_the_same_tensors(
    world: dict[str, Path], tmp_path: Path, switches: list[str]
) -> None:
    recipe = recipe_of(world["base"], world["sft"], world["rlvr"], weight=1.37, dtype="bfloat16")
    run("mergekit-yaml", write_yaml(tmp_path / "r.yml", recipe), tmp_path / "out", *switches)
    assert_same(
        read_tensors(tmp_path / "out"),
        expected(world["base"], [world["sft"], world["rlvr"]], [1.37, 1.37]),
    )


def test_the_merged_model_loads_and_carries_tokenizer_and_card(
    world: dict[str, Path], tmp_path: Path
) -> None:
    recipe = recipe_of(world["base"], world["sft"], dtype="bfloat16")
    run("mergekit-yaml", write_yaml(tmp_path / "r.yml", recipe), tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    assert (tmp_path / "out" / "tokenizer.json").exists()
    assert "[DoTS](https://arxiv.org/abs/2605.00610)" in (tmp_path / "out/README.md").read_text()


def test_python_m_merge_does_the_same(world: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_of(world["base"], world["sft"], dtype="bfloat16")
    path = write_yaml(tmp_path / "r.yml", recipe)
    subprocess.run(
        [sys.executable, "-m", "dots_mergekit", "merge", path, tmp_path / "out", "--quiet"],
        check=True,
        capture_output=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "DOTS_MERGEKIT_AUTOLOAD": "0"},
    )
    assert_same(read_tensors(tmp_path / "out"), expected(world["base"], [world["sft"]], [1.0]))


@pytest.mark.gpu
@pytest.mark.parametrize(
    "switches", [["--cuda"], ["--gpu-rich"], ["--multi-gpu", "--cuda"]], ids=" ".join
)
def test_a_merge_on_cuda_is_at_most_one_unit_in_the_last_place_off(
    world: dict[str, Path], tmp_path: Path, switches: list[str]
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    recipe = recipe_of(world["base"], world["sft"], world["rlvr"], weight=1.37, dtype="bfloat16")
    path = write_yaml(tmp_path / "r.yml", recipe)
    subprocess.run(
        [sys.executable, "-m", "dots_mergekit", "merge", path, tmp_path / "out", *switches],
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    found = read_tensors(tmp_path / "out")
    wanted = expected(world["base"], [world["sft"], world["rlvr"]], [1.37, 1.37])
    for name, tensor in wanted.items():
        want = tensor.double().numpy().ravel()
        assert in_units_of_last_place(found[name], want, np.abs(want)).max() <= 1, name


# --- kinds of recipes ----------------------------------------------------------------------------


def test_one_source_and_three_sources(world: dict[str, Path], tmp_path: Path) -> None:
    third = write_checkpoint(tmp_path / "third", seed=3, shift_from=world["base"], shift=1e-3)
    for sources in ([world["sft"]], [world["sft"], world["rlvr"], third]):
        out = tmp_path / f"out{len(sources)}"
        recipe = recipe_of(world["base"], *sources, weight=0.5)
        merge(recipe, out)
        assert_same(read_tensors(out), expected(world["base"], sources, [0.5] * len(sources)))


def test_slices_and_gradients(world: dict[str, Path], tmp_path: Path) -> None:
    """A weight gradient runs from 0 in the first layer, which stays the base's, to 1."""
    recipe = {
        "merge_method": "dots",
        "base_model": str(world["base"]),
        "slices": [
            {
                "sources": [
                    {"model": str(world["base"]), "layer_range": [0, 2]},
                    {
                        "model": str(world["sft"]),
                        "layer_range": [0, 2],
                        "parameters": {"weight": [0.0, 1.0], "density": 1.0},
                    },
                ]
            }
        ],
    }
    merge(recipe, tmp_path / "out")
    found, base, sft = (
        read_tensors(path) for path in (tmp_path / "out", world["base"], world["sft"])
    )
    for name in found:
        if ".layers.0." in name:
            assert torch.equal(found[name], base[name]), name
        elif ".layers.1." in name:
            assert torch.equal(found[name], sft[name]), name


def test_modules(world: dict[str, Path], tmp_path: Path) -> None:
    recipe = recipe_of(world["base"])
    recipe["modules"] = {
        "default": {"models": [{"model": str(world["sft"]), "parameters": {"weight": 1.0}}]}
    }
    del recipe["models"]
    merge(recipe, tmp_path / "out")
    assert_same(read_tensors(tmp_path / "out"), expected(world["base"], [world["sft"]], [1.0]))


# mergekit 0.1.5 reads names out of pickles by hand, and Python 3.13 writes them another way.
LAZY = pytest.param(
    True, marks=pytest.mark.xfail(sys.version_info >= (3, 13), reason="mergekit 0.1.5, Python 3.13")
)


@pytest.mark.parametrize("lazy_unpickle", [False, LAZY])
def test_sharded_and_bin_checkpoints(
    world: dict[str, Path], tmp_path: Path, lazy_unpickle: bool
) -> None:
    sharded = write_checkpoint(tmp_path / "sharded", seed=4, shards=3)
    pickled = write_checkpoint(tmp_path / "pickled", seed=5, shards=2, safetensors=False)
    plain = write_checkpoint(tmp_path / "plain", seed=5)
    recipe = recipe_of(world["base"], sharded, pickled)
    merge(recipe, tmp_path / "out", lazy_unpickle=lazy_unpickle)
    wanted = expected(world["base"], [sharded, plain], [1.0, 1.0])
    assert_same(read_tensors(tmp_path / "out"), wanted)


def test_tied_embeddings(tmp_path: Path) -> None:
    base, tuned = (
        write_checkpoint(tmp_path / str(seed), seed=seed, tie_word_embeddings=True)
        for seed in (0, 1)
    )
    merge(recipe_of(base, tuned, weight=0.5), tmp_path / "out")
    found = read_tensors(tmp_path / "out")
    assert "lm_head.weight" not in found
    assert_same(found, expected(base, [tuned], [0.5]))


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and two models, each expert of which changed by another length."""
    folder = tmp_path_factory.mktemp("experts")
    base = write_checkpoint(folder / "base", "mixtral", num_local_experts=3)
    sources = []
    for seed in (1, 2):
        source = write_checkpoint(
            folder / str(seed), "mixtral", shift_from=base, seed=seed, num_local_experts=3
        )
        ours, tensors = read_tensors(base), read_tensors(source)
        for i, name in enumerate(n for n in sorted(tensors) if ".experts." in n):
            tensors[name] = ours[name] + (tensors[name] - ours[name]) * 2.0 ** (i % 5)
        save_file(tensors, source / "model.safetensors", {"format": "pt"})
        sources.append(source)
    return [base, *sources]


def unstacked(folder: Path, out: Path) -> dict[str, Tensor]:
    """Let transformers write the tensors of a merge, each expert's by themselves again."""
    made: Any = AutoModelForCausalLM
    model = made.from_config(AutoConfig.from_pretrained(folder))
    model.to(torch.bfloat16).load_state_dict(read_tensors(folder))
    model.save_pretrained(out)
    return read_tensors(out)


@pytest.mark.parametrize("rescale", [True, False])
def test_each_expert_is_selected_from_by_itself(
    experts: list[Path], tmp_path: Path, rescale: bool
) -> None:
    """mergekit stacks the experts of a layer; the merge is that of the tensors in the files."""
    base, *sources = experts
    recipe = {**recipe_of(base, *sources, weight=0.7), "parameters": {"rescale": rescale}}
    merge(recipe, tmp_path / "out")
    assert any(name.endswith("experts.gate_up_proj") for name in read_tensors(tmp_path / "out"))
    ours, *theirs = (read_tensors(path) for path in experts)
    wanted = {
        name: combine(
            tensor,
            [source[name] for source in theirs],
            [select(tensor, source[name], 0.3, rescale=rescale) for source in theirs],
            [0.7, 0.7],
        )
        for name, tensor in ours.items()
    }
    assert_same(unstacked(tmp_path / "out", tmp_path / "again"), wanted)


def test_how_experts_are_stored_makes_no_difference(experts: list[Path], tmp_path: Path) -> None:
    """A merge is written with stacked experts, and may be merged further."""
    base, source, other = experts
    merge({**recipe_of(base, source), "parameters": {"density": 1.0}}, tmp_path / "stacked")
    apart = tmp_path / "apart"
    unstacked(tmp_path / "stacked", apart)
    for name in ("stacked", "apart"):
        merge(recipe_of(base, tmp_path / name, other), tmp_path / f"out of {name}")
    assert_same(read_tensors(tmp_path / "out of stacked"), read_tensors(tmp_path / "out of apart"))


def test_a_damaged_expert_is_named(experts: list[Path], tmp_path: Path) -> None:
    base, source, other = experts
    damaged = tmp_path / "damaged"
    shutil.copytree(source, damaged)
    tensors = read_tensors(damaged)
    name = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
    tensors[name][5, 5] = torch.nan
    save_file(tensors, damaged / "model.safetensors", {"format": "pt"})
    with pytest.raises(NonFiniteError) as refused:
        merge(recipe_of(base, damaged, other), tmp_path / "out")
    said = f"tensor model.layers.1.mlp.experts.gate_up_proj[2, 96:192] of {damaged}: 1 of"
    assert said in str(refused.value)


def test_a_source_with_more_tokens(world: dict[str, Path], tmp_path: Path) -> None:
    """`tokenizer: {source: base}` cuts the source's extra rows; the rest merges as without them."""
    extra = ["<think>", "</think>"]
    wider = write_checkpoint(
        tmp_path / "wider", seed=1, extra_tokens=extra, vocab_size=290, tie_word_embeddings=False
    )
    recipe = recipe_of(world["base"], wider)
    with pytest.raises(ValueError, match="Tensor size mismatch"):
        merge(recipe, tmp_path / "refused")
    recipe["tokenizer"] = {"source": "base"}
    merge(recipe, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_lora_source(world: dict[str, Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(world["base"], dtype=torch.bfloat16)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(str(tmp_path / "lora"))
    recipe = recipe_of(world["base"], dtype="bfloat16")
    both = f"{world['base']}+{tmp_path / 'lora'}"
    recipe["models"] = [{"model": both, "parameters": {"weight": 1.0, "density": 0.3}}]
    merge(recipe, tmp_path / "out", lora_merge_cache=str(tmp_path / "cache"))
    (merged,) = (tmp_path / "cache").iterdir()
    assert_same(read_tensors(tmp_path / "out"), expected(world["base"], [merged], [1.0]))
    found, base = read_tensors(tmp_path / "out"), read_tensors(world["base"])
    changed = {name for name in base if not torch.equal(found[name], base[name])}
    assert changed == {name for name in base if "q_proj.weight" in name or "v_proj.weight" in name}


def test_mergekit_multi_and_mergekit_pytorch_know_the_method(
    world: dict[str, Path], tmp_path: Path
) -> None:
    wanted = expected(world["base"], [world["sft"]], [1.0])
    recipe = recipe_of(world["base"], world["sft"])
    multi = write_yaml(tmp_path / "multi.yml", {"name": "merged", **recipe})
    run("mergekit-multi", multi, "-I", tmp_path / "multi")
    assert_same(read_tensors(tmp_path / "multi" / "merged"), wanted)

    files = {name: path / "model.safetensors" for name, path in world.items()}
    raw = recipe_of(files["base"], files["sft"])
    run("mergekit-pytorch", write_yaml(tmp_path / "raw.yml", raw), tmp_path / "raw")
    assert_same(read_tensors(tmp_path / "raw"), wanted)


def test_inputs_of_different_dtypes(world: dict[str, Path], tmp_path: Path) -> None:
    """Without `dtype:` mergekit widens a bf16 base to its fp32 source, and nothing is rounded."""
    wide = write_checkpoint(tmp_path / "wide", dtype="float32", seed=1, shift_from=world["base"])
    recipe = recipe_of(world["base"], wide)
    run("mergekit-yaml", write_yaml(tmp_path / "r.yml", recipe), tmp_path / "out")
    base, tuned = read_tensors(world["base"]), read_tensors(wide)
    wanted = {
        name: combine(tensor.float(), [tuned[name]], [select(tensor, tuned[name], 0.3)], [1.0])
        for name, tensor in base.items()
    }
    assert_same(read_tensors(tmp_path / "out"), wanted)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"parameters": {"density": 0.0}}, "greater than 0"),
        ({"parameters": {"density": 1.5}}, "less than or equal to 1"),
        ({"parameters": {"density": "much"}}, "valid number"),
        ({"base_model": None}, "requires a base input"),
        ({"models": [{"model": "BASE", "parameters": {"weight": 1.0}}]}, "at least 1 non-base"),
        ({"models": [{"model": "SFT"}]}, "Missing required parameter weight"),
        ({"models": [{"model": "SFT", "parameters": {"weight": float("nan")}}]}, "finite number"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(
    world: dict[str, Path], tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    text = yaml.safe_dump({**recipe_of(world["base"], world["sft"]), **change})
    text = text.replace("BASE", str(world["base"])).replace("SFT", str(world["sft"]))
    with pytest.raises((RuntimeError, ValueError), match=complaint):
        merge(yaml.safe_load(text), tmp_path / "out")
    assert not list(tmp_path.glob("out/*.safetensors"))


def test_a_non_finite_weight_names_tensor_and_model(world: dict[str, Path], tmp_path: Path) -> None:
    broken = shutil.copytree(world["rlvr"], tmp_path / "broken")
    tensors = read_tensors(broken)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    recipe = recipe_of(world["base"], world["sft"], broken)
    complaint = run(
        "mergekit-yaml", write_yaml(tmp_path / "r.yml", recipe), tmp_path / "out", ok=False
    )
    assert (
        f"tensor model.layers.1.mlp.up_proj.weight of {broken}: "
        "1 of 6144 entries are NaN or infinite" in complaint
    )


def test_registering_twice_changes_nothing() -> None:
    from mergekit import merge_methods

    from dots_mergekit.merging import method

    method.register()
    assert [m.spec.name for m in merge_methods.registered_methods()].count("dots") == 1
    assert dots_mergekit.Selection is Selection
