"""The scorer: the same scores for the same arguments, numbers that add up, clear refusals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_checkpoint
from pydantic import ValidationError
from scripted import Script
from transformers import AutoModelForCausalLM, AutoTokenizer

from dots_mergekit.backends.huggingface_lm import HuggingFaceLM
from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.harness import LmEvalScorer
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Generation, Scorer, Scores, SwappableModel
from dots_mergekit.recipe import Recipe
from dots_mergekit.schema import problems

ALL = ("consistency", "agreement", "perplexity", "response_perplexity")
SHORT = Generation(votes=3, temperature=2.0, max_tokens=16, batch_size=8)
POOL = [
    Query("1+1?", pseudo_label="2"),
    Query("what is the town of zorin?", pseudo_label="esker"),
    Query(({"role": "system", "content": "Hi"}, {"role": "user", "content": "2+2?"})),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models are no faster on several threads, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe(name: str) -> Recipe:
    return Recipe(f"merge_method: {name}")


class Fixed:
    """One model for every recipe."""

    def __init__(self, lm: Any) -> None:
        self.lm = lm
        self.used: list[Recipe] = []

    def use(self, recipe: Recipe) -> None:
        self.used.append(recipe)


class Shifted:
    """A Hugging Face model whose weights are those of a checkpoint plus a little of the recipe."""

    def __init__(self, path: Path) -> None:
        model: Any = AutoModelForCausalLM.from_pretrained(path)
        tokenizer = AutoTokenizer.from_pretrained(path)
        self.lm = HuggingFaceLM(pretrained=model, tokenizer=tokenizer, batch_size=8)
        self._start = {name: p.clone() for name, p in model.named_parameters()}

    def use(self, recipe: Recipe) -> None:
        generator = torch.Generator().manual_seed(len(recipe.text))
        with torch.no_grad():
            for name, parameter in self.lm.model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(self._start[name] + 0.05 * noise.to(parameter.dtype))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> SwappableModel:
    path = write_checkpoint(tmp_path_factory.mktemp("model") / "m", num_hidden_layers=1)
    return Shifted(path)


def scorer(
    model: SwappableModel, objectives: Sequence[str] = ALL, generation: Generation = SHORT
) -> LmEvalScorer:
    return LmEvalScorer(model, generation, objectives)


def test_scores_depend_on_their_arguments_and_not_on_what_ran_before(real: SwappableModel) -> None:
    made: Scorer = scorer(real)
    first = made.score(recipe("a"), POOL, seed=1).objectives
    other = made.score(recipe("other"), POOL, seed=1).objectives
    reseeded = made.score(recipe("a"), POOL, seed=2).objectives
    torch.manual_seed(1234)
    made.votes(recipe("bc"), POOL, 2, seed=1)
    assert made.score(recipe("a"), POOL, seed=1).objectives == first
    assert scorer(real).score(recipe("a"), POOL, seed=1).objectives == first
    assert other["perplexity"] != first["perplexity"] == reseeded["perplexity"]
    assert reseeded["response_perplexity"] != first["response_perplexity"]


def test_scoring_leaves_the_random_numbers_of_others_alone(real: SwappableModel) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    scorer(real).score(recipe("a"), POOL, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_scoring_prints_nothing(real: SwappableModel, capfd: pytest.CaptureFixture[str]) -> None:
    scorer(real).score(recipe("a"), POOL, seed=1)
    assert capfd.readouterr() == ("", "")


def test_perplexities_are_those_of_the_models_own_token_losses(real: SwappableModel) -> None:
    """Recomputed with transformers alone, one text at a time."""
    made = scorer(real)
    found = made.score(recipe("a"), POOL, seed=1)
    lm = real.lm
    sampled = made._sample(POOL, SHORT.votes, 1)

    def loss(context: str, text: str) -> float:
        tokens = lm.tokenizer(context + text, return_tensors="pt").input_ids
        start = lm.tokenizer(context, return_tensors="pt").input_ids.shape[1] if context else 0
        if not context:
            tokens = torch.cat([torch.tensor([[lm.prefix_token_id]]), tokens], dim=1)
            start = 1
        with torch.no_grad():
            logs = lm.model(tokens).logits.float().log_softmax(-1)[0, start - 1 : -1]
        return float(-logs.gather(1, tokens[0, start:, None]).mean())

    prompt = math.exp(sum(loss("", text) for text in sampled.prompts) / len(POOL))
    means = [
        sum(loss(text, response) for response in group) / len(group)
        for text, group in zip(sampled.prompts, sampled.responses, strict=True)
    ]
    response = math.exp(sum(means) / len(means))
    assert found.objectives["perplexity"] == pytest.approx(prompt, rel=1e-2)
    assert found.objectives["response_perplexity"] == pytest.approx(response, rel=1e-2)


def test_details_say_what_it_took(real: SwappableModel) -> None:
    details = scorer(real).score(recipe("a"), POOL, seed=1).details
    assert set(details) == {
        "no_answer_rate",
        "distinct_answers",
        "mean_answer_length",
        "truncation_rate",
        "tokens",
        "seconds_swap",
        "seconds_generation",
        "seconds_perplexity",
    }
    assert details["no_answer_rate"] == 1, "random weights answer nothing"
    assert 0 < details["tokens"] <= 3 * 3 * 16
    assert 0 <= details["truncation_rate"] <= 1
    assert details["seconds_generation"] > 0
    assert all(math.isfinite(value) for value in details.values())


def test_objectives_are_those_asked_for_and_votes_may_be_more() -> None:
    lm = Script("#### 2", "#### 2", "#### 3")
    model = Fixed(lm)
    made = scorer(model, ["consistency", "agreement"])
    found = made.score(recipe("a"), POOL, seed=1)
    assert found.objectives == {
        "consistency": pytest.approx(2 / 3),
        "agreement": pytest.approx((2 / 3 + 0) / 2),
    }
    assert len(lm.asked) == 3 * 3
    assert made.score(recipe("a"), POOL, seed=1, votes=12) != found
    assert len(lm.asked) == 3 * 12
    assert model.used == [recipe("a"), recipe("a")]


SPOKEN = [
    Query("1+1?", responses={"sft": ["#### 2"], "rlvr": ["1+1=2 #### 2", "#### 2"]}),
    Query("2+2?", responses={"rlvr": ["2+2=4 #### 4"]}),
    Query("3+3?"),
]


def test_support_is_the_probability_of_the_sources_own_responses(real: SwappableModel) -> None:
    """Recomputed with transformers alone, one text at a time; nothing is generated."""
    made = scorer(real, ["support", "weakest_support"])
    found = made.score(recipe("a"), SPOKEN, seed=1)
    lm = real.lm

    def probability(question: str, response: str) -> float:
        chat = [{"role": "user", "content": question}]
        prompt = lm.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        start = lm.tokenizer(prompt, return_tensors="pt").input_ids.shape[1]
        tokens = lm.tokenizer(prompt + response, return_tensors="pt").input_ids
        with torch.no_grad():
            logs = lm.model(tokens).logits.float().log_softmax(-1)[0, start - 1 : -1]
        return math.exp(float(logs.gather(1, tokens[0, start:, None]).sum()))

    short, long = probability("1+1?", "#### 2"), probability("1+1?", "1+1=2 #### 2")
    other = probability("2+2?", "2+2=4 #### 4")
    assert found.objectives["support"] == pytest.approx((short + long + other) / 3, rel=0.05)
    assert found.objectives["weakest_support"] == pytest.approx(short / 3, rel=0.05)
    assert found.details["tokens"] == 0
    assert "no_answer_rate" not in found.details
    names = {"support of sft", "support of rlvr"}
    assert [set(one.losses) for one in found.answered] == [names] * 3
    assert found.answered[2].losses == {"support of sft": None, "support of rlvr": None}


def test_support_with_votes_asked_for_has_both() -> None:
    """As for a second look, which must see whether the merge still answers."""
    lm = Script("#### 1", "#### 2", "#### 3")
    found = scorer(Fixed(lm), ["support", "weakest_support"]).score(
        recipe("a"), SPOKEN, seed=1, votes=2
    )
    assert found.objectives["weakest_support"] == pytest.approx(math.exp(-12) / 3)
    assert found.details["no_answer_rate"] == 0
    assert found.details["tokens"] == 3 * 2 * 7


def test_support_without_responses_is_refused() -> None:
    made = scorer(Fixed(Script("#### 1")), ["support", "perplexity"])
    with pytest.raises(DotsError, match="needs responses of the source models"):
        made.score(recipe("a"), POOL, seed=1)


def test_a_poll_tells_the_responses_behind_each_majority() -> None:
    """The first and the shortest with that answer, whatever else was said."""
    lm = Script(
        "so #### 1", "#### 2", "or #### 2", "...", "...", "...", "so #### 9", "#### 9.0", "9"
    )
    poll = scorer(Fixed(lm)).votes(recipe("a"), POOL, 3, seed=0)
    assert [vote.majority for vote in poll.votes] == ["2", None, "9"]
    assert poll.responses == [("#### 2",), (), ("so #### 9", "#### 9.0")]


def test_votes_come_in_the_order_of_the_queries() -> None:
    lm = Script("#### 1", "#### 2", "#### 3")
    poll = scorer(Fixed(lm)).votes(recipe("a"), POOL, 1, seed=0)
    assert [vote.majority for vote in poll.votes] == ["1", "2", "3"]
    assert poll.tokens == 3 * 7, "six letters and the end, three times"


def test_a_backend_that_does_not_count_is_counted_by_its_texts() -> None:
    """16 letters are as many tokens as may be: cut off. 6 letters and the end are 7 tokens."""
    lm = Script("#### 1", "#### 1", "x" * 16)
    details = scorer(Fixed(lm), ["consistency"]).score(recipe("a"), POOL, seed=1).details
    assert details["truncation_rate"] == pytest.approx(1 / 3)
    assert details["tokens"] == 3 * (7 + 7 + 16)


def test_the_script_model_has_the_perplexity_it_says() -> None:
    """Minus two for each token: e² for any text."""
    for template in ("chat", None):
        made = scorer(Fixed(Script("#### 1", "", "no", template=template)))
        found = made.score(recipe("a"), POOL, seed=1).objectives
        assert found["perplexity"] == pytest.approx(math.exp(2))
        assert found["response_perplexity"] == pytest.approx(math.exp(2))


def test_a_model_that_says_nothing_has_no_finite_response_perplexity() -> None:
    made = scorer(Fixed(Script("")), ["consistency", "response_perplexity"])
    found = made.score(recipe("a"), POOL, seed=1)
    assert found.objectives == {"consistency": 0.0, "response_perplexity": math.inf}


def test_a_limit_that_does_not_fit_into_the_context_is_refused(real: SwappableModel) -> None:
    made = scorer(real, generation=Generation(max_tokens=8192))
    with pytest.raises(DotsError, match=r"holds 128: set `max_tokens` to at most \d+"):
        made.score(recipe("a"), POOL, seed=1)
    with pytest.raises(DotsError, match="leave that query out"):
        scorer(real).votes(recipe("a"), [Query("x" * 200)], 1, seed=1)


def test_agreement_without_a_pseudo_label_is_refused() -> None:
    made = scorer(Fixed(Script("#### 1")))
    with pytest.raises(DotsError, match="`agreement` needs pseudo-labels"):
        made.score(recipe("a"), [Query("1+1?")], seed=1)


def test_an_objective_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DotsError, match="no objective `accuracy`; there are: consistency"):
        scorer(Fixed(Script("")), ["accuracy"])


@pytest.mark.parametrize(
    "settings",
    [
        {"votes": 0},
        {"votes": 1.5},
        {"temperature": 0},
        {"temperature": math.nan},
        {"top_p": 1.5},
        {"max_tokens": True},
        {"batch_size": "auto"},
        {"instruction": 5},
        {"order": []},
        {"order": ["boxes"]},
        {"order": "boxed"},
        {"regex": "("},
        {"regex": "no group"},
        {"regex": 5},
    ],
)
def test_sampling_that_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    """In words, at its place, with what was found there."""
    with pytest.raises(ValidationError) as refused:
        Generation.model_validate(settings)
    ((place, message),) = problems(refused.value, Generation, settings)
    ((name, value),) = settings.items()
    assert place[0] == name
    assert "needed" in message or "unknown place of answers `boxes`; did you mean" in message
    assert repr(value) in message or "boxes" in message


def test_scores_are_plain_records() -> None:
    assert Scores({"consistency": 1.0}, {}) == Scores({"consistency": 1.0}, {})
