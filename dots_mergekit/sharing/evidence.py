"""What a study says of a merge, as sections of its card."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import read_bytes, read_text
from dots_mergekit.messages import markdown_table
from dots_mergekit.objectives.queries import read_pool
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import recognize
from dots_mergekit.sharing.sources import on_disk
from dots_mergekit.tuning.again import Recorded, recorded
from dots_mergekit.tuning.choice import RULES
from dots_mergekit.tuning.study import BEST, POOL, TABLE, VOTES
from dots_mergekit.tuning.votes import SourceVotes

__all__ = ["PICTURES", "QUERIES", "queries_section", "search_section", "spelled"]

PICTURES = {"dots_front.png": "front.png", "dots_weights.png": "weights.png"}
"""The pictures of a card, and what they are called in a study."""

QUERIES = "dots_queries.jsonl"
"""The queries of a study beside its card, where they are to be shared."""

_TITLES = {"dots_front.png": "the front", "dots_weights.png": "the scores over λ"}


def search_section(study: Path, recipe: Recipe, pictures: Sequence[str]) -> str:
    """Say how λ were found: the front, the pictures, the cost.

    Args:
        study: Its folder.
        recipe: What was merged, its models where they are on this machine.
        pictures: Names of `PICTURES` that lie beside the card.

    Raises:
        DotsError: There is no study, it cannot be read, or its choice is another merge.
    """
    found = recorded(study)
    _require_of(study, recipe)
    settings = found.settings
    rows = _trials(study)
    directions = ", ".join(f"{name} ({how}d)" for name, how in settings.directions.items())
    front = [row for row in rows if row["front"] == "1"]
    weights = [name for name in settings.weights if name in (front or rows)[0]]
    head = ("trial", *weights, *settings.objectives)
    table = [
        (row["trial"], *(f"{float(row[name]):.3f}" for name in (*weights, *settings.objectives)))
        for row in front
    ]
    shown = [f"![{_TITLES[name]}]({name})" for name in pictures]
    pick = RULES[settings.pick]
    blocks = [
        "## How λ were found",
        f"`dots-tune` scored {len(rows)} points (sampler `{settings.sampler}`, seed "
        f"{settings.seed}) by {directions}; no label was seen. The chosen one has {pick.says} "
        f"(`{settings.pick}`). These are the points that no other one beats in everything:",
        markdown_table(head, table, numbers=True),
        *shown,
        _cost(study, rows, found),
    ]
    return "\n\n".join(blocks)


def queries_section(study: Path, *, texts: bool) -> str:
    """Say what the search asked: source, number, hash, how it was selected; not the texts."""
    settings = recorded(study).settings.queries
    pool = read_pool(study / POOL)
    digest = hashlib.sha256(read_bytes(study / POOL)).hexdigest()
    source = Path(settings.source).name if Path(settings.source).exists() else settings.source
    hard = [query.difficulty for query in pool if query.difficulty is not None]
    spread = ""
    if hard:
        spread = (
            f" Difficulty (1 − the sources' mean consistency): mean {sum(hard) / len(hard):.2f}, "
            f"from {min(hard):.2f} to {max(hard):.2f}."
        )
    where = f" They are in [`{QUERIES}`]({QUERIES})." if texts else ""
    return (
        f"## The queries\n\n{len(pool)} queries of `{source}`, selected by "
        f"`{settings.selection}`, without answers; SHA-256 of the pool `{digest}`.{spread}{where}"
    )


def _require_of(study: Path, recipe: Recipe) -> None:
    best = Recipe.load(study / BEST)
    if recognize(on_disk(best)) != recognize(recipe):
        raise DotsError(
            f"{study / BEST} is not what was merged: it has λ {spelled(best)}, the merge has "
            f"{spelled(recipe, like=best)}, or other models; merge it, or name the study of this "
            "merge"
        )


def spelled(recipe: Recipe, *, like: Recipe | None = None) -> str:
    """Spell the λ of a recipe, with the names that another one of the same models has."""
    names, values = list((like or recipe).weights()), recipe.weights()
    if len(names) != len(values):
        names = list(values)
    return ", ".join(f"{a} {b:.4g}" for a, b in zip(names, values.values(), strict=True))


def _trials(study: Path) -> list[dict[str, str]]:
    """Read the table of trials, whose columns `tuning.outputs` names.

    Raises:
        DotsError: There is none, or it is another table.
    """
    rows = list(csv.DictReader(io.StringIO(read_text(study / TABLE), newline="")))
    if not rows or not {"trial", "front", "seconds"} <= rows[0].keys():
        raise DotsError(f"{study / TABLE} is no table of trials; search on, and it is written anew")
    return rows


def _cost(study: Path, rows: Sequence[Mapping[str, str]], found: Recorded) -> str:
    own = [row for row in rows if not row["same_as"]]
    tokens = sum(float(row.get("tokens") or 0) for row in own)
    seconds = sum(float(row["seconds"]) for row in own)
    text = f"The trials took {seconds:,.0f} s of scoring and {tokens:,.0f} generated tokens"
    polls = SourceVotes(study / VOTES).polls.values()
    if polls:
        asked = sum(poll.tokens or 0 for poll in polls)
        text += (
            f", asking the sources {sum(poll.seconds for poll in polls):,.0f} s and {asked:,.0f}"
        )
    return f"{text}, on the backend `{found.backend}`."
