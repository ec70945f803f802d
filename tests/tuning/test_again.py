"""A study is data: another rule chooses on what its points answered, and nothing is asked again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from searching import Quadratic, World

from dots_mergekit import Silent, analyze, choose
from dots_mergekit.answers.vote import Vote
from dots_mergekit.cli import tune as command
from dots_mergekit.errors import DotsError
from dots_mergekit.objectives.answered import Answered
from dots_mergekit.objectives.queries import Query
from dots_mergekit.objectives.scores import Scores
from dots_mergekit.recipe import Recipe
from dots_mergekit.tuning.again import choose_again, recorded
from dots_mergekit.tuning.seen import keep_seen, read_seen


class Answering(Quadratic):
    """Consistency falls with the first λ, agreement grows with it; all prompts are equally odd."""

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        first = next(iter(recipe.weights().values()))
        self._note(("score" if votes is None else "again", first, seed, votes))
        total = 100 * (votes or 7)
        agreed = round(total * (1 - first / 4))
        answered = [
            Answered(
                Vote(str(n), agreed / total, ((str(n), agreed), ("-1", total - agreed)), 0, total),
                agreement=first / 4,
                answer_length=1.0,
                tokens=total,
                truncated=0,
                losses={"perplexity": 1.0},
            )
            for n, _ in enumerate(queries)
        ]
        return Scores.of(answered, ("consistency", "perplexity"), {"seconds_generation": 1.0})


@pytest.fixture
def study(world: World) -> Path:
    recipe = world.recipe(objectives=["consistency", "perplexity"], pick="consistency")
    outcome = world.tune(recipe, scorer=Answering)
    assert outcome.choice.point.weights["sft"] == 0.5
    return outcome.folder


def test_a_rule_over_what_was_not_asked_for_chooses_from_the_answers(study: Path) -> None:
    before = {path: path.read_bytes() for path in (study / "trials").iterdir()}
    outcome = choose_again(study, "agreement")
    assert outcome.choice.point.weights["sft"] == 2.0
    assert outcome.choice.scores.objectives["agreement"] == 0.5
    assert outcome.best.weights() == outcome.choice.point.weights
    assert "the highest agreement" in (study / "best.yml").read_text()
    assert {path: path.read_bytes() for path in (study / "trials").iterdir()} == before
    assert outcome.costs["search"].tokens == 8 * 8 * 700, "nothing was asked again"


def test_the_first_choice_comes_back(study: Path) -> None:
    first = (study / "best.yml").read_text()
    choose_again(study, "agreement")
    choose_again(study, "consistency")
    assert (study / "best.yml").read_text() == first


def test_a_choice_that_answered_once_only_says_so(study: Path) -> None:
    (note,) = choose_again(study, "agreement").notes
    assert "answered once only" in note
    assert choose_again(study, "consistency").notes == []


def test_the_search_goes_on_afterwards(study: Path, world: World) -> None:
    choose_again(study, "agreement")
    recipe = recorded(study).recipe
    outcome = world.tune(recipe, scorer=Answering, overrides={"trials": 9})
    assert len(outcome.trials) == 9
    assert outcome.choice.point.weights["sft"] == 0.5


def test_settings_are_read_as_they_were(world: World) -> None:
    recipe = world.recipe(density=[0.3, 0.5], weight={"sft": [0.1, 1]}, order=["boxed"])
    outcome = world.tune(recipe, overrides={"trials": 5, "votes": 3})
    kept = recorded(outcome.folder)
    assert kept.settings == outcome.settings
    assert kept.recipe.text == recipe.text


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    vote = Vote("1\u2028\n½", 0.5, (("1\u2028\n½", 1),), 1, 2)
    answered = [
        Answered(vote, None, None, 3, 1, {"perplexity": None}),
        Answered(vote, 0.1, 2.5, 0, 0),
    ]
    keep_seen(tmp_path, 7, answered)
    assert read_seen(tmp_path, 7) == answered
    keep_seen(tmp_path, 7, [answered[1]], again=True)
    assert read_seen(tmp_path, 7, again=True) == [answered[1]]
    keep_seen(tmp_path, 8, [])
    assert not (tmp_path / "votes" / "0008.jsonl").exists()


def spoil(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoiled(study: Path) -> None:
        for path in (study / "votes").iterdir():
            change(path)

    return spoiled


def edit_settings(study: Path) -> None:
    record = json.loads((study / "study.json").read_text())
    record["settings"]["trials"] = "many"
    (study / "study.json").write_text(json.dumps(record))


WRONG: Mapping[str, tuple[Callable[[Path], object], str, str]] = {
    "no such rule": (lambda study: None, "agreemnt", "did you mean `agreement`"),
    "no study": (lambda study: (study / "study.json").unlink(), "agreement", "there is no study"),
    "no answers": (spoil(Path.unlink), "agreement", "0000.jsonl"),
    "answers that are none": (
        spoil(lambda path: path.write_text('{"vote": 3}\n')),
        "agreement",
        "cannot be read as what a trial answered",
    ),
    "answers that are no numbers": (
        spoil(lambda path: path.write_text(path.read_text().replace("0.5", '"half"'))),
        "agreement",
        "cannot be read as what a trial answered",
    ),
    "no settings": (edit_settings, "agreement", "does not hold the settings of a search"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_and_the_choice_stays(
    case: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, rule, said = WRONG[case]
    before = (study / "best.yml").read_bytes()
    change(study)
    assert command.main(["--choose", rule, "--out", str(study), "-q"]) == 2
    assert said in capsys.readouterr().err
    assert (study / "best.yml").read_bytes() == before


def test_an_objective_that_takes_the_model_is_refused(world: World) -> None:
    folder = world.tune(world.recipe()).folder
    with pytest.raises(DotsError, match="takes the model itself"):
        choose_again(folder, "perplexity-within")


class Supported(Answering):
    """Support is largest at λ = (1, 1); of those that are asked, the farther answer more alike."""

    def score(
        self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
    ) -> Scores:
        away = math.dist(recipe.weights().values(), (1, 1))
        losses = {"support of sft": 0.1 + away / 100, "support of rlvr": 2.0}
        total = 10_000 if votes else 0
        alike = round(total * min(1, 0.5 + away / 4))
        share = alike / max(1, total)
        counted = Vote("a", share, (("a", alike), ("b", total - alike)), 0, total)
        shown = [replace(counted, majority=f"a{n}") for n in range(len(queries))]
        answered = [Answered(one, share, 1.0, 9, 0, losses) for one in shown]
        self.log.append((votes, away))
        return Scores.of(answered, ("support", "weakest_support"))


def test_where_trials_need_no_answers_votes_are_added_for_the_best_few(world: World) -> None:
    scorer = Supported()
    recipe = world.recipe(objectives=["support", "weakest_support"], trials=30)
    outcome = world.tune(recipe, scorer=lambda: scorer)
    assert outcome.settings.queries.selection == "random"
    asked = [votes for votes, *_ in scorer.log if isinstance(votes, int)]
    assert asked == [2] * 4, "four of them, twice each query"
    names = {"support", "weakest_support", "consistency", "agreement"}
    assert all(set(again.objectives) == names for again in outcome.confirmed.values())
    points = [outcome.trials[number].point.weights for number in outcome.confirmed]
    for index, point in enumerate(points):
        for other in points[:index]:
            assert max(abs(point[name] - other[name]) for name in point) >= 0.15 - 1e-9
    farthest = max(outcome.confirmed, key=lambda n: math.dist(
        outcome.trials[n].point.weights.values(), (1, 1)))  # fmt: skip
    assert outcome.choice.number == farthest
    assert choose_again(outcome.folder, "support").choice.number == farthest


def test_votes_that_were_not_counted_are_refused(world: World) -> None:
    class Reading(Answering):
        def score(
            self, recipe: Recipe, queries: Sequence[Query], *, seed: int, votes: int | None = None
        ) -> Scores:
            loss = next(iter(recipe.weights().values()))
            losses = {"support of sft": loss, "support of rlvr": 1.0}
            nothing = Answered(Vote(None, 0.0, (), 0, 0), None, None, 0, 0, losses)
            return Scores.of([nothing] * len(queries), ("support", "weakest_support"))

    recipe = world.recipe(objectives=["support", "weakest_support"], confirm=0)
    outcome = world.tune(recipe, scorer=Reading)
    assert outcome.settings.pick == "support", "the rule where nothing is said"
    assert outcome.choice.point.weights["sft"] == 0.5
    assert outcome.costs["search"].tokens == 0
    assert choose_again(outcome.folder, "knee").choice.scores.objectives["support"] > 0
    with pytest.raises(DotsError, match="takes the model itself"):
        choose_again(outcome.folder, "consistency")


def test_choosing_again_writes_the_report_and_merges(study: Path, tmp_path: Path) -> None:
    outcome = choose(study, pick="agreement", merge=tmp_path / "merged")
    assert "agreement" in (study / "report.md").read_text()
    assert (tmp_path / "merged" / "model.safetensors").exists()
    assert replace(outcome, notes=[]).choice.number == outcome.choice.number


def test_the_report_shows_an_analysis_of_the_same_models_that_lies_in_the_study(
    study: Path, models: Path
) -> None:
    shown = "![analysis/conflict.png](analysis/conflict.png)"
    (study / "analysis").mkdir()
    (study / "analysis/analysis.json").write_text("[]")
    choose(study, pick="agreement")
    assert shown not in (study / "report.md").read_text()
    analyze(study / "recipe.yml", out=study / "analysis", progress=Silent())
    outcome = choose(study, pick="agreement")
    assert shown in (study / "report.md").read_text()
    assert "(analysis/" not in outcome._repr_markdown_()
    analyze(base=models / "base", model=models / "sft", out=study / "analysis", progress=Silent())
    choose(study, pick="agreement")
    assert "(analysis/" not in (study / "report.md").read_text()


@pytest.mark.parametrize("beside", [["--recipe", "r.yml"], ["--trials", "3"], ["--dry-run"]])
def test_beside_choose_there_are_no_settings(
    beside: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--choose", "knee", *beside])
    assert f"not {beside[0]}" in capsys.readouterr().err
