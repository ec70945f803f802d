"""A recipe's YAML text: read safely, with the line of everything in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from dots_mergekit.errors import RecipeError
from dots_mergekit.recipe.places import copy_plain
from dots_mergekit.schema import Location

__all__ = ["Document", "read_document"]


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


def read_document(text: str, origin: str) -> Document:
    """Read a text that is one YAML mapping, as mergekit reads it (with PyYAML: YAML 1.1).

    Raises:
        RecipeError: It is anything else, or has a key twice; with `origin` and the line.
    """
    try:
        root, content = _read(text, origin)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = error.problem or error.context
        raise RecipeError(f"{origin}{line}: this is not YAML: {problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{origin}: this is not YAML: {error}") from error
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
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, None
        for key, number in _repeated_keys(root):
            raise RecipeError(
                f"{origin}, line {number}: the key `{key}` is here a second time, and "
                "YAML would silently keep only the last; remove one"
            )
        return root, copy_plain(loader.construct_document(root))
    finally:
        loader.dispose()


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
