"""What somebody's merge lacks to be known, trusted, run and made again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from dots_mergekit.checking import Finding, Findings
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, is_folder
from dots_mergekit.messages import first_line
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import RECORD
from dots_mergekit.sharing.card import has_template, read_card
from dots_mergekit.sharing.hashes import file_hash
from dots_mergekit.sharing.hub import download
from dots_mergekit.sharing.privacy import find_leaks
from dots_mergekit.sharing.record import RECIPE, read_merge_record
from dots_mergekit.sharing.share import to_upload
from dots_mergekit.sharing.sources import CARD, named_models

__all__ = ["review"]


def review(model: str) -> Findings:
    """Look at a merge as one who finds it would.

    Args:
        model: Its folder, or `user/name` on the Hub.

    Returns:
        What is wrong or missing, the gravest first.

    Raises:
        DotsError: There is no such model.
    """
    folder = Path(model) if is_folder(model) else download(model)
    return Findings([*_card(folder), *_recipe(folder), *_weights(folder), *_private(folder, model)])


def _card(folder: Path) -> Iterator[Finding]:
    text = read_card(folder)
    if not text:
        yield Finding("error", f"there is no card ({CARD})")
        return
    try:
        card: Any = ModelCard(text)
    except Exception as error:  # of YAML, and of the values in it
        yield Finding("error", f"{CARD}: its front matter cannot be read: {first_line(error)}")
        return
    said: Mapping[str, Any] = {k: v for k, v in vars(card.data).items() if v}
    for key, why in (
        ("base_model", "what it was merged from is not said, and the Hub does not link it"),
        ("license", "nobody knows whether it may be used"),
        ("pipeline_tag", "the Hub does not know what it is for"),
        ("library_name", "the Hub shows no way to load it"),
        ("language", "its languages are not said"),
    ):
        if key not in said:
            grave = key in ("base_model", "license")
            yield Finding("warning" if grave else "note", f"{CARD}: no `{key}`: {why}")
    if said.get("base_model") and said.get("base_model_relation") != "merge":
        yield Finding(
            "note", f"{CARD}: no `base_model_relation: merge`: it may pass for a fine-tune"
        )
    for what, words in (
        ("scores", ("## Results", "## Evaluation", "model-index")),
        ("way to run it", ("from_pretrained", "vllm serve", "pipeline(")),
    ):
        if not any(word.lower() in text.lower() for word in words):
            yield Finding("warning", f"{CARD} shows no {what}")


def _recipe(folder: Path) -> Iterator[Finding]:
    if not is_file(folder / RECIPE):
        yield Finding("error", f"there is no {RECIPE}: nobody can make it again")
        return
    try:
        recipe = Recipe.load(folder / RECIPE)
    except DotsError as error:
        yield Finding("error", f"{RECIPE} is no recipe: {first_line(error)}")
        return
    for path in named_models(recipe):
        if path.startswith((".", "/", "~")):
            yield Finding("warning", f"{RECIPE}: {path} is a folder that nobody else has")
        elif len(path.partition("@")[2]) != 40:
            yield Finding(
                "warning", f"{RECIPE}: {path} is not pinned to a commit, and may become another"
            )


def _weights(folder: Path) -> Iterator[Finding]:
    try:
        record = read_merge_record(folder)
    except DotsError as error:
        yield Finding("error", str(error))
        return
    if record is None:
        yield Finding("warning", f"there is no {RECORD}: that it is what it says cannot be seen")
    for name, digest in record.files.items() if record else ():
        if not is_file(folder / name):
            yield Finding("error", f"{name} is missing")
        elif file_hash(folder / name) != digest:
            yield Finding("error", f"{name} is not what {RECORD} says came out of the merge")
    if not has_template(folder):
        yield Finding("note", "there is no chat template")


def _private(folder: Path, model: str) -> Iterator[Finding]:
    cached = not is_folder(model)  # the Hub's client keeps files as links out of the folder
    for leak in find_leaks(folder, to_upload(folder, {}), {}, public=model.split("/")):
        if not (cached and "a link that leads out" in leak.what):
            yield Finding("warning", str(leak))
