"""A recipe's YAML text: read safely, with the line of everything in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from dots_mergekit.errors import RecipeError
from dots_mergekit.messages import first_line
from dots_mergekit.recipe.places import copy_plain
from dots_mergekit.schema import Location

__all__ = ["SIZE", "Document", "read_document"]


@dataclass(frozen=True)
class Document:
    """What a text holds, and where.

    Attributes:
        content: Plain data, no two places of which share an object.
        root: The tree of the text, which knows its lines.
    """

    content: dict[str, Any]
    root: yaml.Node

    def line(self, location: Location) -> int | None:
        """Find the line of a place in the text, or of the nearest place above it."""
        node, line = self.root, None
        for step in location:
            if isinstance(node, yaml.MappingNode):
                pairs = [(k, v) for k, v in node.value if k.value == str(step)]
                if not pairs:
                    break
                key, node = pairs[-1]  # what is merged in with `<<` comes before a key's own
                line = key.start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                break
        return line


SIZE = 1 << 20
_NODES = 20_000
_DEPTH = 100
_SCALAR = 1 << 16
"""More than any recipe has: characters in all, values once aliases are written out, levels,
characters in one value. Python's own limits are further off, and take minutes to reach."""

_HALF = re.compile("[\ud800-\udfff]")
"""What `"\\ud800"` is read as. No library in Rust takes it for text."""


def read_document(text: str, origin: str) -> Document:
    """Read a text that is one YAML mapping, as mergekit reads it (with PyYAML: YAML 1.1).

    Raises:
        RecipeError: It is anything else, has a key twice, or is too large, deep or manifold for a
            recipe; with `origin` and the line.
    """
    if len(text) > SIZE:
        raise RecipeError(
            f"{origin}: this has {len(text):,} characters, and {SIZE:,} are the most that a "
            "recipe may have"
        )
    try:
        root, content = _read(text, origin)
    except _BeyondRecipesError as error:
        raise RecipeError(f"{origin}, line {error.line}: {error}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = error.problem or error.context
        raise RecipeError(f"{origin}{line}: this is not YAML: {problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{origin}: this is not YAML: {first_line(error)}") from error
    except ValueError as error:
        raise RecipeError(f"{origin}: this cannot be read as YAML: {error}") from error
    if root is None or not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise RecipeError(
            f"{origin}: a recipe is a YAML mapping (`merge_method: ...` and so on); found {found}"
        )
    return Document(content, root)


def _read(text: str, origin: str) -> tuple[yaml.Node | None, Any]:
    """Give the tree and the data of a text, which is gone through once."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, None
        _require_few(root, origin)
        for key, number in _repeated_keys(root):
            raise RecipeError(
                f"{origin}, line {number}: the key `{key}` is here a second time, and "
                "YAML would silently keep only the last; remove one"
            )
        return root, copy_plain(loader.construct_document(root))
    finally:
        loader.dispose()


class _BeyondRecipesError(Exception):
    """YAML that no recipe holds, and the line on which it does."""

    def __init__(self, message: str, loader: Any) -> None:
        super().__init__(message)
        self.line = loader.peek_event().start_mark.line + 1


class _Loader(yaml.SafeLoader):
    """PyYAML's loader, which goes only so deep."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Read a value and all that is in it."""
        self._depth += 1
        if self._depth > _DEPTH:
            raise _BeyondRecipesError(f"this nests more than {_DEPTH} deep", self)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Give the data of a value; PyYAML's own errors for tags are those of its code."""
        try:
            return super().construct_object(node, deep=deep)
        except (AttributeError, LookupError, TypeError) as error:
            raise yaml.constructor.ConstructorError(
                problem=f"`{node.tag.rpartition(':')[2]}` is the tag of a value that is none",
                problem_mark=node.start_mark,
            ) from error

    def compose_document(self) -> Any:
        """Read the text, of which a recipe has one."""
        node = super().compose_document()
        if not self.check_event(yaml.StreamEndEvent):
            raise _BeyondRecipesError(
                "a second document begins here (`---`), as files for mergekit-multi have them, and "
                "a recipe is one: give each a file of its own",
                self,
            )
        return node


def _require_few(root: yaml.Node, origin: str) -> None:
    """Refuse what becomes too large when its aliases are written out, without doing so."""
    sizes: dict[int, int] = {}
    pending = [(root, False)]
    while pending:
        node, seen = pending.pop()
        inside = _inside(node)
        if not seen:
            if id(node) in sizes:
                continue
            # What contains itself has no size; that is refused where the data is copied.
            sizes[id(node)] = 0
            pending += [(node, True), *((inner, False) for inner in inside)]
            continue
        sizes[id(node)] = 1 + sum(sizes[id(inner)] for inner in inside)
        problem = None
        if sizes[id(node)] > _NODES:
            problem = f"with its aliases written out this holds more than {_NODES:,} values"
        elif isinstance(node, yaml.ScalarNode) and len(node.value) > _SCALAR:
            problem = f"this value has more than {_SCALAR:,} characters"
        elif isinstance(node, yaml.ScalarNode) and _HALF.search(node.value):
            problem = "this value holds half a character (a lone surrogate)"
        if problem:
            line = node.start_mark.line + 1
            raise RecipeError(f"{origin}, line {line}: {problem}; no recipe needs that")


def _inside(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _repeated_keys(node: yaml.Node) -> Iterator[tuple[str, int]]:
    """Find keys that stand twice in one mapping, with the line of the second."""
    pending, done = [node], set()
    while pending:
        node = pending.pop()
        if id(node) in done:
            continue
        done.add(id(node))
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if key.value in seen:
                        yield key.value, key.start_mark.line + 1
                    seen.add(key.value)
                pending.append(value)
        elif isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
