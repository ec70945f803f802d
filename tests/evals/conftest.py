"""The scripts beside the package, which import what lies beside them."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

sys.path[:0] = [
    str(ROOT / "evals" / "choice"),
    str(ROOT / "evals" / "verifier"),
    str(ROOT / "examples" / "arithmetic"),
]
