"""A model card's text: sections that are written anew, and what a person wrote around them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["mark", "merge_sections", "section_names"]

_MARK = re.compile(r"<!-- dots-share: (?P<name>[a-z]+), written anew each time -->\n")
_END = "<!-- dots-share: end of {name} -->"

# mergekit's own card, which says nothing that ours does not.
_MERGEKITS = "This is a merge of pre-trained language models created using [mergekit]"


def mark(name: str, text: str) -> str:
    """Put a section between its marks.

    >>> print(mark("use", "Run it."))
    <!-- dots-share: use, written anew each time -->
    Run it.
    <!-- dots-share: end of use -->
    """
    begin = f"<!-- dots-share: {name}, written anew each time -->"
    return f"{begin}\n{text}\n{_END.format(name=name)}"


def section_names(text: str) -> list[str]:
    """Give the names of the sections that a card has, in its order."""
    return [found["name"] for found in _MARK.finditer(text)]


def merge_sections(text: str, sections: Mapping[str, str], order: Sequence[str]) -> str:
    """Write sections into a card; everything else in it stays.

    A section that is there is written anew where it stands. A new one comes behind the one that
    goes before it in the order. mergekit's own card is replaced.

    Args:
        text: The card without its front matter; it may be empty.
        sections: Texts by name.
        order: The order of all sections.
    """
    if _MERGEKITS in text and not section_names(text):
        text = ""
    for name in order:
        if name in sections:
            text = _with(text, name, sections[name], order)
    return text.strip("\n") + "\n"


def _with(text: str, name: str, section: str, order: Sequence[str]) -> str:
    there = _span(text, name)
    if there:
        return text[: there[0]] + mark(name, section) + text[there[1] :]
    before = (_span(text, one) for one in reversed(order[: order.index(name)]))
    place = next((span[1] for span in before if span), None)
    if place is None:
        after = (_span(text, one) for one in order[order.index(name) + 1 :])
        place = next((span[0] for span in after if span), len(text))
    parts = (text[:place].rstrip("\n"), mark(name, section), text[place:].lstrip("\n"))
    return "\n\n".join(part for part in parts if part)


def _span(text: str, name: str) -> tuple[int, int] | None:
    """Say where a section stands, its marks included; one without an end is none."""
    for found in _MARK.finditer(text):
        if found["name"] == name:
            end = text.find(_END.format(name=name), found.end())
            return None if end < 0 else (found.start(), end + len(_END.format(name=name)))
    return None
