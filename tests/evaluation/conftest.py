"""One whole evaluation, which several tests look at."""

from __future__ import annotations

import pytest
from evaluations import Seen, settings, write_recipe

from dots_mergekit.evaluation.baselines import USUAL
from dots_mergekit.evaluation.evaluate import Evaluation, evaluate
from dots_mergekit.evaluation.table import Table


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Table]:
    """A whole evaluation with baselines, two seeds for the random ones."""
    folder = tmp_path_factory.mktemp("full")
    recipe = write_recipe(folder / "mine.yml")
    given = settings(folder / "results", recipe, baselines=USUAL, mask_seeds=(0, 1), limit=20)
    return given, evaluate(given, Seen())
