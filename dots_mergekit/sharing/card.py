"""The model card: front matter for the Hub, and sections for people."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from mergekit.common import ModelReference

from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.baselines import is_random
from dots_mergekit.foreign import is_file, read_json, read_text
from dots_mergekit.messages import and_more, markdown_table
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import RECORD
from dots_mergekit.recipe.schema import TUNE
from dots_mergekit.sharing import citations
from dots_mergekit.sharing.record import RECIPE, MergeRecord
from dots_mergekit.sharing.sections import merge_sections, section_names
from dots_mergekit.sharing.sources import CARD, Source

__all__ = ["ORDER", "Facts", "has_template", "license_of", "read_card", "write_card"]

ORDER = (
    *("about", "use", "recipe", "results", "search", "queries", "analysis"),
    *("again", "limits", "cite"),
)
"""The sections of a card."""

_METHOD = "[DoTS](https://arxiv.org/abs/2605.00610)"


@dataclass(frozen=True)
class Facts:
    """What there is to say of a merge.

    Attributes:
        name: Its repository on the Hub, or its folder's name.
        folder: Where it lies.
        recipe: With public names of its models.
        sources: By those names.
        record: Its hashes.
        license: Its license, where it is known.
    """

    name: str
    folder: Path
    recipe: Recipe
    sources: Mapping[str, Source]
    record: MergeRecord
    license: str | None


def license_of(sources: Mapping[str, Source], asked: str | None) -> tuple[str | None, list[str]]:
    """Give the license of a merge: the one that all its sources have, or the one asked for.

    Returns:
        The license, if there is one, and what to know about it.
    """
    if asked is not None:
        return asked, []
    said = {name: source.license for name, source in sources.items()}
    silent = [name for name, one in said.items() if one is None]
    if silent:
        return None, [
            f"no license is known of {silent[0]}{and_more(silent)}, so the card names none; "
            "decide with `license`"
        ]
    if len(set(said.values())) > 1:
        spelled = ", ".join(f"{name}: {one}" for name, one in said.items())
        return None, [
            f"the licenses differ ({spelled}), so the card names none; decide with `license`"
        ]
    return next(iter(said.values())), []


def write_card(old: str, facts: Facts, evidence: Mapping[str, str]) -> str:
    """Give a card with its sections written anew, and the rest of the old one as it was.

    Args:
        old: The card that is there; it may be empty.
        facts: What there is to say.
        evidence: Sections by name: `results`, `search`, `queries`, `analysis`.

    Raises:
        DotsError: The old card's front matter is broken.
    """
    try:
        card = ModelCard(old or "---\n{}\n---\n")
    except Exception as error:  # of YAML, and of the values in it
        raise DotsError(
            f"{facts.folder / CARD}: its front matter (between the first two `---`) cannot be "
            f"read; mend or remove it ({str(error).splitlines()[0]})"
        ) from error
    told = {*evidence, *section_names(card.text)}
    sections = {
        "about": _about(facts, searched="search" in told),
        "use": _use(facts),
        "recipe": _recipe(facts),
        **evidence,
        "again": _again(facts),
        "limits": _limits(facts, told),
        "cite": _cite(facts, told),
    }
    front = _front(vars(card.data), facts).to_yaml(line_break="\n")
    return f"---\n{front}\n---\n{merge_sections(card.text, sections, ORDER)}"


def has_template(folder: Path) -> bool:
    """Say whether a model brings a chat template."""
    if is_file(folder / "chat_template.jinja"):
        return True
    settings = _json(folder / "tokenizer_config.json")
    return bool(settings.get("chat_template"))


def _front(old: Mapping[str, Any], facts: Facts) -> ModelCardData:
    """Give the front matter: ours, and what else a person put there."""
    said = {key: value for key, value in old.items() if value is not None}
    repositories = [one.repository for one in facts.sources.values() if one.repository]
    tags = ["merge", "mergekit", *(["dots"] if facts.recipe.merge_method == "dots" else [])]
    before = said.get("tags")
    said["tags"] = list(dict.fromkeys([*tags, *(before if isinstance(before, list) else [])]))
    said.pop("base_model", None)
    if repositories:
        said["base_model"] = list(dict.fromkeys(repositories))
        said["base_model_relation"] = "merge"
    said["library_name"] = "transformers"
    if facts.license is not None:
        said["license"] = facts.license
    languages = dict.fromkeys(word for one in facts.sources.values() for word in one.languages)
    if languages:
        said.setdefault("language", list(languages))
    architectures = _json(facts.folder / "config.json").get("architectures") or [""]
    if str(architectures[0]).endswith("ForCausalLM"):
        said.setdefault("pipeline_tag", "text-generation")
    return ModelCardData(**said)


def _about(facts: Facts, *, searched: bool) -> str:
    recipe = facts.recipe
    names = [f"**{name}**" for name in recipe.sources]
    merged = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    how = f"the method `{recipe.merge_method}`"
    if recipe.merge_method == "dots":
        how = (
            f"{_METHOD}, which keeps the largest changes that each made to its base, gives them "
            "back the length that was cut off, and adds them up under weights λ"
        )
    spelled = ", ".join(f"{name} {value:.4g}" for name, value in recipe.weights().items())
    found = " They were found without labels." if searched else ""
    weights = f" Here λ is {spelled}.{found}" if spelled else ""
    return (
        f"# {facts.name.rpartition('/')[2]}\n\nA merge of {merged} by {how}; nothing was trained "
        f"for it.{weights}"
    )


def _use(facts: Facts) -> str:
    ask = (
        'chat = [{"role": "user", "content": question}]\n'
        "inputs = tokenizer.apply_chat_template(\n"
        '    chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n'
        ")"
        if has_template(facts.folder)
        else 'inputs = tokenizer(question, return_tensors="pt")'
    )
    return f"""## Use it

With [transformers](https://huggingface.co/docs/transformers):

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{facts.name}")
model = AutoModelForCausalLM.from_pretrained("{facts.name}", dtype="auto")

question = "What is 12 + 30?"
{ask}
output = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
```

With [vLLM](https://docs.vllm.ai):

```
vllm serve {facts.name}
```"""


def _recipe(facts: Facts) -> str:
    rows = []
    for name, source in facts.sources.items():
        link, known = f"`{Path(name).name}`, a folder", f"contents `{source.contents[:16]}`"
        if source.repository:
            link = f"[{source.repository}](https://huggingface.co/{source.repository})"
            known = f"revision `{source.revision}`"
        rows.append((_role(facts.recipe, name), link, known, source.license or "not known"))
    text = facts.recipe.text.rstrip()
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return (
        "## The recipe\n\n"
        + markdown_table(("", "model", "merged as it was at", "license"), rows)
        + f"\n\nFor [mergekit](https://github.com/arcee-ai/mergekit), in [`{RECIPE}`]({RECIPE}):"
        + f"\n\n{fence}yaml\n{text}\n{fence}"
    )


def _role(recipe: Recipe, name: str) -> str:
    """Say what a model is to a recipe."""

    def has(model: ModelReference | None) -> bool:
        return model is not None and name in (str(model.model), str(model.lora))

    if has(recipe.base):
        return "base"
    return next((short for short, model in recipe.sources.items() if has(model)), "")


def _again(facts: Facts) -> str:
    known = {name: number for name, number in facts.record.versions.items() if number}
    versions = ", ".join(f"{name} {number}" for name, number in known.items())
    commands = [
        (f"dots-reproduce {facts.name}", "merge anew, and compare every tensor"),
        (f"mergekit-yaml {RECIPE} OUT", "the merge alone"),
    ]
    if TUNE in facts.recipe.content:
        commands.append((f"dots-tune --recipe {RECIPE} --out study", "search for its λ again"))
    width = max(len(command) for command, _ in commands)
    lines = "\n".join(f"{command:{width}}  # {what}" for command, what in commands)
    return f"""## Make it again

```
{lines}
```

The hashes of everything that went in and came out are in [`{RECORD}`]({RECORD}). Versions:
{versions}."""


def _limits(facts: Facts, told: Collection[str]) -> str:
    said = []
    folders = [Path(name).name for name, one in facts.sources.items() if not one.repository]
    if folders:
        what = "was a folder" if len(folders) == 1 else "were folders"
        said.append(
            f"{', '.join(folders)} {what} on the merging machine: to make this again one needs "
            "files with the same hashes."
        )
    if is_random(facts.recipe.merge_method):
        said.append(
            "The method draws masks at random: without the seed of then, another merge comes out."
        )
    if "results" not in told:
        said.append("No scores are given with this card.")
    if facts.license is None:
        said.append("The license is not settled: see those of the sources.")
    return "## Limits\n\n" + "\n".join(
        f"- {one}" for one in said or ["Nothing was measured beyond what stands above."]
    )


def _cite(facts: Facts, told: Collection[str]) -> str:
    entries = [citations.METHOD] if facts.recipe.merge_method == "dots" else []
    entries.append(citations.MERGEKIT)
    if {"results", "search"} & set(told):
        entries.append(citations.HARNESS)
    for source in facts.sources.values():
        entries += source.citations
    text = "\n\n".join(citations.without_repetition(entries))
    ask = [
        f"[{one.repository}](https://huggingface.co/{one.repository})"
        for one in facts.sources.values()
        if one.repository and not one.citations
    ]
    models = f"\n\nThe models that were merged: {', '.join(ask)}." if ask else ""
    return f"## Cite\n\n```bibtex\n{text}\n```{models}"


def _json(path: Path) -> Mapping[str, Any]:
    content = read_json(path) if is_file(path) else {}
    return content if isinstance(content, dict) else {}


def read_card(folder: Path) -> str:
    """Read a model's card; nothing where there is none."""
    return read_text(folder / CARD) if is_file(folder / CARD) else ""
