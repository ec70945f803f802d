"""Where in a model a tensor is, by its name: which layer, which kind of module."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["KINDS", "Place", "place_of"]

_PATTERNS = {
    # The first that matches decides: `q_norm` is a norm, `embed_out` a head, `experts.3.gate_proj`
    # an expert's.
    "norm": r"norm|(^|\.)ln_?\w*\.",
    "head": r"(^|\.)(lm_head|embed_out|score)\.",
    "embedding": r"(^|\.)(embed_\w+|\w+_embeddings?|embed|wte|wpe)\.",
    "router": r"(^|\.)(router|mlp\.gate|block_sparse_moe\.gate|feed_forward\.router)(\.|$)",
    "experts gate_up": r"experts?\.(.*\.)?(gate_up_proj|w13)(\.|$)",
    "experts gate": r"experts?\.(.*\.)?(gate_proj|w1)(\.|$)",
    "experts up": r"experts?\.(.*\.)?(up_proj|w3)(\.|$)",
    "experts down": r"experts?\.(.*\.)?(down_proj|w2)(\.|$)",
    "qkv": r"\.(qkv_proj|query_key_value|Wqkv|c_attn|qkv)\.",
    "q": r"\.(q_proj|q_a_proj|q_b_proj|wq|query)\.",
    "k": r"\.(k_proj|wk|key)\.",
    "v": r"\.(v_proj|wv|value)\.",
    "o": r"\.(o_proj|out_proj|wo|self_attn\.dense|attention\.dense|attn\.c_proj)\.",
    "gate_up": r"\.gate_up_proj\.",
    "gate": r"\.(gate_proj|w1)\.",
    "up": r"\.(up_proj|w3|fc1|fc_in|c_fc|dense_h_to_4h)\.",
    "down": r"\.(down_proj|w2|fc2|fc_out|mlp\.c_proj|dense_4h_to_h)\.",
}
_KINDS = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")

_OTHER = "other"

KINDS = ("embedding", *(k for k in _PATTERNS if k not in ("embedding", "norm", "head")))
KINDS += ("norm", "head", _OTHER)
"""Every kind, in the order in which they are shown."""


class Place(NamedTuple):
    """Where a tensor is.

    Attributes:
        layer: Its number, None outside of all layers.
        kind: One of `KINDS`.
    """

    layer: int | None
    kind: str


def place_of(name: str) -> Place:
    """Tell where a tensor is. A bias belongs to its module.

    >>> place_of("model.layers.3.self_attn.q_proj.bias")
    Place(layer=3, kind='q')
    >>> place_of("model.layers.0.mlp.experts.gate_up_proj")
    Place(layer=0, kind='experts gate_up')
    >>> place_of("model.norm.weight")
    Place(layer=None, kind='norm')
    """
    found = _LAYER.search(name)
    kind = next((kind for kind, known in _KINDS.items() if known.search(name)), _OTHER)
    return Place(int(found[1]) if found else None, kind)
