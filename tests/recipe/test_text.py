"""Reading a text: what is refused, and where it is said to stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from dots_mergekit.errors import RecipeError
from dots_mergekit.recipe import Recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [", "line 1"),
        ("a: 1\nb: : 2\n", "line 2"),
        ("", "found nothing"),
        ("- 1\n", "found a list"),
        ("dtype: float32\nmodels: []\ndtype: bfloat16\n", "line 3: the key `dtype`"),
        ("models: &m\n  - *m\n", "contains it"),
        ("a: 1\n---\nb: 2\n", "line 2"),
        ("a: \x00", "not YAML"),
    ],
)
def test_broken_yaml_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    """What is not one YAML mapping is refused in one sentence with its place."""
    file = tmp_path / "broken.yml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"broken\.yml") as caught:
        Recipe.read(file)
    assert message in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing, foreign or directory path is a RecipeError that names it."""
    (tmp_path / "latin.yml").write_bytes(b"a: \xe9")
    for name in ("missing.yml", "latin.yml", "."):
        with pytest.raises(RecipeError, match="cannot read the recipe"):
            Recipe.read(tmp_path / name)
