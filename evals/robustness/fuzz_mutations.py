"""Inputs made out of others: bytes, words or trees are changed, and files stay of their kind.

A fuzzer that knows bytes alone hardly gets beyond the parser. Here most changes are made to
what was parsed (JSON, YAML) or to the words of a language (LaTeX, regular expressions).
"""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import parse_json

__all__ = ["Mutation", "mutation_for"]

_ENDS = re.compile(rb'"data_offsets": \[\d+, (\d{1,9})\]')

Mutation = Callable[[bytes, random.Random], bytes]
"""Gives another input for one that there is."""

_VALUES: Sequence[Any] = (
    *(None, True, False, 0, 1, -1, 2, 5, 255, 10_000, 10_001, 1 << 31, 1 << 63, 1 << 64, 10**400),
    *(0.0, -0.0, 0.5, 1.0, 1e-320, 1e308, -1e308, float("inf"), float("nan")),
    *(
        "",
        " ",
        "a",
        "x" * 300,
        "\0",
        "\x1b[2J",
        "\ud800",
        "λ",
        "../x",
        "/etc/passwd",
        "*",
        "+",
        "@",
    ),
    *([], {}, [[]], [{}], {"a": 1}, [1, 2], [0.5, 2.0], ["a", "b"], [None], {"": ""}),
)

_WORDS: Mapping[str, Sequence[str]] = json.loads(
    Path(__file__).with_name("fuzz_words.json").read_text(encoding="utf-8")
)
"""What stands in good and in odd inputs, by target or language."""


def mutation_for(target: str, of_bytes: Mutation) -> Mutation:
    """Give what changes inputs of a target.

    Args:
        target: Its name.
        of_bytes: Changes bytes, as the fuzzer itself does it.
    """
    made: Callable[[bytes, random.Random], bytes | None]
    if target in ("extractor", "grader", "algebra"):
        made = _in_words(_WORDS["latex"])
    elif target == "regex":
        made = _in_words(_WORDS["regex"])
    elif target in ("recipe", "tune"):
        made = _in_yaml([*_WORDS["recipe"], *_WORDS["tune"]])
    else:
        made = {"header": _in_header, "pool": _in_pool}.get(target) or _in_json(target)

    def mutate(data: bytes, draw: random.Random) -> bytes:
        try:
            changed = made(data, draw) if draw.random() < 0.7 else None
        except RecursionError:  # what is changed nests deeper each time
            changed = None
        return of_bytes(data, draw) if changed is None or changed == data else changed

    return mutate


def _in_json(target: str) -> Callable[[bytes, random.Random], bytes | None]:
    def mutate(data: bytes, draw: random.Random) -> bytes | None:
        try:
            tree = parse_json(data, "it")
        except DotsError:
            return None
        return _spelled(_changed(tree, _WORDS[target], draw), draw)

    return mutate


def _in_header(data: bytes, draw: random.Random) -> bytes | None:
    """Change the JSON behind the length, and make length and size fit again, mostly."""
    (length,) = struct.unpack("<Q", data[:8].ljust(8, b"\0"))
    header = _in_json("header")(data[8 : 8 + length], draw)
    if header is None:
        return None
    size = draw.choice((0, 4, 8, 16, len(data) - 8 - length))
    ends = [int(end) for end in _ENDS.findall(header)]
    size = max([size, *(min(end, 1 << 16) for end in ends)])
    stated = draw.choice((0, 1, len(header) + 1, 1 << 63)) if draw.random() < 0.02 else len(header)
    return struct.pack("<Q", stated) + header + bytes(max(0, size))


def _in_pool(data: bytes, draw: random.Random) -> bytes | None:
    first, _, content = data.partition(b"\n")
    if first.startswith(b".json") and not first.endswith(b".gz"):
        lines = content.split(b"\n") if first == b".jsonl" else [content]
        place = draw.randrange(len(lines))
        line = _in_json("pool")(lines[place], draw)
        if line is None:
            return None
        changed = b"\n".join([*lines[:place], line, *lines[place + 1 :]])
    elif first in (b".csv", b".tsv", b".txt"):
        changed = _in_words(_WORDS["table"])(content, draw)
    else:
        return None
    return first + b"\n" + changed


def _in_yaml(words: Sequence[str]) -> Callable[[bytes, random.Random], bytes | None]:
    from dots_mergekit.recipe.text import read_document  # late: it takes seconds

    spell = _in_words([*words, *_WORDS["yaml"]])

    def mutate(data: bytes, draw: random.Random) -> bytes | None:
        if draw.random() < 0.4:
            return spell(data, draw)
        try:
            tree = read_document(data.decode(), "it").content
        except (DotsError, UnicodeDecodeError):
            return spell(data, draw)
        changed = _changed(tree, words, draw)
        flow = draw.choice((True, False, None))
        try:
            return yaml.safe_dump(changed, default_flow_style=flow, sort_keys=False).encode()
        except (yaml.YAMLError, UnicodeEncodeError):
            return None

    return mutate


def _in_words(words: Sequence[str]) -> Mutation:
    """Put in words of a language, and take out, repeat and move parts of a text."""

    def mutate(data: bytes, draw: random.Random) -> bytes:
        text = data.decode(errors="surrogateescape")
        for _ in range(draw.randint(1, 4)):
            start = draw.randint(0, len(text))
            end = min(len(text), start + draw.choice((0, 0, 1, 2, 5, 20)))
            kind = draw.random()
            if kind < 0.6:
                new = draw.choice(words) * (draw.randint(2, 40) if draw.random() < 0.05 else 1)
            elif kind < 0.75:
                new = ""
            elif kind < 0.9:
                new = text[start:end] * draw.randint(2, 4)
            else:
                begin = draw.randint(0, len(text))
                new = text[begin : begin + draw.randint(1, 30)]
            text = text[:start] + new + text[end:]
        return text.encode(errors="surrogatepass")

    return mutate


def _spelled(tree: Any, draw: random.Random) -> bytes:
    text = json.dumps(tree, ensure_ascii=draw.random() < 0.5)
    if draw.random() < 0.03:
        text = text.replace("{", '{"twice": 1, "twice": 2, ', 1)
    return text.encode(errors="surrogatepass")


def _changed(tree: Any, words: Sequence[str], draw: random.Random) -> Any:
    """Change one to three places of plain data, in place."""
    for _ in range(draw.randint(1, 3)):
        holders = [tree, *_inside(tree)] if isinstance(tree, dict | list) else []
        if not holders or draw.random() < 0.02:
            tree = _value(words, draw)
            continue
        _change(draw.choice(holders), tree, words, draw)
    return tree


def _inside(tree: Any) -> list[Any]:
    values = list(tree.values()) if isinstance(tree, dict) else tree
    holders = [value for value in values if isinstance(value, dict | list)]
    return [*holders, *(inner for holder in holders for inner in _inside(holder))]


def _change(holder: Any, tree: Any, words: Sequence[str], draw: random.Random) -> None:
    keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    kind = draw.random()
    if not keys or kind < 0.25:
        key: Any = draw.choice(words)
        value = _value(words, draw)
        holder.__setitem__(key, value) if isinstance(holder, dict) else holder.append(value)
        return
    key = draw.choice(keys)
    if kind < 0.4:
        del holder[key]
    elif kind < 0.5 and isinstance(holder, dict):
        holder[draw.choice(words)] = holder.pop(key)
    elif kind < 0.6:
        holder[key] = (
            json.loads(json.dumps(tree, default=str)) if draw.random() < 0.2 else [holder[key]]
        )
    elif kind < 0.65:
        holder[key] = _nested(holder[key], draw)
    else:
        holder[key] = _value(words, draw)


def _nested(value: Any, draw: random.Random) -> Any:
    for _ in range(draw.choice((3, 98, 120))):
        value = [value] if draw.random() < 0.5 else {"a": value}
    return value


def _value(words: Sequence[str], draw: random.Random) -> Any:
    if draw.random() < 0.5:
        return draw.choice(words)
    value = draw.choice(_VALUES)
    return json.loads(json.dumps(value)) if isinstance(value, dict | list) else value
