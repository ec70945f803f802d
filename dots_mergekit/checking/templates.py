"""Chat templates: read, and rendered once, out of the way, before a search has to rely on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dots_mergekit.checking.findings import Finding
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, is_folder, names_in, read_json, read_text
from dots_mergekit.templates import Chat, try_template

__all__ = ["broken_template", "chat_templates"]

_LIMIT = 1 << 20

_QUESTION = Chat("a plain question", [{"role": "user", "content": "What is 1 + 1?"}])


def chat_templates(folder: Path) -> dict[str, str]:
    """Read the chat templates of a model by the places where they stand, the one in use first.

    Raises:
        DotsError: A file is broken.
    """
    found: dict[str, str] = {}
    listed = [folder / "chat_template.jinja"]
    more = folder / "additional_chat_templates"
    if is_folder(more):
        listed += [more / name for name in names_in(more) if name.endswith(".jinja")]
    for file in listed:
        if is_file(file):
            found[str(file)] = read_text(file, limit=_LIMIT)
    file = folder / "tokenizer_config.json"
    if is_file(file):
        content = read_json(file)
        value = content.get("chat_template") if isinstance(content, dict) else None
        named = value if isinstance(value, list) else [{"template": value}] if value else []
        for one in named:
            if not isinstance(one, dict) or not isinstance(one.get("template"), str):
                raise DotsError(f"{file}: chat_template is {one!r:.80}; a text is needed")
            found.setdefault(
                f"{file}: chat_template {one.get('name', '')}".strip(), one["template"]
            )
    return found


def broken_template(
    place: str, template: str, *, tokens: Mapping[str, Any], used: bool
) -> Iterator[Finding]:
    """Render a chat template with a plain question, in a process with limits.

    Args:
        place: Where it stands.
        template: The template.
        tokens: The special tokens, by the names that templates have for them.
        used: The result gets this one, so that it is an error.
    """
    problem = try_template(template, [_QUESTION], tokens)
    if problem is None:
        return
    kind, said = problem
    words = " ".join(said.split())
    fatal = used and kind not in ("refuses", "unknown")
    remedy = "; mend it, or set another with `chat_template:`" if fatal else ""
    yield Finding(
        "error" if fatal else "warning", f"the chat template {place} {words[:300]}{remedy}"
    )
