"""The pictures: what is drawn, in words that can be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from dots_mergekit.evaluation.plots import PICTURES
from dots_mergekit.evaluation.table import Row, Table
from dots_mergekit.evaluation.tasks import Benchmark

A, B = (Benchmark(name, name.upper()) for name in "ab")
GROUP = Benchmark("g", "group", (A, B))


def scores(**right: int) -> dict[str, Any]:
    return {task: (np.arange(40) < count).astype(float) for task, count in right.items()}


TABLE = Table(
    (
        Row("base", "base", scores(a=4, b=8)),
        Row("sft", "source", scores(a=10, b=36)),
        Row("rlvr", "source", scores(a=40, b=8)),
        Row("best", "recipe", scores(a=30, b=36)),
        Row("ties-1", "baseline", scores(a=29, b=36)),
        Row("dare-1", "baseline", scores(a=4, b=36), seed=3),
        Row("dare-1", "baseline", scores(a=5, b=36), seed=4),
    ),
    (GROUP,),
    3,
    {},
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is written."""
    figures: list[Figure] = []
    save = Figure.savefig

    def kept(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", kept)
    return figures


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_a_png(name: str) -> None:
    assert PICTURES[name](TABLE).startswith(b"\x89PNG\r\n")


def test_accuracy_has_a_panel_for_each_column_and_fills_what_is_no_noise(
    drawn: list[Figure],
) -> None:
    PICTURES["accuracy.png"](TABLE)
    panels = drawn[0].axes
    assert [axes.get_title() for axes in panels] == ["group", "A", "B"]
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert names == ["base", "sft", "rlvr", "best", "ties-1", "dare-1, seed 3", "dare-1, seed 4"]
    markers: list[Any] = [
        line for line in panels[0].get_lines() if str(line.get_marker()) in "o^Ds"
    ]
    assert [line.get_xdata()[0] for line in markers] == pytest.approx(
        [15, 57.5, 60, 82.5, 81.25, 50, 51.25]
    )
    filled = [line.get_markerfacecolor() != "white" for line in markers]
    assert filled == [True, True, True, True, False, True, True]
    (caption,) = [legend.get_title().get_text() for legend in drawn[0].legends]
    assert "differs from best by more than noise" in caption


def test_kept_tells_the_share_of_the_best_parent(drawn: list[Figure]) -> None:
    PICTURES["kept.png"](TABLE)
    (axes,) = drawn[0].axes
    shares = [text.get_text() for text in axes.texts]
    assert shares == ["75%", "100%", "138%"]  # 30 of 40, 36 of 36, 82.5 of 60
    drawn_lines: list[Any] = list(axes.get_lines())
    lines = {str(line.get_label()): list(line.get_ydata()) for line in drawn_lines}
    assert list(lines) == ["base", "sft", "rlvr", "best"]
    assert lines["rlvr"] == pytest.approx([100, 20, 60])
    dashes = {str(line.get_linestyle()) for line in axes.get_lines()}
    assert len({(line.get_color(), line.get_marker()) for line in axes.get_lines()}) == 4
    assert len(dashes) > 2, "told apart in print, too"


def test_models_alone_have_pictures_too() -> None:
    rows = tuple(Row(name, "model", scores(a=n, b=n)) for n, name in ((20, "x"), (0, "y")))
    table = Table(rows, (GROUP,), 0, {})
    for draw in PICTURES.values():
        assert draw(table).startswith(b"\x89PNG")
    alone = Table(rows[1:], (A,), 0, {})
    for draw in PICTURES.values():
        assert draw(alone).startswith(b"\x89PNG")
