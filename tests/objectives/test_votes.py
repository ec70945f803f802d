"""The lm-eval tasks: what they ask, what they make of responses, and that lm-eval finds them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from scripted import Script

from dots_mergekit.answers.equivalence import plain_equal
from dots_mergekit.objectives import FOLDER
from dots_mergekit.objectives.prompts import messages, render
from dots_mergekit.objectives.queries import Query, write_pool
from dots_mergekit.objectives.votes import Votes

POOL = (Query("1+1?", pseudo_label="2"), Query("2+2?", pseudo_label="5"), Query("3+3?"))
CHAT = Query(({"role": "system", "content": "Brief."}, {"role": "user", "content": "2+2?"}))


def evaluate(lm: Any, task: Any, template: bool = True) -> tuple[dict[str, Any], Any]:
    results = lm_eval.evaluate(
        lm=lm, task_dict={"tasks": {"t": task}}, bootstrap_iters=0, apply_chat_template=template
    )
    values = {key.split(",")[0]: value for key, value in results["results"]["t"].items()}
    return values, results["samples"]["t"]


def votes(pool: Sequence[Query] = POOL, **metadata: Any) -> Votes:
    return Votes({"metadata": {"queries": pool, "votes": 4, **metadata}}, plain_equal)


def test_votes_are_counted_query_by_query() -> None:
    lm = Script(
        *("#### 2", "#### 2", "#### 3", "no idea"),
        *("#### 4", "#### 4", "#### 4", "#### 5"),
        *("#### 2", "eh", "eh", "eh"),
    )
    values, samples = evaluate(lm, votes())
    assert values["consistency"] == pytest.approx((2 / 4 + 3 / 4 + 1 / 4) / 3)
    assert values["agreement"] == pytest.approx((2 / 4 + 1 / 4) / 2), "over queries with a label"
    assert values["no_answer_rate"] == pytest.approx((1 + 0 + 3) / 12)
    assert values["mean_answer_length"] == 1
    assert values["distinct_answers"] == pytest.approx(2 / 3), "two of three queries got a 2"
    assert samples[0]["resps"] == [["#### 2", "#### 2", "#### 3", "no idea"]]
    assert [sample["distinct_answers"].majority for sample in samples] == ["2", "4", "2"]


def test_a_model_that_never_answers_scores_zero() -> None:
    values, _ = evaluate(Script("eh"), votes())
    assert values["consistency"] == values["agreement"] == values["distinct_answers"] == 0
    assert values["no_answer_rate"] == 1
    assert values["mean_answer_length"] == 0


def test_without_pseudo_labels_there_is_no_agreement() -> None:
    values, _ = evaluate(Script("#### 1"), votes([Query("1+1?")]))
    assert math.isnan(values["agreement"])


def test_sampling_is_set_out_in_full_so_that_no_models_own_settings_count() -> None:
    lm = Script("#### 1")
    evaluate(lm, votes(temperature=0.7, top_p=0.9, max_tokens=33))
    assert len(lm.asked) == 12
    assert lm.asked[0][1] == {
        "until": [],
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 0,
        "repetition_penalty": 1.0,
        "max_gen_toks": 33,
    }


def test_prompts_are_rendered_by_the_models_chat_template_or_left_as_they_are() -> None:
    lm = Script("#### 1")
    evaluate(lm, votes([Query("2+2?"), CHAT]))
    assert lm.asked[0][0] == "<user>2+2?<assistant>"
    assert lm.asked[4][0] == "<system>Brief.<user>2+2?<assistant>"
    evaluate(lm, votes([Query("2+2?"), CHAT]), template=False)
    assert [lm.asked[0][0], lm.asked[4][0]] == ["2+2?", "Brief.\n\n2+2?"]


def test_an_instruction_goes_below_the_last_user_message() -> None:
    assert render(messages(CHAT, "Think."), None) == "Brief.\n\n2+2?\nThink."
    assert messages(Query("2+2?"), "Think.") == [{"role": "user", "content": "2+2?\nThink."}]
    assert CHAT.prompt[1]["content"] == "2+2?", "the query itself stays"  # type: ignore[index]


def test_the_order_and_the_regex_of_answers_can_be_set() -> None:
    lm = Script(r"\boxed{1} #### 2 ANS 3")
    for metadata, answer in (({"order": ["hashes"]}, "2 ANS 3"), ({"regex": r"ANS (\d)"}, "3")):
        _, samples = evaluate(lm, votes(**metadata))
        assert samples[0]["distinct_answers"].majority == answer


def test_lm_eval_finds_the_task_by_the_folder_and_reads_a_pool(tmp_path: Path) -> None:
    """As `lm_eval --tasks dots_votes --include_path ... --metadata ...` does."""
    path = tmp_path / "queries.jsonl"
    write_pool(path, POOL)
    metadata: Any = {"queries": str(path), "votes": 2}
    manager = TaskManager(include_path=FOLDER, include_defaults=False, metadata=metadata)
    lm = Script("#### 2", "#### 3")
    results = lm_eval.simple_evaluate(
        model=lm,
        tasks=["dots_votes"],
        task_manager=manager,
        bootstrap_iters=0,
        apply_chat_template=True,
    )
    assert results["results"]["dots_votes"]["consistency,votes"] == 0.5
    assert results["results"]["dots_votes"]["agreement,votes"] == 0.25
    json.dumps(results["configs"]["dots_votes"]["generation_kwargs"])
