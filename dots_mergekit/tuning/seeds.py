"""Seeds: each purpose has one of its own, and all follow from the seed of the search."""

from __future__ import annotations

import hashlib

__all__ = ["seed_for"]


def seed_for(seed: int, *purpose: object) -> int:
    """Give the seed of a purpose, in [0, 2³¹)."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
