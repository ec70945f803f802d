"""Write down how long the sources' changes are, for the rule of NAN in `policies.py`.

    python evals/choice/norms.py arithmetic0=examples/arithmetic/checkpoints

adds a world to `norms.json`: ‖τ‖₂ of each source over all tensors, as `dots-analyze` has it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from dots_mergekit import Silent, analyze

NORMS = Path(__file__).with_name("norms.json")


def main() -> None:
    """Analyse the triples that are named, and write the norms of all."""
    known = json.loads(NORMS.read_text(encoding="utf-8")) if NORMS.exists() else {}
    for word in sys.argv[1:]:
        name, _, folder = word.partition("=")
        with tempfile.TemporaryDirectory() as out:
            models = [Path(folder) / "sft", Path(folder) / "rlvr"]
            found = analyze(base=Path(folder) / "base", model=models, out=out, progress=Silent())
        known[name] = {source: one.norm for source, one in found.whole.sources.items()}
    NORMS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
