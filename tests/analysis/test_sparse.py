"""One model's sparse change, as README shows it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from checkpoints import read_tensors

ROOT = Path(__file__).resolve().parents[2]


def test_the_loop_in_readme_writes_a_sparse_checkpoint_for_each_density(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    [code] = [block for block in blocks if "for density in" in block]
    for name in ("recipes", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    base, sft = (
        read_tensors(ROOT / f"examples/arithmetic/checkpoints/{n}") for n in ("base", "sft")
    )
    name = "model.layers.0.mlp.down_proj.weight"
    tau = sft[name].double() - base[name].double()
    for density in (0.1, 0.3, 1.0):
        found = read_tensors(tmp_path / f"sparse/{density}")
        assert found.keys() == base.keys()
        k = max(1, math.floor(density * tau.numel()))
        kept = tau.abs() >= tau.abs().flatten().sort(descending=True).values[k - 1]
        scale = tau.norm() / (tau * kept).norm()
        wanted = base[name].double() + scale * tau * kept
        torch.testing.assert_close(found[name], wanted.bfloat16(), rtol=0.008, atol=0)
        assert bool((found[name] == base[name])[~kept].all())
    assert all(torch.equal(found[one], sft[one]) for one in sft), "density 1 is the model itself"
