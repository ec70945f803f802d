"""The chain world: its splits, its steps, and what each stage is taught."""

from __future__ import annotations

import random
from itertools import chain, islice

import chains
import pytest
import world

WORLD = chains.build()


def prompts(split: dict[str, list[world.Problem]]) -> list[str]:
    return [problem.prompt for problem in chain.from_iterable(split.values())]


def test_no_prompt_is_in_two_splits() -> None:
    """Every training corpus is drawn from `train` and `base_facts`."""
    splits = (WORLD.train, WORLD.test, WORLD.valid, WORLD.query, WORLD.base_facts)
    everything = list(chain.from_iterable(map(prompts, splits)))
    assert len(set(everything)) == len(everything)


def test_split_sizes() -> None:
    for family in chains.FAMILIES:
        sizes = [len(split[family]) for split in (WORLD.test, WORLD.query)]
        assert sizes == [150, 50], family


def test_every_answer_and_every_worked_step_is_right() -> None:
    for family in ("total", "machine", "most"):
        for problem in WORLD.train[family]:
            for step in problem.steps.split():
                assert family == "most" or eval(step.replace("=", "=="), {}), problem
            assert problem.answer == problem.steps.replace("=", " ").split()[-1]
    for problem in WORLD.train["total"]:
        assert int(problem.answer) == sum(map(int, problem.prompt.split()[1:]))
    for problem in WORLD.train["machine"]:
        value = problem.prompt.split()[1]
        for order in problem.prompt.split()[2:]:
            value = str(eval(value + order, {}))
        assert problem.answer == value
    for problem in WORLD.train["most"]:
        assert int(problem.answer) == max(map(int, problem.prompt.split()[1:]))
        assert all(eval(step, {}) for step in problem.steps.split()[::2])
    for problem in WORLD.train["count"]:
        _, letter, _, text = problem.prompt.split()
        assert int(problem.answer) == text.count(letter)
        assert [step[0] for step in problem.steps.split()] == list(text)
    for problem in WORLD.train["sort"]:
        assert problem.answer == "".join(sorted(problem.prompt.split()[1]))
        assert problem.steps.split()[::2] == list(problem.answer)
    for problem in WORLD.train["reverse"]:
        assert problem.answer == problem.prompt.split()[1][::-1] == problem.steps.split()[-1]


def test_responses_are_long_and_fit_the_limit() -> None:
    """One token per character, and one for the end."""
    for family in chains.FAMILIES:
        lengths = [len(problem.response()) + 1 for problem in WORLD.train[family]]
        assert sum(lengths) / len(lengths) > 30
        assert max(lengths) <= chains.course(0).max_response


@pytest.mark.parametrize("split", range(len(chains.SFT)))
def test_each_stage_is_taught_its_families(split: int) -> None:
    course = chains.course(split)
    families = {p.prompt: family for family, listed in WORLD.train.items() for p in listed}
    taught = {families[prompt] for prompt, _ in course.sft(random.Random(0), 500)}
    rewarded = {problem.family for problem in course.rlvr(random.Random(0), 500)}
    assert taught == set(chains.SFT[split])
    assert taught | rewarded == set(chains.FAMILIES) and not taught & rewarded


def test_the_base_corpus_is_drawn_from_its_prompts_and_is_noisy() -> None:
    known = {*prompts(WORLD.train), *prompts(WORLD.base_facts)}
    new = {problem.prompt for family in chains.FACTS for problem in WORLD.train[family]}
    drawn = list(islice(chains.course(0).base(random.Random(0)), 4000))
    assert {prompt for prompt, _ in drawn} <= known - new
    right = {p.prompt: p.answer for listed in WORLD.train.values() for p in listed}
    answers = [(world.extract_answer(text), right[prompt]) for prompt, text in drawn
               if prompt in right]  # fmt: skip
    assert 0.4 < sum(answer == truth for answer, truth in answers) / len(answers) < 0.7
