"""Recorded worlds: what is read from them is what the package would have said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import record
import worlds
from hypothesis import given
from hypothesis import strategies as st
from measure import recipe_of
from sampling import likelihoods, respond
from subjects import SUBJECTS, Subject

from dots_mergekit.answers.equivalence import plain_equal
from dots_mergekit.answers.vote import majority_vote
from dots_mergekit.backends.huggingface_lm import load_checkpoint
from dots_mergekit.objectives.harness import LmEvalScorer
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Generation
from dots_mergekit.tuning.pool import PoolSettings, select_pool

CHECKPOINTS = Path(__file__).resolve().parents[2] / "examples" / "arithmetic" / "checkpoints"
QUERIES, VOTES = 10, 4


def small() -> Subject:
    """The arithmetic world with few questions and few points."""
    whole = SUBJECTS["arithmetic"]()
    return Subject(
        queries=whole.queries,
        tests=whole.tests[::60],
        extract_answer=whole.extract_answer,
        max_tokens=17,  # so that some responses have no end
        weights_sft=(0.5, 2.0),
        weights_rlvr=(2.0,),
        densities=(0.3,),
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> worlds.World:
    """A small world, recorded and read."""
    folder = tmp_path_factory.mktemp("recorded")
    arguments = ["--world", "small", "--triple", str(CHECKPOINTS), "--name", "small"]
    arguments += ["--work", str(folder / "work")]
    arguments += ["--queries", str(QUERIES), "--votes", str(VOTES)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["record.py", *arguments])
        patch.setattr(record, "RECORDED", folder)
        patch.setitem(SUBJECTS, "small", small)
        record.main()
    return worlds.read(folder / "small.parquet")


@pytest.fixture(scope="module")
def bench() -> record.Bench:
    return record.Bench(small(), CHECKPOINTS, QUERIES, VOTES)


def test_shapes(recorded: worlds.World) -> None:
    points = [(0, 0, 1), (1, 0, 0.3), (0, 1, 0.3), (0.5, 2, 0.3), (2, 2, 0.3)]
    assert recorded.places.tolist() == [list(map(float, place)) for place in points]
    assert recorded.grid.tolist() == [3, 4]
    assert recorded.point(0, 1, 0.3) == 2
    with pytest.raises(ValueError, match=r"small has no point \(7, 1; 0.3\)"):
        recorded.point(7, 1, 0.3)
    shape = (5, QUERIES, VOTES)
    votes = (recorded.answers, recorded.tokens, recorded.ended, recorded.loss)
    assert {array.shape for array in votes} == {shape}
    assert recorded.prompt_loss.shape == shape[:2]
    assert recorded.kept_loss.shape == (5, len(recorded.kept), 4)
    assert recorded.accuracy.shape == (5, 8)
    assert recorded.right.shape == (5, len(recorded.tests)) == (5, 20)


def test_a_record_is_of_the_responses_that_were_given(
    recorded: worlds.World, bench: record.Bench
) -> None:
    said = bench.respond((2.0, 2.0, 0.3), 4)
    tokens = [sorted(response.tokens for response in group) for group in said]
    assert np.sort(recorded.tokens[4], -1).tolist() == tokens
    losses = [sorted(-response.log_likelihood for response in group) for group in said]
    assert np.sort(recorded.loss[4], -1) == pytest.approx(np.array(losses), rel=1e-3, abs=1e-6)
    assert not recorded.ended.all() and recorded.ended.any()


def test_a_recording_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    record.require_same(tmp_path / "settings.json", {"votes": 4})
    record.require_same(tmp_path / "settings.json", {"votes": 4})
    with pytest.raises(SystemExit, match="other settings"):
        record.require_same(tmp_path / "settings.json", {"votes": 5})


@pytest.mark.parametrize("point", [2, 3, 4])
def test_scores_are_those_of_the_packages_scorer(
    recorded: worlds.World, bench: record.Bench, point: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same responses: the package generates, and is told what the record holds."""
    numbers = np.arange(QUERIES)
    everything = np.tile(np.arange(VOTES), (QUERIES, 1))
    polls = [recorded.answers[1], recorded.answers[2]]
    labels, difficulty = worlds.pseudo_labels(polls)
    asked = [Query(prompt) for prompt in recorded.queries]
    given = {
        name: worlds.votes(recorded, numbers, poll)
        for name, poll in zip(("sft", "rlvr"), polls, strict=True)
    }
    pool = select_pool(asked, given, PoolSettings(source="-", selection="random"))
    spelled = [
        recorded.spellings[query][label] if label >= 0 else None
        for query, label in enumerate(labels)
    ]
    assert [query.pseudo_label for query in pool] == spelled
    assert [query.difficulty for query in pool] == pytest.approx(difficulty)

    place = recorded.places[point].tolist()
    said = bench.respond(place, point)
    found = worlds.scores(recorded, point, numbers, everything, labels)
    left = {prompt: list(group) for prompt, group in zip(bench._prompts, said, strict=True)}

    def generate_until(requests: list[Any], **_: Any) -> list[str]:
        given = [left[request.args[0]].pop() for request in requests]
        bench._lm._count([one.tokens for one in given], [one.ended for one in given])
        for request, one in zip(requests, given, strict=True):
            bench._lm.cache_hook.add_partial("generate_until", request.args, one.text)
        return [one.text for one in given]

    monkeypatch.setattr(bench._lm, "generate_until", generate_until)
    generation = Generation(votes=VOTES, max_tokens=17)
    with LmEvalScorer(bench._model, generation, list(found.objectives)) as scorer:
        expected = scorer.score(recipe_of(CHECKPOINTS, *place), pool, seed=0)
    # In bfloat16 a likelihood depends a little on what is computed beside it.
    assert found.objectives == pytest.approx(dict(expected.objectives), rel=0.01)
    for name in ("consistency", "agreement"):
        assert found.objectives[name] == pytest.approx(expected.objectives[name])
    for name in ("no_answer_rate", "distinct_answers", "truncation_rate", "tokens"):
        assert found.details[name] == pytest.approx(expected.details[name])


def test_the_sources_own_responses_are_kept(recorded: worlds.World, bench: record.Bench) -> None:
    for name, point in (("sft", 1), ("rlvr", 2)):
        winners, _ = worlds.majorities(recorded.answers[point])
        for query, number in enumerate(recorded.sources[name][:, 0, 0]):
            assert (number >= 0) == (winners[query] >= 0)
            if number >= 0:
                one = recorded.kept[number]
                assert one["query"] == query
                assert recorded.spellings[query][winners[query]] in one["text"]
                shortest = recorded.kept[recorded.sources[name][query, 0, 1]]
                assert shortest["tokens"] <= one["tokens"]


def test_likelihoods_of_prefixes_add_up(recorded: worlds.World) -> None:
    """What is longer is less likely; what is short is all of it."""
    first, second, text, whole = np.moveaxis(recorded.kept_loss.astype(float), -1, 0)
    assert (first <= second + 1e-3).all() and (second <= whole * 1.001 + 1e-3).all()
    assert (text <= whole + 1e-3).all()
    short = np.array([one["tokens"] <= 16 for one in recorded.kept])
    assert short.any() and (first[:, short] == whole[:, short]).all()
    cut = np.array([not one["ended"] for one in recorded.kept])
    assert (text[:, cut] == whole[:, cut]).all()


def test_votes_are_seen_without_replacement(recorded: worlds.World) -> None:
    order = worlds.shuffle(recorded, 3)
    assert order.shape == recorded.answers.shape
    assert (np.sort(order, -1) == np.arange(VOTES)).all()
    assert (order == worlds.shuffle(recorded, 3)).all()
    assert (order != worlds.shuffle(recorded, 4)).any()


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=9))
def test_majorities_are_the_packages(row: list[int]) -> None:
    vote = majority_vote([None if n < 0 else str(n) for n in row], plain_equal)
    winner, share = worlds.majorities(np.array([row]))
    assert winner[0] == (-1 if vote.majority is None else int(vote.majority))
    assert share[0] == pytest.approx(vote.share)


def test_queries_without_a_label_do_not_count_for_agreement() -> None:
    answers = np.array([[0, 0, 1, -1], [2, 2, 2, 2]])
    assert worlds.agreements(answers, np.array([0, -1])) == 0.5
    assert np.isnan(worlds.agreements(answers, np.array([-1, -1])))


@pytest.fixture(scope="module")
def exact() -> Any:
    """A shipped checkpoint in float32, where nothing depends on what is computed beside it."""
    lm = load_checkpoint(str(CHECKPOINTS / "rlvr"), device="cpu", batch_size=4)
    lm.model.float()
    return lm


def _chats(lm: Any) -> list[str]:
    lines = (CHECKPOINTS.parent / "queries.jsonl").read_text(encoding="utf-8").splitlines()[:24]
    chats = ([{"role": "user", "content": json.loads(line)["prompt"]}] for line in lines)
    return [lm.apply_chat_template(chat) for chat in chats]


def test_greedy_responses_are_those_of_the_model_alone(exact: Any) -> None:
    """Neither the padding nor the responses that leave the batch change one."""
    import torch

    chats = _chats(exact)
    found = respond(exact, chats, count=2, max_tokens=30, temperature=0, rows=16)
    for chat, (first, second) in zip(chats, found, strict=True):
        ids = torch.tensor([exact.tok_encode(chat)])
        said = exact.model.generate(ids, max_new_tokens=30, do_sample=False)[0, ids.shape[1] :]
        assert first == second
        assert first.text == exact.tokenizer.decode(said, skip_special_tokens=True)
        assert first.tokens == len(said)
        assert first.ended == (said[-1] == exact.eot_token_id)


def test_likelihoods_are_those_of_lm_eval(exact: Any) -> None:
    from lm_eval.api.instance import Instance

    chats = _chats(exact)
    said = respond(exact, chats, count=1, max_tokens=30, temperature=0.6, seed=1)
    pairs = [(chat, group[0].text) for chat, group in zip(chats, said, strict=True)]
    pairs += [("", chat) for chat in chats]
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    expected = [value for value, _ in exact.loglikelihood(requests, disable_tqdm=True)]
    found = [sum(tokens) for tokens in likelihoods(exact, pairs, end=False)]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    drawn = [group[0].log_likelihood for group in said]
    assert drawn == pytest.approx(expected[: len(said)], rel=1e-4, abs=1e-4)


def test_responses_depend_on_the_seed_alone(exact: Any) -> None:
    chats = _chats(exact)[:4]
    first, again, other = (
        respond(exact, chats, count=5, max_tokens=30, temperature=0.6, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
