"""The process that renders chat templates, with little time and memory, and says how it went.

Reads JSON from stdin: `template`, `variables`, `chats` (what each is called, and its messages) and
the limits `seconds`, for each of these, and `memory`. It writes the number of each chat when it
begins with it, and then JSON: null, or what kind of problem there is and its words. It renders as
transformers does, in Jinja's sandbox for immutable values.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

_LONGEST = 1 << 20


class _Refused(jinja2.TemplateError):
    """The template itself does not take these messages."""


class _Generation(Extension):
    """The block in which templates mark what an assistant says; it changes nothing here."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Any) -> Any:
        """Read the block as what is in it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def _refuse(message: str) -> NoReturn:
    raise _Refused(message)


def _to_json(value: Any, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def render(template: str, what: str, variables: dict[str, Any]) -> tuple[str, str] | None:
    """Render a template; None if that is well, else a kind of problem and its words."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    length = 0
    try:
        for part in environment.from_string(template).generate(**variables):
            length += len(part)
            if length > _LONGEST:
                return "endless", f"writes more than {_LONGEST:,} characters for {what}"
    except _Refused as error:
        return "refuses", f"refuses {what}: {error}"
    except jinja2.TemplateSyntaxError as error:
        return "broken", f"is broken, line {error.lineno}: {error.message}"
    except SecurityError as error:
        return "unsafe", f"reaches for what the sandbox forbids: {error}"
    except MemoryError:
        return "endless", f"takes more memory than there is for {what}"
    except Exception as error:  # a template can raise whatever its operators do
        return "broken", f"fails on {what}: {type(error).__name__}: {error}"
    return None


def main() -> None:
    """Answer the one request."""
    request = json.load(sys.stdin)
    with contextlib.suppress(ImportError, ValueError, OSError):  # where there is no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
    problem = None
    for index, (what, messages) in enumerate(request["chats"]):
        print(index, flush=True)
        with contextlib.suppress(AttributeError):  # where there are no such timers
            signal.setitimer(signal.ITIMER_PROF, request["seconds"])  # whose signal is the end
        variables = {**request["variables"], "messages": messages}
        problem = render(request["template"], what, variables)
        if problem:
            break
    print(json.dumps(problem))


if __name__ == "__main__":
    main()
