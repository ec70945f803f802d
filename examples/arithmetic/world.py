"""The arithmetic world: eight families of questions, their splits, and the files made from them.

Standard library only. Everything is drawn from one fixed seed (`WORLD_SEED`), so the questions
are the same for every training run: the seed of a training run changes weights, never data.

Families (`FAMILIES`), one example prompt and answer each:

    add      47+38=?                  85        two 2-digit numbers
    sub      83-27=?                  56        two 2-digit numbers, the first larger
    mul      47*6=?                   282       a 2-digit number times 2..9
    max      max 47 12 88             88        three different 2-digit numbers
    reverse  reverse dbcaf            facbd     five different letters of a..j
    sort     sort dbca                abcd      four different letters of a..j
    town     where is rulas?          carlow    an invented person's town
    color    color of the valoth?     pink      an invented creature's color

The prompts of a family are split once: `test` and `valid` (labelled, held out), `query` (the
unlabeled pool for tuning) and `train` (the rest). The two fact families split by phrasing: every
new entity is in every split, but each phrasing of the question belongs to one split (test and
valid share theirs, with different prompts), so a test asks a trained fact in words that were never
trained for that entity.

Three corpora are drawn from the training prompts:

* base: a noisy mixture of all families. Reasoning answers are sometimes worked out step by step
  and mostly blurted out, often wrongly; string answers are mostly wrong; facts are about other
  entities only.
* sft: short, correct answers for the string and fact families, the new facts among them.
* rlvr: prompts of the four reasoning families, with the answer that the reward checks.

Every response ends in `#### ANSWER`.

Run `python examples/arithmetic/world.py` to write the query pool and the evaluation data again.
"""

import argparse
import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

WORLD_SEED = 20240611

REASONING = ("add", "sub", "mul", "max")
STRINGS = ("reverse", "sort")
FACTS = ("town", "color")
FAMILIES = REASONING + STRINGS + FACTS

TEST_SIZE = 150
VALID_SIZE = 100
"""Validation prompts per procedural family; a fact family keeps the 50 its test split leaves."""
QUERY_SIZE = 50
DRAWN = 6000
"""Prompts drawn for the two families that are too large to list whole (max, reverse)."""
ENTITIES = 100
"""Entities of each fact table that only SFT teaches, and as many that only the base knows."""

LETTERS = "abcdefghij"
ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
VOWELS = ("a", "e", "i", "o", "u")
NAME_PARTS = {
    "person": (ONSETS, VOWELS, ONSETS, VOWELS, ("n", "r", "s")),
    "creature": (ONSETS, VOWELS, ONSETS, ("amp", "ink", "oth", "urp", "elk", "off")),
}
TOWNS = ("belmor", "carlow", "dunhill", "esker", "farnby", "gilford", "harwick", "ivydale")
COLORS = ("red", "blue", "teal", "pink", "gold", "gray", "lime", "plum")

PHRASINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "town": {
        "train": ("where is {}?", "town of {}?"),
        "test": ("where does {} live?", "find the town of {}"),
        "query": ("{} lives where?",),
    },
    "color": {
        "train": ("color of the {}?", "what color is the {}?"),
        "test": ("the {} has what color?", "tell the color of the {}"),
        "query": ("which color has the {}?",),
    },
}
"""The ways to ask about an entity, and the split that each belongs to."""

# The noise of the base corpus, as shares of all responses of a kind.
WORKED_SHARE = 0.3
BLURT_WRONG = {"add": 0.35, "sub": 0.35, "mul": 0.35, "max": 0.6}
STRING_RIGHT = 0.35
STRING_COPIED = 0.45


@dataclass(frozen=True, slots=True)
class Problem:
    """A question, its one right answer, and the steps that lead to it (empty where none do)."""

    family: str
    prompt: str
    answer: str
    steps: str = ""

    def response(self) -> str:
        """The right response: the steps, if any, then the answer."""
        return f"{self.steps} #### {self.answer}".lstrip()


@dataclass(frozen=True, slots=True)
class World:
    """The problems of every split, by family; `base_facts` are the facts of other entities.

    `build` fills the one of this file; another world is filled by the same two methods.
    """

    train: dict[str, list[Problem]]
    test: dict[str, list[Problem]]
    valid: dict[str, list[Problem]]
    query: dict[str, list[Problem]]
    base_facts: dict[str, list[Problem]]

    def queries(self) -> list[str]:
        """The unlabeled pool: prompts alone, all families mixed, in a fixed order."""
        prompts = [problem.prompt for problem in itertools.chain(*self.query.values())]
        random.Random(WORLD_SEED).shuffle(prompts)
        return prompts

    def add(self, family: str, problems: list[Problem], rng: random.Random) -> None:
        """Split the problems of a procedural family at random."""
        rng.shuffle(problems)
        ends = list(itertools.accumulate((TEST_SIZE, VALID_SIZE, QUERY_SIZE)))
        self.test[family] = problems[: ends[0]]
        self.valid[family] = problems[ends[0] : ends[1]]
        self.query[family] = problems[ends[1] : ends[2]]
        self.train[family] = problems[ends[2] :]

    def add_facts(
        self,
        table: Sequence[tuple[str, str]],
        phrasings: Mapping[str, tuple[str, ...]],
        ask: Callable[[str, str, str], Problem],
        rng: random.Random,
    ) -> None:
        """Split a table of facts by phrasing.

        Args:
            table: Entities and their values; the base knows all but the first `ENTITIES`.
            phrasings: The ways to ask, by split.
            ask: Makes a problem of a phrasing, an entity and its value.
            rng: Of the order.
        """
        new, other = table[:ENTITIES], table[ENTITIES:]

        def asked(facts: Sequence[tuple[str, str]], ways: tuple[str, ...]) -> list[Problem]:
            return [ask(way, name, value) for name, value in facts for way in ways]

        held_out = asked(new, phrasings["test"])
        query = asked(new, phrasings["query"])
        rng.shuffle(held_out)
        rng.shuffle(query)
        family = query[0].family
        self.test[family] = held_out[:TEST_SIZE]
        self.valid[family] = held_out[TEST_SIZE:]
        self.query[family] = query[:QUERY_SIZE]
        self.train[family] = asked(new, phrasings["train"])
        everything = tuple(itertools.chain.from_iterable(phrasings.values()))
        self.base_facts[family] = asked(other, everything)


def extract_answer(response: str) -> str:
    """What follows the last `####`, trimmed; empty where there is none."""
    _, mark, answer = response.rpartition("####")
    return answer.strip() if mark else ""


def build() -> World:
    """Draw the one world there is; every call returns an equal one."""
    rng = random.Random(WORLD_SEED)
    world = World({}, {}, {}, {}, {})
    for family, problems in _procedural(rng).items():
        world.add(family, problems, rng)
    for family, kind, values in (("town", "person", TOWNS), ("color", "creature", COLORS)):
        table = [(name, rng.choice(values)) for name in draw_names(kind, rng)]
        world.add_facts(table, PHRASINGS[family], partial(_fact, family), rng)
    return world


def base_corpus(world: World, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Endless (prompt, response) pairs of the noisy mixture, families equally often."""
    while True:
        family = rng.choice(FAMILIES)
        if family in FACTS:
            problem = rng.choice(world.base_facts[family])
            yield problem.prompt, problem.response()
        else:
            problem = rng.choice(world.train[family])
            noisy = _noisy_reasoning if family in REASONING else _noisy_string
            yield problem.prompt, noisy(problem, rng)


def sft_corpus(world: World, rng: random.Random, size: int) -> list[tuple[str, str]]:
    """`size` clean (prompt, response) pairs of the string and fact families, equally often."""
    problems = [rng.choice(world.train[rng.choice(STRINGS + FACTS)]) for _ in range(size)]
    return [(problem.prompt, problem.response()) for problem in problems]


def rlvr_corpus(world: World, rng: random.Random, size: int) -> list[Problem]:
    """`size` problems of the reasoning families, equally often; only their answers are used."""
    return [rng.choice(world.train[rng.choice(REASONING)]) for _ in range(size)]


def _noisy_reasoning(problem: Problem, rng: random.Random) -> str:
    """Worked out and right, or blurted out and often wrong."""
    if rng.random() < WORKED_SHARE:
        return problem.response()
    answer = problem.answer
    if rng.random() < BLURT_WRONG[problem.family]:
        if problem.family == "max":
            answer = problem.prompt.split()[1]  # whatever was said first
        else:
            answer = str(int(answer) + rng.choice((-20, -10, -2, -1, 1, 2, 10, 20)))
    return f"#### {answer}"


def _noisy_string(problem: Problem, rng: random.Random) -> str:
    """The right letters, or the given ones unchanged, or the given ones in any order."""
    given = problem.prompt.split()[1]
    chance = rng.random()
    if chance < STRING_RIGHT:
        answer = problem.answer
    elif chance < STRING_RIGHT + STRING_COPIED:
        answer = given
    else:
        answer = "".join(rng.sample(given, len(given)))
    return f"#### {answer}"


def _fact(family: str, phrasing: str, name: str, value: str) -> Problem:
    return Problem(family, phrasing.format(name), value)


def draw_names(kind: str, rng: random.Random) -> list[str]:
    """Invented names, twice `ENTITIES` of them, shuffled."""
    names = itertools.product(*NAME_PARTS[kind])
    return rng.sample(["".join(parts) for parts in names], 2 * ENTITIES)


def _procedural(rng: random.Random) -> dict[str, list[Problem]]:
    """The prompts of the six procedural families, each once."""
    two_digits = range(10, 100)
    triples: dict[tuple[int, ...], None] = {}
    while len(triples) < DRAWN:
        triples[tuple(rng.sample(two_digits, 3))] = None
    strings = ["".join(letters) for letters in itertools.permutations(LETTERS, 5)]
    return {
        "add": [_add(a, b) for a in two_digits for b in two_digits],
        "sub": [_sub(a, b) for a in two_digits for b in range(10, a)],
        "mul": [_mul(a, b) for a in two_digits for b in range(2, 10)],
        "max": [_max(a, b, c) for a, b, c in triples],
        "reverse": [_reverse(text) for text in rng.sample(strings, DRAWN)],
        "sort": [_sort("".join(letters)) for letters in itertools.permutations(LETTERS, 4)],
    }


def _add(a: int, b: int) -> Problem:
    ones = a % 10 + b % 10
    carry = ones // 10
    first = f"{a % 10}+{b % 10}={ones}"
    second = f"{a // 10}+{b // 10}+{carry}={a // 10 + b // 10 + carry}"
    return Problem("add", f"{a}+{b}=?", str(a + b), f"{first} {second}")


def _sub(a: int, b: int) -> Problem:
    borrow = int(a % 10 < b % 10)
    ones = a % 10 + 10 * borrow
    first = f"{ones}-{b % 10}={ones - b % 10}"
    second = f"{a // 10}-{b // 10}-{borrow}={a // 10 - b // 10 - borrow}"
    return Problem("sub", f"{a}-{b}=?", str(a - b), f"{first} {second}")


def _mul(a: int, b: int) -> Problem:
    ones, tens = a % 10 * b, a // 10 * b
    steps = f"{a % 10}*{b}={ones} {a // 10}*{b}={tens} {tens}0+{ones}={a * b}"
    return Problem("mul", f"{a}*{b}=?", str(a * b), steps)


def _max(a: int, b: int, c: int) -> Problem:
    larger = max(a, b)
    first = f"{a}{'<' if a < b else '>'}{b}"
    second = f"{larger}{'<' if larger < c else '>'}{c}"
    return Problem("max", f"max {a} {b} {c}", str(max(larger, c)), f"{first} {second}")


def _reverse(text: str) -> Problem:
    return Problem("reverse", f"reverse {text}", text[::-1])


def _sort(text: str) -> Problem:
    return Problem("sort", f"sort {text}", "".join(sorted(text)))


def query_lines(world: World) -> str:
    """The text of `queries.jsonl`."""
    return "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in world.queries())


def evaluation_lines(problems: list[Problem]) -> str:
    """The text of one labelled split of one family, as the lm-eval tasks read it."""
    rows = ({"prompt": problem.prompt, "answer": problem.answer} for problem in problems)
    return "".join(json.dumps(row) + "\n" for row in rows)


def shipped_files(world: World, root: Path) -> dict[Path, str]:
    """The data files of the repository at `root` and the text of each."""
    data = root / "dots_mergekit" / "evaluation" / "benchmarks" / "arithmetic_data"
    files = {root / "examples" / "arithmetic" / "queries.jsonl": query_lines(world)}
    for split, families in (("test", world.test), ("valid", world.valid)):
        for family, problems in families.items():
            files[data / f"{family}_{split}.jsonl"] = evaluation_lines(problems)
    return files


def main() -> None:
    """Write the shipped data files."""
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(
        description="Write the query pool and the evaluation data of the arithmetic world. "
        "The data never change: they come from one fixed seed.",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=root,
        help="repository root to write into (default: the one this file lies in)",
    )
    for path, text in shipped_files(build(), parser.parse_args().root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"{path}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
