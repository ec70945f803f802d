"""Chat templates: read, and rendered once, out of the way, before a search has to rely on them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dots_mergekit.checking.findings import Finding
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, is_folder, names_in, read_json, read_text

__all__ = ["broken_template", "chat_templates"]

_LIMIT = 1 << 20

_CPU_SECONDS = 1
_MEMORY = 1 << 30
_SECONDS = 20.0
"""For the process as a whole, should the system be busy or know no limits."""

_PROGRAM = Path(__file__).with_name("template_process.py")

_MESSAGES = [{"role": "user", "content": "What is 1 + 1?"}]


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
    problem = _rendered(template, tokens)
    if problem is None:
        return
    kind, said = problem
    words = " ".join(said.split())
    fatal = used and kind not in ("refuses", "unknown")
    remedy = "; mend it, or set another with `chat_template:`" if fatal else ""
    yield Finding(
        "error" if fatal else "warning", f"the chat template {place} {words[:300]}{remedy}"
    )


def _rendered(template: str, tokens: Mapping[str, Any]) -> tuple[str, str] | None:
    """Give the kind of problem that a template has, and its words; None if it has none."""
    variables = {
        **tokens,
        "messages": _MESSAGES,
        "add_generation_prompt": True,
        "tools": None,
        "documents": None,
    }
    request = {
        "template": template,
        "variables": variables,
        "seconds": _CPU_SECONDS,
        "memory": _MEMORY,
    }
    try:
        done = subprocess.run(
            # -P: what lies beside the program must not stand for what it imports.
            [sys.executable, "-P", str(_PROGRAM)],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except OSError as error:
        return "unknown", f"was not tried: no process could be started ({error.strerror})"
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode < 0:  # killed, by us or by its limits
        return "endless", f"takes more than {_CPU_SECONDS} s of computing for a plain question"
    if done.returncode > 0:
        words = done.stderr.decode(errors="replace").strip() or "no reason given"
        return "broken", f"could not be rendered: {words.splitlines()[-1]}"
    answer = json.loads(done.stdout)
    return (answer[0], answer[1]) if answer else None
