"""Other content in a YAML text: what changes is spelled anew, all else stays as it was written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import yaml

__all__ = ["respell"]

# YAML 1.1 has more line breaks than Python's universal newlines.
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_COMMENT = re.compile("#[^\r\n\x85\u2028\u2029]*")

# No line is folded: every number and name stays in one piece.
_WIDTH = 1 << 30


def respell(text: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Give the text that holds `new`, and is otherwise spelled as `text` is.

    Only what differs is written anew, in place: a value where the old one stood, a new key after
    the last one beside it. Comments, blank lines, quotes, the style and order of everything else
    stay, byte for byte. A key that goes leaves its comments behind.

    PyYAML, which mergekit reads with, decides what a text means: the result is read again. Where
    it does not hold `new`, all of it is written from the content, and comments are lost. That
    happens where an edit reaches further than meant (a value that stands in two places through an
    alias, and is to differ between them), and with keys marked by `?`.

    Args:
        text: YAML that holds `old`.
        old: A mapping of plain data.
        new: A mapping of plain data, no two places of which share an object.
    """
    if _same(old, new):
        return text
    try:
        edited = _Editor(text).edited(old, new)
        if _same(yaml.safe_load(edited), new):
            return edited
    except (_BeyondEditing, yaml.YAMLError, ValueError, RecursionError):
        pass
    return _dump(new)


def _same(one: Any, other: Any) -> bool:
    """Compare plain data strictly: 1, 1.0 and True are three things, NaN equals itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(v, other[k]) for k, v in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return repr(one) == repr(other)


def _dump(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=_WIDTH)


def _inline(value: Any) -> str:
    """Spell a value on one line, so that it can stand anywhere."""
    text = yaml.safe_dump(
        [value], default_flow_style=True, sort_keys=False, allow_unicode=True, width=_WIDTH
    )
    return text.strip()[1:-1]


class _BeyondEditing(Exception):
    """The text is written in a way that is not edited here."""


class _Edit(NamedTuple):
    """Other words for a part of the text."""

    start: int
    end: int
    words: str


class _Editor:
    """Finds what to write where, led by the tree of the text and by both contents."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"

    def edited(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
        """Give the text with every difference written into it."""
        root = yaml.compose(self._text, Loader=yaml.SafeLoader)
        if root is None:
            raise _BeyondEditing
        return self._patched(0, len(self._text), self._edits(root, old, new))

    def _patched(self, start: int, end: int, edits: Iterable[_Edit]) -> str:
        """Carry out edits in a part of the text; those of one place in the order given."""
        words, here = [], start
        # An alias shows the same edit twice.
        for edit in sorted(dict.fromkeys(edits), key=lambda edit: edit.start):
            if edit.start < here:
                raise _BeyondEditing
            words += [self._text[here : edit.start], edit.words]
            here = edit.end
        return "".join([*words, self._text[here:end]])

    def _edits(
        self, node: yaml.Node, old: Any, new: Any, head: int | None = None
    ) -> Iterator[_Edit]:
        """Lead a node from one content to another.

        Args:
            node: Spells `old`.
            old: Plain data.
            new: Plain data.
            head: The end of the key that the node belongs to, if it has one.
        """
        if _same(old, new):
            return
        if isinstance(node, yaml.MappingNode) and isinstance(new, dict) and new:
            yield from self._in_mapping(node, old, new, head)
        elif isinstance(node, yaml.SequenceNode) and isinstance(new, list) and new:
            yield from self._in_sequence(node, old, new, head)
        else:
            yield from self._replacement(node, new, head)

    def _in_mapping(
        self,
        node: yaml.MappingNode,
        old: Mapping[str, Any],
        new: Mapping[str, Any],
        head: int | None,
    ) -> Iterator[_Edit]:
        pairs = {_key(key): (key, value) for key, value in node.value}
        gone = [pair for key, pair in pairs.items() if key in old and key not in new]
        # What `<<` brings in is in the content, but not among the pairs.
        added = {
            key: value
            for key, value in new.items()
            if key not in pairs and not (key in old and _same(old[key], value))
        }
        rows = {start for key, _ in gone if (start := self._row(key)) is not None}
        if node.flow_style and (gone or added):
            stay = [
                (key.start_mark.index, value, old.get(name), new[name])
                for name, (key, value) in pairs.items()
                if name in new
            ]
            yield from self._refilled(node, stay, [_inline(added)[1:-1]] if added else [], new)
        elif len(rows) < len(gone):
            yield from self._replacement(node, new, head)
        else:
            for name, (key, value) in pairs.items():
                if name in new:
                    yield from self._edits(value, old.get(name), new[name], self._colon(key))
                elif name in old:
                    yield from self._removal(key, value)
            if added:
                column = node.value[0][0].start_mark.column
                yield self._addition(node, added, column)

    def _in_sequence(
        self, node: yaml.SequenceNode, old: Sequence[Any], new: Sequence[Any], head: int | None
    ) -> Iterator[_Edit]:
        if len(new) < len(old):
            yield from self._replacement(node, new, head)
            return
        stay = list(zip(node.value, old, new, strict=False))
        added = list(new[len(old) :])
        if added and node.flow_style:
            slices = [(item.start_mark.index, item, before, now) for item, before, now in stay]
            yield from self._refilled(node, slices, [_inline(added)[1:-1]], new)
            return
        for item, before, now in stay:
            yield from self._edits(item, before, now)
        if added:
            if self._text[node.start_mark.index] != "-":
                raise _BeyondEditing  # an anchor or a tag stands before the first dash
            yield self._addition(node, added, node.start_mark.column)

    def _refilled(
        self,
        node: yaml.CollectionNode,
        stay: Iterable[tuple[int, yaml.Node, Any, Any]],
        added: Sequence[str],
        new: Any,
    ) -> Iterator[_Edit]:
        """Write what stays, as it is spelled, and what is new between the brackets of a node."""
        start, end = node.start_mark.index, node.end_mark.index
        if self._comments(start, end):
            yield from self._replacement(node, new)
            return
        # Behind an anchor and a tag, if there are any.
        opening = self._text.index("{" if self._text[end - 1] == "}" else "[", start)
        kept = [
            self._patched(begin, self._end(value), self._edits(value, old, now))
            for begin, value, old, now in stay
        ]
        yield _Edit(opening + 1, end - 1, ", ".join([*kept, *added]))

    def _removal(self, key: yaml.Node, value: yaml.Node) -> Iterator[_Edit]:
        """Take out the lines of a key and its value, but for the comments on them."""
        start = self._row(key)
        assert start is not None  # `_in_mapping` has looked
        stop = self._next_row(self._end(value))
        margin = self._text[start : key.start_mark.index]
        yield _Edit(start, stop, self._spelled_comments(margin, start, stop))

    def _replacement(self, node: yaml.Node, new: Any, head: int | None = None) -> Iterator[_Edit]:
        """Put a value where a node stands, on one line; its comments follow on their own."""
        start, end = node.start_mark.index, self._end(node)
        row = self._row(node)
        margin = re.match("[ ]*", self._text[start - node.start_mark.column :])
        indent = margin.group() if margin else ""
        if head is not None and row is not None and isinstance(node, yaml.CollectionNode):
            # It stands on the lines below its key, and so moves up to it.
            stop = self._next_row(end)
            yield _Edit(head, head, f" {_inline(new)}")
            yield _Edit(row, stop, self._spelled_comments(indent, row, stop))
            return
        yield _Edit(start, end, f" {_inline(new)}" if start == end else _inline(new))
        if comments := self._spelled_comments(indent, start, end):
            stop = self._next_row(end)
            yield _Edit(stop, stop, comments)

    def _addition(self, node: yaml.CollectionNode, added: Any, column: int) -> _Edit:
        """Write new keys or items below the last line of a node, as its other ones stand."""
        at = self._next_row(self._end(node))
        begins = "" if _BREAK.search(self._text, max(0, at - 1), at) else self._newline
        lines = _dump(added).rstrip("\n").split("\n")
        return _Edit(
            at, at, begins + "".join(f"{' ' * column}{line}{self._newline}" for line in lines)
        )

    def _comments(self, start: int, end: int) -> list[str]:
        return [words for at, words in self._all_comments if start <= at < end]

    def _spelled_comments(self, indent: str, start: int, end: int) -> str:
        return "".join(f"{indent}{words}{self._newline}" for words in self._comments(start, end))

    @cached_property
    def _all_comments(self) -> list[tuple[int, str]]:
        """Every comment and where it begins: between tokens there is nothing else but space."""
        found, end = [], 0
        for token in yaml.scan(self._text, Loader=yaml.SafeLoader):
            start = token.start_mark.index
            found += [(m.start(), m.group()) for m in _COMMENT.finditer(self._text, end, start)]
            end = max(end, token.end_mark.index)
        return found

    def _row(self, node: yaml.Node) -> int | None:
        """Give the beginning of the line on which a node comes first; None if it does not."""
        start = node.start_mark.index
        row = start - node.start_mark.column
        return None if self._text[row:start].strip(" ") else row

    def _next_row(self, at: int) -> int:
        found = _BREAK.search(self._text, at)
        return found.end() if found else len(self._text)

    def _colon(self, key: yaml.Node) -> int | None:
        found = re.compile(r"[ \t]*:").match(self._text, key.end_mark.index)
        return found.end() if found else None

    def _end(self, node: yaml.Node) -> int:
        """Give the end of the last word of a node: that of a block is beyond what follows it."""
        last = node
        while isinstance(last, yaml.CollectionNode) and not last.flow_style:
            child = last.value[-1]
            inner = child[1] if isinstance(child, tuple) else child
            if inner.start_mark.index < last.start_mark.index:
                raise _BeyondEditing  # an alias: its node stands elsewhere
            last = inner
        start, end = last.start_mark.index, last.end_mark.index
        if isinstance(last, yaml.ScalarNode) and last.style in ("|", ">"):
            return start + len(self._text[start:end].rstrip())
        return int(end)


def _key(node: yaml.Node) -> Any:
    """Read a key as PyYAML does: `yes` is true, `1` a number; `<<` is like no key that is read."""
    if node.tag == "tag:yaml.org,2002:merge":
        return node
    return yaml.constructor.SafeConstructor().construct_object(node, deep=True)
