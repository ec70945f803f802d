"""What an analysis of weights says beside what is true: the paper's claims, and recorded worlds.

    python evals/diagnosis.py
    python evals/diagnosis.py --world arithmetic1=path/to/its/checkpoints

The first table sets the paper's two observations beside the same figures of checkpoints, and beside
what chance gives. The second asks whether a figure of the weights foretells what a search would
find: the best λ, the best density, the gain. Worlds are those of `evals/choice/recorded`, whose
checkpoints lie in `base`, `sft` and `rlvr` of the folder that is named; the one in this repository
is arithmetic0. Accuracies are means over families of test questions, in percent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "evals" / "choice"))

from worlds import RECORDED, World, read  # noqa: E402 - it lies in the folder above

from dots_mergekit import Silent, analyze  # noqa: E402
from dots_mergekit.analysis.levels import DENSITIES  # noqa: E402
from dots_mergekit.analysis.result import Analysis  # noqa: E402
from dots_mergekit.messages import markdown_table  # noqa: E402

EXAMPLE = ROOT / "examples/arithmetic/checkpoints"


def main() -> int:
    """Parse, analyse, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--world", action="append", default=[], metavar="NAME=FOLDER", help="a recorded world"
    )
    folders = {"arithmetic0": EXAMPLE}
    for word in parser.parse_args().world:
        name, _, folder = word.partition("=")
        folders[name] = Path(folder)
    analyses = {name: look(folder) for name, folder in folders.items()}
    print(claims(analyses))
    print()
    print(foretold(analyses, {name: read(RECORDED / f"{name}.parquet") for name in folders}))
    return 0


def look(folder: Path) -> Analysis:
    """Analyse the checkpoints of a triple."""
    with tempfile.TemporaryDirectory() as out:
        models = [folder / "sft", folder / "rlvr"]
        return analyze(base=folder / "base", model=models, out=out, progress=Silent())


def claims(analyses: dict[str, Analysis]) -> str:
    """Set the paper's observations beside those of each triple."""
    rows: list[tuple[str, ...]] = [
        ("change of SFT, of that of RLVR", "about 30"),
        ("opposite signs, of all entries", "45%"),
        ("… by chance", ""),
        ("… at density 0.3", "7%"),
        ("… by chance, as many kept", ""),
        ("… by chance, 30% of all kept", "4.5%"),
        ("of what both keep, dense", ""),
        ("… at density 0.3", ""),
        ("kept at density 0.3, SFT", ""),
        ("kept at density 0.3, RLVR", ""),
    ]
    for found in analyses.values():
        [pair], at = found.whole.pairs, DENSITIES.index(0.3)
        values = [
            f"{pair.norm_ratio or 0:.1f}",
            share(pair.conflict[-1]),
            share(pair.conflict_by_chance[-1]),
            share(pair.conflict[at]),
            share(pair.conflict_by_chance[at]),
            share(0.3 * 0.3 / 2),
            share(pair.conflict_where_both[-1]),
            share(pair.conflict_where_both[at]),
            *(share(source.kept[at]) for source in found.whole.sources.values()),
        ]
        rows = [(*row, value) for row, value in zip(rows, values, strict=True)]
    return markdown_table(("", "the paper", *analyses), rows, numbers=True)


def foretold(analyses: dict[str, Analysis], worlds: dict[str, World]) -> str:
    """Set figures of the weights beside the best points of each world."""
    rows = []
    for name, found in analyses.items():
        world, [pair] = worlds[name], found.whole.pairs
        accuracy = world.accuracy.mean(1)
        best = max(world.grid, key=lambda number: accuracy[number])
        alone = (world.places[:, :2] == 0).sum(1) == 1
        at = DENSITIES.index(0.3)
        rows.append(
            (
                name,
                f"{pair.norm_ratio or 0:.1f}",
                f"{pair.cosine or 0:+.3f}",
                " / ".join(share(one.kept_energy[at]) for one in found.whole.sources.values()),
                share(pair.conflict_where_both[at]),
                "({:g}, {:g}; {:g})".format(*world.places[best]),
                f"{world.places[best][1] / world.places[best][0]:g}",
                ", ".join(by_density(world, accuracy)),
                f"{accuracy[best] - accuracy[alone].max():+.1f}",
            )
        )
    head = (
        "world", "norm ratio", "cosine", "kept energy at 0.3", "conflict of both, at 0.3",
        "best (λ_SFT, λ_RLVR; density)", "λ_RLVR / λ_SFT there", "best at each density",
        "gain over the better parent",
    )  # fmt: skip
    return markdown_table(head, rows)


def by_density(world: World, accuracy: NDArray[np.float64]) -> list[str]:
    """Give the best accuracy at each density."""
    grid = world.grid
    return [
        f"{density:g}: {accuracy[grid][world.places[grid, 2] == density].max():.1f}"
        for density in np.unique(world.places[grid, 2])
    ]


def share(value: float | None) -> str:
    """Spell a share in percent."""
    return "–" if value is None else f"{100 * value:.1f}%"


if __name__ == "__main__":
    sys.exit(main())
