"""Record a triple: everything that a search for λ could ask of it, and what is true.

    python evals/choice/record.py --world arithmetic --triple examples/arithmetic/checkpoints \
        --name arithmetic0 --work scratch

For each point of a grid of λ_SFT, λ_RLVR and density, and for the sources alone: sampled votes on
unlabeled queries, the likelihoods of the prompts and of the sources' own responses, and the greedy
accuracy on labelled test questions, which no search ever sees. One file for each point in
`scratch`, so that an interrupted run goes on; at the end `evals/choice/recorded/NAME.parquet`,
which `worlds.py` reads and describes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import recipe_of
from packing import pack
from sampling import Response, likelihoods, respond
from subjects import SUBJECTS, Subject

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.answers.extraction import extract_answer
from dots_mergekit.answers.vote import majority_vote
from dots_mergekit.backends.huggingface import open_model
from dots_mergekit.files import write_text
from dots_mergekit.objectives.prompts import render_for
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Generation

RECORDED = Path(__file__).resolve().parent / "recorded"
SOURCES = {"sft": (1.0, 0.0), "rlvr": (0.0, 1.0)}
POOL_DENSITY = 0.3
"""Of the sources when their responses are kept: that of the recipes when pools are selected."""
PREFIXES = (16, 32)
"""Tokens of the beginnings of responses whose likelihoods are kept beside the whole's."""
RUNNER_UP = 2
"""Votes that an answer needs for its responses to be kept although another one has more."""

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Kept:
    """A response of a source that every point is asked about.

    Attributes:
        query: The number of its query.
        text: Without the end token.
        tokens: Its tokens, the end token included.
        ended: Whether it came to its end.
    """

    query: int
    text: str
    tokens: int
    ended: bool


def places(subject: Subject) -> list[Place]:
    """The base, the sources alone at every density, and the grid: (λ_SFT, λ_RLVR, density)."""
    alone = [(*weights, density) for weights in SOURCES.values() for density in subject.densities]
    grid = itertools.product(subject.weights_sft, subject.weights_rlvr, subject.densities)
    return [(0.0, 0.0, 1.0), *alone, *grid]


class Bench:
    """A triple in memory, merged anew for each point.

    Args:
        subject: The world.
        triple: The folder with the checkpoints.
        queries: How many of the world's queries are asked.
        votes: Responses to each.
    """

    def __init__(self, subject: Subject, triple: Path, queries: int, votes: int) -> None:
        self._subject = subject
        self._triple = triple
        self._votes = votes
        self._generation = Generation()
        self._model = open_model(recipe_of(triple, 1, 1, POOL_DENSITY))
        self._lm = self._model.lm
        asked = [Query(problem.prompt) for problem in subject.queries[:queries]]
        tests = [Query(problem.prompt) for problem in subject.tests]
        self._prompts = render_for(self._lm, asked, None)
        self._tests = render_for(self._lm, tests, None)

    def respond(self, place: Place, seed: int) -> list[list[Response]]:
        """Become the merge of a point, and let it respond to the queries."""
        self._model.use(recipe_of(self._triple, *place))
        return respond(
            self._lm,
            self._prompts,
            count=self._votes,
            max_tokens=self._subject.max_tokens,
            temperature=self._generation.temperature,
            seed=seed,
        )

    def measure(self, place: Place, seed: int, kept: Sequence[Kept]) -> dict[str, Any]:
        """Give the arrays of a point's file."""
        began = time.perf_counter()
        said = self.respond(place, seed)
        generated = time.perf_counter()
        votes = {
            "answers": np.array([[_answer(r) or "" for r in group] for group in said]),
            "tokens": np.array([[r.tokens for r in group] for group in said], np.uint16),
            "ended": np.array([[r.ended for r in group] for group in said]),
            "loss": np.array([[-r.log_likelihood for r in group] for group in said], np.float32),
        }
        return {
            **votes,
            "prompt_loss": self._prompt_losses(),
            "kept_loss": self._kept_losses(kept),
            "test_right": self._right(),
            "seconds": np.array([generated - began, time.perf_counter() - generated]),
        }

    def _prompt_losses(self) -> np.ndarray[Any, Any]:
        """Give the mean loss of a token of each prompt."""
        found = likelihoods(self._lm, [("", prompt) for prompt in self._prompts], end=False)
        return np.array([-np.mean(tokens) for tokens in found], np.float32)

    def _kept_losses(self, kept: Sequence[Kept]) -> np.ndarray[Any, Any]:
        """Give losses of the sources' responses: prefixes, the text, the text with its end."""
        pairs = [(self._prompts[one.query], one.text) for one in kept]
        rows = []
        for one, tokens in zip(kept, likelihoods(self._lm, pairs, end=True), strict=True):
            spoken = tokens if one.ended else tokens[:-1]
            parts = [*(spoken[:size] for size in PREFIXES), tokens[:-1], spoken]
            rows.append([-sum(part) for part in parts])
        return np.array(rows, np.float32)

    def _right(self) -> np.ndarray[Any, Any]:
        """Say of each test question whether the greedy response is right."""
        said = respond(
            self._lm, self._tests, count=1, max_tokens=self._subject.max_tokens, temperature=0
        )
        return np.array(
            [
                self._subject.extract_answer(group[0].text) == problem.answer
                for group, problem in zip(said, self._subject.tests, strict=True)
            ]
        )


def _answer(response: Response) -> str | None:
    return extract_answer(response.text)


def keep(groups: Sequence[Sequence[Response]], known: dict[Kept, int]) -> list[list[list[int]]]:
    """Choose the responses of a source that every point is asked about, and number them in `known`.

    Returns:
        For each query, for its first and second answer by votes: the number of the first response
        with that answer, and of the shortest; −1 where there is none.
    """
    chosen = []
    with MathEquivalence() as equal:
        for query, group in enumerate(groups):
            vote = majority_vote([_answer(response) for response in group], equal)
            rows = []
            for rank in range(2):
                if rank >= len(vote.classes) or (rank and vote.classes[rank][1] < RUNNER_UP):
                    rows.append([-1, -1])
                    continue
                spelling = vote.classes[rank][0]
                same = [r for r in group if (a := _answer(r)) is not None and equal(a, spelling)]
                picked = [same[0], min(same, key=lambda response: response.tokens)]
                kept = [Kept(query, r.text, r.tokens, r.ended) for r in picked]
                rows.append([known.setdefault(one, len(known)) for one in kept])
            chosen.append(rows)
    return chosen


def record_sources(bench: Bench, listed: Sequence[Place], work: Path) -> list[Kept]:
    """Let the sources respond, and keep what every point is asked about; or read it."""
    path = work / "sources.json"
    if not path.exists():
        known: dict[Kept, int] = {}
        numbers = {}
        for name, weights in SOURCES.items():
            place = (*weights, POOL_DENSITY)
            numbers[name] = keep(bench.respond(place, listed.index(place)), known)
        content = {"kept": [asdict(one) for one in known], "numbers": numbers}
        write_text(path, json.dumps(content, ensure_ascii=False) + "\n")
    return [Kept(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))["kept"]]


def require_same(path: Path, settings: dict[str, Any]) -> None:
    """Refuse to go on with another recording's files."""
    text = json.dumps(settings, indent=1) + "\n"
    if not path.exists():
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        sys.exit(f"record.py: error: {path.parent} holds a recording with other settings")


def main() -> None:
    """Record what is not in the folder yet, and pack it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", choices=SUBJECTS, required=True)
    parser.add_argument("--triple", type=Path, required=True, metavar="DIR")
    parser.add_argument("--name", required=True, help="what the record is called")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--queries", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--votes", type=int, default=20, help="default: %(default)s")
    parser.add_argument(
        "--densities", type=float, nargs="*", metavar="D", help="default: all of the world's"
    )
    arguments = parser.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    subject = SUBJECTS[arguments.world]()
    if arguments.densities:
        subject = replace(subject, densities=arguments.densities)
    listed = places(subject)
    work: Path = arguments.work / arguments.name
    work.mkdir(parents=True, exist_ok=True)
    settings = {
        "name": arguments.name,
        "world": arguments.world,
        "queries": arguments.queries,
        "votes": arguments.votes,
        "temperature": Generation().temperature,
        "max_tokens": subject.max_tokens,
        "pool_density": POOL_DENSITY,
        "prefixes": PREFIXES,
        "places": listed,
    }
    require_same(work / "settings.json", settings)
    bench = Bench(subject, arguments.triple.resolve(), arguments.queries, arguments.votes)
    kept = record_sources(bench, listed, work)
    for index, place in enumerate(listed):
        path = work / f"{index:04}.npz"
        if path.exists():
            continue
        measured = bench.measure(place, index, kept)
        unfinished = path.with_suffix(".unfinished.npz")
        np.savez_compressed(unfinished, **measured)
        unfinished.rename(path)
        swapped, rest = measured["seconds"]
        accuracy = 100 * measured["test_right"].mean()
        print(f"{index + 1}/{len(listed)} {place}: {accuracy:.1f} [{swapped:.1f} + {rest:.1f} s]",
              file=sys.stderr, flush=True)  # fmt: skip
    RECORDED.mkdir(exist_ok=True)
    pack(work, subject, RECORDED / f"{arguments.name}.parquet")


if __name__ == "__main__":
    main()
