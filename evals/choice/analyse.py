"""Say which objectives follow the truth, and which rule chooses well, from measured grids.

    python evals/choice/analyse.py evals/choice/grid.jsonl

Reads what `measure.py` wrote and prints Markdown. Accuracies and regrets are in percentage points
of the mean over eight families of held-out test questions. A regret is the accuracy of the best
point of a grid less that of the point that a rule chose on it: for each triple, one for each pool.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr

from dots_mergekit.objectives import DIRECTIONS
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.tuning.choice import pick

# What is compared: objectives, and the rule that chooses among points that were scored by them.
CHOICES = (
    (("consistency", "agreement"), "consistency+agreement"),
    (("consistency", "agreement"), "knee"),
    (("consistency", "agreement"), "utopia"),
    (("consistency", "agreement"), "agreement"),
    (("consistency", "agreement"), "consistency"),
    (("consistency", "response_perplexity"), "knee"),
    (("consistency", "response_perplexity"), "utopia"),
    (("consistency", "response_perplexity"), "perplexity-within"),
    (("consistency", "perplexity"), "knee"),
    (("consistency", "perplexity"), "utopia"),
    (("consistency", "perplexity"), "perplexity-within"),
    (("consistency", "agreement", "response_perplexity"), "knee"),
    (("consistency", "agreement", "response_perplexity"), "utopia"),
)
DEFAULT = CHOICES[0]


@dataclass(frozen=True)
class Point:
    """A measured point: λ_SFT, λ_RLVR, density; what each pool saw; what is true."""

    place: tuple[float, float, float]
    scores: Sequence[Scores]
    accuracy: float

    @property
    def density(self) -> float:
        """The density of both sources."""
        return self.place[2]


def read(path: Path) -> dict[str, list[Point]]:
    """Read the grids, by triple."""
    grids: dict[str, list[Point]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        scores = [
            Scores(objectives=objectives, details=details)
            for objectives, details in zip(entry["objectives"], entry["details"], strict=True)
        ]
        sft, rlvr, density = entry["point"]
        point = Point((sft, rlvr, density), scores, entry["accuracy"]["mean"])
        grids.setdefault(entry["triple"], []).append(point)
    return dict(sorted(grids.items()))


@dataclass(frozen=True)
class Box:
    """A range of search: ends of λ_SFT and λ_RLVR, and densities."""

    sft: tuple[float, float]
    rlvr: tuple[float, float]
    densities: Sequence[float] = (0.3,)

    def of(self, points: Iterable[Point]) -> list[Point]:
        """Leave the measured points inside it."""
        return [
            point
            for point in points
            if self.sft[0] <= point.place[0] <= self.sft[1]
            and self.rlvr[0] <= point.place[1] <= self.rlvr[1]
            and point.density in self.densities
        ]

    def __str__(self) -> str:
        return f"[{self.sft[0]:g}, {self.sft[1]:g}] × [{self.rlvr[0]:g}, {self.rlvr[1]:g}]"


GRID = Box((0.25, 1.5), (0.5, 3.0))
EVERY_DENSITY = Box(GRID.sft, GRID.rlvr, (0.3, 0.7, 1.0))
DENSE = Box(GRID.sft, GRID.rlvr, (1.0,))
# Ranges that people may choose: the paper's, too narrow ones, one that is far too wide.
RANGES = (
    Box((0.5, 1.5), (0.5, 2.0)),
    GRID,
    Box((0.25, 1.5), (0.5, 1.0)),
    Box((0.25, 0.5), (0.5, 3.0)),
    Box((1.0, 1.5), (0.5, 3.0)),
    Box((0.25, 1.5), (0.5, 6.0)),
)


def regrets(
    points: Sequence[Point], objectives: Sequence[str], rule: str
) -> list[tuple[float, Point]]:
    """Give the regret and the point of the rule's choice, for each pool."""
    best = max(point.accuracy for point in points)
    directions = {name: DIRECTIONS[name] for name in objectives}
    found = []
    for seed in range(len(points[0].scores)):
        seen = [
            Scores(
                objectives={name: point.scores[seed].objectives[name] for name in objectives},
                details=point.scores[seed].details,
            )
            for point in points
        ]
        chosen = points[pick(seen, directions, rule)]
        found.append((best - chosen.accuracy, chosen))
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def correlations(grids: Mapping[str, Sequence[Point]], box: Box) -> str:
    """Table: Spearman's rank correlation of each objective with accuracy, by triple."""
    rows = []
    for name in next(iter(grids.values()))[0].scores[0].objectives:
        cells = []
        for grid in grids.values():
            points = box.of(grid)
            values = [
                spearmanr(
                    [p.scores[seed].objectives[name] for p in points],
                    [p.accuracy for p in points],
                ).statistic
                for seed in range(len(points[0].scores))
            ]
            cells.append(f"{statistics.fmean(values):+.2f}")
        rows.append((name, *cells))
    return table(("objective", *grids), rows)


def choices(grids: Mapping[str, Sequence[Point]], box: Box) -> str:
    """Table: mean and worst regret of each rule over triples and pools."""
    rows = []
    for objectives, rule in CHOICES:
        by_triple = [
            [r for r, _ in regrets(box.of(grid), objectives, rule)] for grid in grids.values()
        ]
        every = [r for values in by_triple for r in values]
        rows.append(
            (
                f"{', '.join(objectives)}: `{rule}`",
                f"{statistics.fmean(every):.1f}",
                f"{max(every):.1f}",
                *(f"{statistics.fmean(values):.1f}" for values in by_triple),
            )
        )
    return table(("objectives: rule", "mean regret", "worst", *grids), rows)


def places(grids: Mapping[str, Sequence[Point]], box: Box) -> str:
    """Table: the accuracy of the default choice beside everything that one would compare."""
    rows = []
    for name, grid in grids.items():
        known = {point.place: point.accuracy for point in grid}
        points = box.of(grid)
        best = max(points, key=lambda point: point.accuracy)
        dense = max(DENSE.of(grid), key=lambda point: point.accuracy)
        chosen = [point for _, point in regrets(points, *DEFAULT)]
        parents = {"SFT": known[1.0, 0.0, 1.0], "RLVR": known[0.0, 1.0, 1.0]}
        rows.append(
            (
                name,
                *(f"{accuracy:.1f}" for accuracy in parents.values()),
                f"{known[0.5, 0.5, 0.3]:.1f}",
                f"{known[1.0, 1.0, 0.3]:.1f}",
                ", ".join(f"{p.accuracy:.1f} {_place(p)}" for p in chosen),
                f"{best.accuracy:.1f} {_place(best)}",
                f"{dense.accuracy:.1f} {_place(dense)}",
                f"{min(p.accuracy for p in chosen) - max(parents.values()):+.1f}",
            )
        )
    head = (
        "triple",
        "SFT",
        "RLVR",
        "(0.5, 0.5)",
        "(1, 1)",
        "chosen, one for each pool",
        "best of the grid",
        "best dense",
        "worst choice against the better parent",
    )
    return table(head, rows)


def _place(point: Point) -> str:
    sft, rlvr, density = point.place
    return f"({sft:g}, {rlvr:g}; {density:g})"


def ranges(grids: Mapping[str, Sequence[Point]]) -> str:
    """Table: mean and worst regret of each rule in ranges of search, over triples and pools."""
    rows = []
    for objectives, rule in CHOICES:
        found = [
            [r for grid in grids.values() for r, _ in regrets(box.of(grid), objectives, rule)]
            for box in RANGES
        ]
        every = [r for values in found for r in values]
        cells = [
            f"{statistics.fmean(values):.1f} ({max(values):.1f})" for values in (*found, every)
        ]
        rows.append((f"{', '.join(objectives)}: `{rule}`", *cells))
    return table(("objectives: rule", *map(str, RANGES), "all of these"), rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grids", type=Path, help="the lines of measure.py")
    grids = read(parser.parse_args().grids)
    for box, title in (
        (GRID, f"At density 0.3, λ_SFT × λ_RLVR in {GRID}"),
        (EVERY_DENSITY, f"The same, with the density out of {EVERY_DENSITY.densities}"),
    ):
        print(f"#### {title}\n")
        print(f"Rank correlation with accuracy:\n\n{correlations(grids, box)}\n")
        print(f"Regret:\n\n{choices(grids, box)}\n")
        print(f"Accuracy, with (λ_SFT, λ_RLVR; density):\n\n{places(grids, box)}\n")
    print(f"#### In other ranges: mean regret (worst), density 0.3\n\n{ranges(grids)}")


if __name__ == "__main__":
    main()
