"""A disk that is full, wherever something is written: said, nothing lost, gone on with.

The study has a test of its own, beside those of its room.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoints import write_triple
from disks import resized
from evaluations import CHECKPOINTS, settings, untimed

from dots_mergekit.api import select_queries
from dots_mergekit.errors import DotsError
from dots_mergekit.evaluation.evaluate import evaluate
from dots_mergekit.progress import Silent
from dots_mergekit.recipe.mergekit import write_merge
from recipes import recipe_of


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("over", [False, True])
def test_a_merge(tmp_path: Path, disk: Path, over: bool) -> None:
    """What was there is as it was, byte for byte, until the merge is whole."""
    world = write_triple(tmp_path)
    recipe, other = recipe_of(world, (0.5, 0.5)), recipe_of(world)
    write_merge(recipe, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    size = sum(map(len, whole.values())) // 1024
    base = 0
    if over:
        resized(disk, base := 2 * size)
        write_merge(other, disk / "out")
    before = contents(disk)
    failures = 0
    for part in range(1, 40):
        resized(disk, base + part * size // 8)
        try:
            write_merge(recipe, disk / "out", overwrite=over)
            break
        except DotsError as error:
            said = str(error)
            assert said.startswith(f"cannot write the merge into {disk / 'out'}: ")
            assert "No space left on device; make room there" in said
            assert contents(disk) == before
            failures += 1
    assert failures > (0 if over else 5)
    assert contents(disk / "out") == whole


def test_an_evaluation(tmp_path: Path, disk: Path) -> None:
    """Room for one file more each time: results, samples, tables."""
    asked = settings(disk / "results", models=(str(CHECKPOINTS / "sft"),))
    failures = set()
    for kilobytes in range(4, 400, 4):
        resized(disk, kilobytes)
        try:
            table = evaluate(asked, Silent())
            break
        except DotsError as error:
            place, _, why = str(error).partition(": ")
            assert why == "No space left on device"
            failures.add(place.rpartition("/")[2].split("_")[0])
    assert failures >= {"samples", "results", "table.md", "table.csv"}
    undisturbed = settings(tmp_path / "whole", models=(str(CHECKPOINTS / "sft"),))
    again = evaluate(undisturbed, Silent())
    assert untimed(table).markdown() == untimed(again).markdown()
    assert untimed(table).csv() == untimed(again).csv()
    found, wanted = contents(disk / "results"), contents(tmp_path / "whole")
    assert found.keys() == wanted.keys()
    # These tell how long it took.
    timed = {name for name in found if "results_" in name or name.startswith("table.")}
    assert all(found[name] == wanted[name] for name in found.keys() - timed)


def test_a_pool(tmp_path: Path, disk: Path) -> None:
    source = tmp_path / "source.txt"
    source.write_text("\n".join(f"{i} + {i} = ?" for i in range(500)))
    out = disk / "pool.jsonl"
    select_queries(str(source), out, size=2)
    before = contents(disk)
    with pytest.raises(DotsError, match=r"cannot write .*pool\.jsonl: No space left on device"):
        select_queries(str(source), out, size=400)
    assert contents(disk) == before
    resized(disk, 100)
    assert len(select_queries(str(source), out, size=400)) == 400
    assert len(out.read_text().splitlines()) == 400
