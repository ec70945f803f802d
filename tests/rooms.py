"""The table of contents of the package: its rooms, how long they are, what they import.

Run as a script, this prints the table that belongs into dots_mergekit/README.md.
"""

from __future__ import annotations

import ast
from pathlib import Path

from dots_mergekit.messages import markdown_table

__all__ = ["table"]

PACKAGE = Path(__file__).resolve().parents[1] / "dots_mergekit"

GROUND = (
    *("errors", "messages", "files", "foreign", "templates", "template_process"),
    *("progress", "logs", "threads", "schema"),
)


def table() -> str:
    """Give a row for each room: its own line on what it is, its lines, the rooms it imports."""
    rows = [_row(f"`{name}.py`", [PACKAGE / f"{name}.py"]) for name in GROUND]
    folders = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
    rows += [_row(f"[`{f.name}/`]({f.name})", sorted(f.rglob("*.py"))) for f in folders]
    rows.append(_row("`autoload.py`", [PACKAGE / "autoload.py"]))
    return markdown_table(["", "what it is", "lines", "imports"], rows)


def _row(name: str, files: list[Path]) -> list[str]:
    first = next((f for f in files if f.name == "__init__.py"), files[0])
    said = ast.get_docstring(ast.parse(first.read_text(encoding="utf-8"))) or ""
    # To the nearest hundred, so that the table changes when a room does.
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    used = set[str]().union(*map(_imports, files)) - {first.parent.name, first.stem, *GROUND}
    listed = ", ".join(sorted(used)) or "–"
    return [name, said.splitlines()[0].rstrip("."), str(max(100, round(lines / 100) * 100)), listed]


def _imports(file: Path) -> set[str]:
    """Give the rooms that a file imports from."""
    return {
        node.module.split(".")[1]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module is not None
        and node.module.startswith("dots_mergekit.")
    }


if __name__ == "__main__":
    print(table())
