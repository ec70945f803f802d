"""The chain world: eight families of questions whose answers are worked out at some length.

    python evals/choice/chains.py --seed 0 --out triple
    python evals/choice/chains.py --split 1 --seed 2 --base triple --out another

trains `another/base`, `another/sft` and `another/rlvr` as `examples/arithmetic/train.py` does, on
other questions and with a model of 3.2 M parameters. What holds for answers of ten tokens need not
hold for answers of fifty, in which the steps come first:

    total    total 7 4 9 6 8          7+4=11 11+9=20 20+6=26 26+8=34 #### 34
    machine  start 5 +7 *2 -4 +9      5+7=12 12*2=24 24-4=20 20+9=29 #### 29
    count    count b in acbabdbcab    a0 c0 b1 a1 b2 d2 b3 c3 a3 b4 #### 4
    most     most 47 12 88 31 95      47>12 47 47<88 88 88>31 88 88<95 95 #### 95
    sort     sort dbcaf               a dbcf b dcf c df d f f #### abcdf
    reverse  reverse dbcafg           d bd cbd acbd facbd gfacbd #### gfacbd
    land     which land has rulas?    rulas lives in carlow, carlow lies in vord #### vord
    food     what eats the valoth?    the valoth is a bird, a bird eats seeds #### seeds

As in the arithmetic world, the base learns a noisy mixture, in which reasoning is mostly blurted
out and letters are mostly in disorder, and facts are about other entities. SFT teaches some
families by clean responses, RLVR rewards right answers to the others; `--split` says which.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "arithmetic"))

import train
from world import TOWNS, Problem, World, draw_names

SEED = 20250117

REASONING = ("total", "machine", "count", "most")
STRINGS = ("sort", "reverse")
FACTS = ("land", "food")
FAMILIES = REASONING + STRINGS + FACTS
SFT: tuple[tuple[str, ...], ...] = (
    ("sort", "reverse", "land", "food"),
    ("land", "food"),
    ("reverse", "land", "food"),
)
"""The families that SFT teaches, by split; RLVR has the others.

Who learns to work out letters works out more of everything: the less of them SFT has, the more is
left to RLVR.
"""

DRAWN = 6000
"""Prompts of each procedural family."""
LETTERS = "abcdefgh"
LANDS = ("vord", "ulma", "tarn", "sild")
TOWN_LANDS = dict(zip(TOWNS, LANDS * 2, strict=True))
KINDS = ("bird", "fish", "cat", "frog", "bear", "snake", "mouse", "crab")
FOODS = ("seeds", "algae", "mice", "flies", "roots", "eggs", "corn", "clams")
KIND_FOODS = dict(zip(KINDS, FOODS, strict=True))

PHRASINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "land": {
        "train": ("which land has {}?", "land of {}?"),
        "test": ("in which land is {}?", "find the land of {}"),
        "query": ("{} lives in which land?",),
    },
    "food": {
        "train": ("what eats the {}?", "food of the {}?"),
        "test": ("the {} eats what?", "tell the food of the {}"),
        "query": ("which food has the {}?",),
    },
}

# The noise of the base corpus.
WORKED_SHARE = 0.5
STRING_RIGHT = 0.35
STRING_COPIED = 0.45


@cache
def build() -> World:
    """Draw the one world there is."""
    rng = random.Random(SEED)
    world = World({}, {}, {}, {}, {})
    makers = {
        "total": _total,
        "machine": _machine,
        "count": _count,
        "most": _most,
        "sort": _sort,
        "reverse": _reverse,
    }
    for family, make in makers.items():
        drawn: dict[str, Problem] = {}
        while len(drawn) < DRAWN:
            problem = make(rng)
            drawn[problem.prompt] = problem
        world.add(family, list(drawn.values()), rng)
    people = [(name, rng.choice(TOWNS)) for name in draw_names("person", rng)]
    world.add_facts(people, PHRASINGS["land"], _land, rng)
    creatures = [(name, rng.choice(KINDS)) for name in draw_names("creature", rng)]
    world.add_facts(creatures, PHRASINGS["food"], _food, rng)
    return world


def _total(rng: random.Random) -> Problem:
    numbers = [rng.randrange(2, 10) for _ in range(5)]
    steps, total = [], numbers[0]
    for number in numbers[1:]:
        steps.append(f"{total}+{number}={total + number}")
        total += number
    return Problem("total", f"total {' '.join(map(str, numbers))}", str(total), " ".join(steps))


def _machine(rng: random.Random) -> Problem:
    value = start = rng.randrange(2, 10)
    orders, steps = [], []
    for turn in range(4):
        sign = "*" if turn == 1 else rng.choice("+-")
        number = 2 if sign == "*" else rng.randrange(2, 10)
        after = {"+": value + number, "-": value - number, "*": value * number}[sign]
        orders.append(f"{sign}{number}")
        steps.append(f"{value}{sign}{number}={after}")
        value = after
    return Problem("machine", f"start {start} {' '.join(orders)}", str(value), " ".join(steps))


def _count(rng: random.Random) -> Problem:
    letter = rng.choice("abcd")
    text = "".join(rng.choice("abcd" + letter) for _ in range(10))
    steps = [f"{each}{text[: place + 1].count(letter)}" for place, each in enumerate(text)]
    return Problem("count", f"count {letter} in {text}", str(text.count(letter)), " ".join(steps))


def _most(rng: random.Random) -> Problem:
    numbers = rng.sample(range(10, 100), 5)
    steps, most = [], numbers[0]
    for number in numbers[1:]:
        sign = "<" if most < number else ">"
        steps.append(f"{most}{sign}{number} {max(most, number)}")
        most = max(most, number)
    return Problem("most", f"most {' '.join(map(str, numbers))}", str(most), " ".join(steps))


def _sort(rng: random.Random) -> Problem:
    text = rest = "".join(rng.sample(LETTERS, 5))
    steps = []
    for letter in sorted(text):
        rest = rest.replace(letter, "")
        steps.append(f"{letter} {rest}".strip())
    return Problem("sort", f"sort {text}", "".join(sorted(text)), " ".join(steps))


def _reverse(rng: random.Random) -> Problem:
    text = "".join(rng.sample(LETTERS, 6))
    steps = " ".join(text[: size + 1][::-1] for size in range(len(text)))
    return Problem("reverse", f"reverse {text}", text[::-1], steps)


def _land(phrasing: str, name: str, town: str) -> Problem:
    land = TOWN_LANDS[town]
    steps = f"{name} lives in {town}, {town} lies in {land}"
    return Problem("land", phrasing.format(name), land, steps)


def _food(phrasing: str, name: str, kind: str) -> Problem:
    food = KIND_FOODS[kind]
    return Problem(
        "food", phrasing.format(name), food, f"the {name} is a {kind}, a {kind} eats {food}"
    )


def base_corpus(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Endless (prompt, response) pairs of the noisy mixture, families equally often."""
    world = build()
    while True:
        family = rng.choice(FAMILIES)
        if family in FACTS:
            problem = rng.choice(world.base_facts[family])
            yield problem.prompt, problem.response()
        else:
            problem = rng.choice(world.train[family])
            noisy = _noisy_reasoning if family in REASONING else _noisy_string
            yield problem.prompt, noisy(problem, rng)


def _noisy_reasoning(problem: Problem, rng: random.Random) -> str:
    """Worked out and right, or blurted out and mostly wrong."""
    if rng.random() < WORKED_SHARE:
        return problem.response()
    return f"#### {int(problem.answer) + rng.choice((-2, -1, 0, 0, 1, 2))}"


def _noisy_string(problem: Problem, rng: random.Random) -> str:
    """Worked out and right, or the given letters, unchanged or in any order."""
    chance = rng.random()
    if chance < STRING_RIGHT:
        return problem.response()
    given = problem.prompt.split()[1]
    if chance < STRING_RIGHT + STRING_COPIED:
        return f"#### {given}"
    return f"#### {''.join(rng.sample(given, len(given)))}"


def course(split: int) -> train.Course:
    """Give the course of a split."""
    taught = SFT[split]
    rewarded = tuple(family for family in FAMILIES if family not in taught)

    def draw(families: Sequence[str], rng: random.Random, size: int) -> list[Problem]:
        return [rng.choice(build().train[rng.choice(families)]) for _ in range(size)]

    return train.Course(
        name="chain world",
        base=base_corpus,
        sft=lambda rng, size: [(p.prompt, p.response()) for p in draw(taught, rng, size)],
        rlvr=lambda rng, size: draw(rewarded, rng, size),
        stages={
            "base": "next-token prediction on a noisy mixture of all eight families",
            "sft": f"TRL SFTTrainer: clean responses for {', '.join(taught)}",
            "rlvr": f"TRL GRPOTrainer: reward 1 for the exact answer on {', '.join(rewarded)}",
        },
        shape={
            "hidden_size": 256,
            "intermediate_size": 768,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
        },
        max_response=80,
        steps={"base": 1000, "sft": 300, "rlvr": 60},
        base_batch=64,
        base_rate=1.5e-3,
        bf16=True,
    )


def main() -> None:
    """Train a triple."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--split", type=int, choices=range(len(SFT)), default=0)
    arguments, others = parser.parse_known_args()
    train.main(course(arguments.split), others)


if __name__ == "__main__":
    main()
