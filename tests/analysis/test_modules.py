"""Names of tensors, of many architectures, and where in the model they are."""

from __future__ import annotations

import pytest

from dots_mergekit.analysis.modules import KINDS, place_of


@pytest.mark.parametrize(
    ("name", "layer", "kind"),
    [
        ("model.embed_tokens.weight", None, "embedding"),
        ("lm_head.weight", None, "head"),
        ("model.norm.weight", None, "norm"),
        ("model.layers.11.self_attn.k_proj.weight", 11, "k"),
        ("model.layers.11.self_attn.q_norm.weight", 11, "norm"),
        ("model.layers.0.post_attention_layernorm.weight", 0, "norm"),
        ("model.layers.0.mlp.gate_proj.weight", 0, "gate"),
        ("model.layers.0.mlp.gate.weight", 0, "router"),
        ("model.layers.0.mlp.experts.17.down_proj.weight", 0, "experts down"),
        ("model.layers.0.mlp.experts.gate_up_proj", 0, "experts gate_up"),
        ("model.layers.0.mlp.shared_expert.up_proj.weight", 0, "experts up"),
        ("model.layers.3.block_sparse_moe.gate.weight", 3, "router"),
        ("model.layers.3.block_sparse_moe.experts.1.w3.weight", 3, "experts up"),
        ("model.layers.3.self_attn.qkv_proj.weight", 3, "qkv"),
        ("model.layers.3.mlp.gate_up_proj.weight", 3, "gate_up"),
        ("transformer.h.5.attn.c_attn.weight", 5, "qkv"),
        ("transformer.h.5.attn.c_proj.weight", 5, "o"),
        ("transformer.h.5.mlp.c_proj.weight", 5, "down"),
        ("transformer.h.5.ln_1.weight", 5, "norm"),
        ("transformer.ln_f.weight", None, "norm"),
        ("transformer.wte.weight", None, "embedding"),
        ("gpt_neox.layers.2.attention.query_key_value.weight", 2, "qkv"),
        ("gpt_neox.layers.2.attention.dense.weight", 2, "o"),
        ("gpt_neox.layers.2.mlp.dense_4h_to_h.bias", 2, "down"),
        ("gpt_neox.embed_in.weight", None, "embedding"),
        ("embed_out.weight", None, "head"),
        ("model.language_model.layers.8.mlp.up_proj.weight", 8, "up"),
        ("something.entirely.different", None, "other"),
    ],
)
def test_where_a_tensor_is(name: str, layer: int | None, kind: str) -> None:
    assert place_of(name) == (layer, kind)
    assert kind in KINDS
