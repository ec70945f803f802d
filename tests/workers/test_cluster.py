"""What each worker gets of a cluster, and what is said of workers that cannot be."""

from __future__ import annotations

import importlib.util
import re
import sys
from typing import Any

import pytest

from dots_mergekit.api import tune
from dots_mergekit.errors import DotsError
from dots_mergekit.workers.cluster import Share, Wish, share_of

SMALL = {"CPU": 4.0}
LARGE = {"CPU": 64.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("wish", "wide", "nodes", "share"),
    [
        (Wish(2), 1, [{"CPU": 2.0}], Share(0.0, 1, 2)),
        (Wish(1), 1, [{"CPU": 8.0}], Share(0.0, 8, 1)),
        (Wish(3), 1, [{"CPU": 8.0}], Share(0.0, 2, 3)),
        (Wish(3, "auto"), 1, [SMALL, SMALL], Share(0.0, 2, 3)),
        (Wish(None, "auto"), 1, [SMALL, SMALL], Share(0.0, 1, 8)),
        (Wish(None, "auto", threads=2), 1, [SMALL, SMALL], Share(0.0, 2, 4)),
        (Wish(8), 1, [LARGE], Share(1.0, 8, 8)),
        (Wish(None, "auto"), 2, [SMALL, LARGE, LARGE], Share(2.0, 16, 8)),
        (Wish(None, "auto", gpus=0.5), 1, [LARGE], Share(0.5, 4, 16)),
        (Wish(2, gpus=0), 1, [LARGE], Share(0.0, 32, 2)),
    ],
)
def test_cores_and_gpus_are_divided(
    wish: Wish, wide: int, nodes: list[dict[str, float]], share: Share
) -> None:
    assert share_of(wish, wide, nodes) == share


@pytest.mark.parametrize(
    ("wish", "nodes", "message"),
    [
        (Wish(1, gpus=1), [SMALL], "1 GPUs, and no node has more than 0"),
        (Wish(1, gpus=16), [LARGE, LARGE], "16 GPUs, and no node has more than 8"),
        (Wish(1, "auto", threads=8), [SMALL], "8, and no node has more than 4 cores"),
    ],
)
def test_workers_that_no_node_has_room_for_are_refused(
    wish: Wish, nodes: list[dict[str, float]], message: str
) -> None:
    with pytest.raises(DotsError, match=message):
        share_of(wish, 1, nodes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "`workers`: a whole number of at least 1 is needed; found 0"),
        ({"workers": 2, "threads": 0}, "`threads`: a whole number of at least 1"),
        ({"workers": 2, "gpus_per_worker": 1.5}, "`gpus_per_worker`: a share below 1 or a whole"),
        ({"workers": 2, "gpus_per_worker": -1}, "`gpus_per_worker`: a share below 1 or a whole"),
        ({"ray_address": "ray://head:10001"}, "`ray_address`: HOST:PORT or auto is needed"),
        ({"ray_address": "head"}, "`ray_address`: HOST:PORT or auto is needed"),
        ({"gpus_per_worker": 1}, "`gpus_per_worker` goes with `workers` or `ray_address`"),
        ({"synchronous": True}, "`synchronous` goes with `workers` or `ray_address`"),
        ({"ray_address": "auto", "synchronous": True}, "`synchronous` begins `workers` trials"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_read(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(DotsError, match=re.escape(message)):
        tune("no such recipe.yml", **given)


def test_without_ray_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name == "ray" else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    with pytest.raises(DotsError, match=re.escape('pip install "dots-mergekit[ray]"')):
        tune("no such recipe.yml", workers=2)
