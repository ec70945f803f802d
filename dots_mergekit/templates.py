"""Chat templates of strangers: rendered out of the way, with little time and memory."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Chat", "Problem", "try_template"]

_CPU_SECONDS = 1
_MEMORY = 1 << 30
_SECONDS = 20
"""For the process as a whole, should the system be busy or know no limits."""

_PROGRAM = Path(__file__).with_name("template_process.py")


class Chat(NamedTuple):
    """Messages to render.

    Attributes:
        what: What to call them in messages.
        messages: With `role` and `content`.
    """

    what: str
    messages: Sequence[Mapping[str, str]]


class Problem(NamedTuple):
    """Why a template cannot be used.

    Attributes:
        kind: `endless`, `broken`, `unsafe`, `refuses`, or `unknown` where it could not be tried.
        said: What it does, to go behind its name.
    """

    kind: str
    said: str


def try_template(
    template: str, chats: Sequence[Chat], variables: Mapping[str, Any]
) -> Problem | None:
    """Render chats with a template, as transformers would; give the first problem, None if none.

    What was tried once in this process is not tried again.

    Args:
        template: In Jinja's language.
        chats: What is to be rendered.
        variables: What else the template is given, as JSON values.
    """
    request = {
        "template": template,
        "chats": chats,
        "variables": {**variables, "add_generation_prompt": True, "tools": None, "documents": None},
        "seconds": _CPU_SECONDS,
        "memory": _MEMORY,
    }
    return _tried(json.dumps(request), tuple(chat.what for chat in chats))


@functools.lru_cache(maxsize=8)
def _tried(request: str, names: Sequence[str]) -> Problem | None:
    try:
        done = subprocess.run(
            # -P: what lies beside the program must not stand for what it imports.
            [sys.executable, "-P", str(_PROGRAM)],
            input=request.encode(),
            capture_output=True,
            timeout=_SECONDS + _CPU_SECONDS * len(names),
            check=False,
        )
        code, said = done.returncode, done.stdout
    except OSError as error:
        return Problem("unknown", f"was not tried: no process could be started ({error.strerror})")
    except subprocess.TimeoutExpired as late:
        code, said = -1, late.stdout or b""
    lines = said.decode().splitlines()
    if code < 0:  # killed, by us or by its limits
        what = names[int(lines[-1])] if lines else "a prompt"
        return Problem("endless", f"takes more than {_CPU_SECONDS} s of computing for {what}")
    if code > 0:
        words = done.stderr.decode(errors="replace").strip() or "no reason given"
        return Problem("broken", f"could not be rendered: {words.splitlines()[-1]}")
    answer = json.loads(lines[-1])
    return Problem(*answer) if answer else None
