"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import dots_mergekit

ROOT = Path(__file__).resolve().parents[1]

# Needs vLLM to be imported; nothing in there has an example.
_APART = "dots_mergekit.backends.vllm"

MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(dots_mergekit.__path__, "dots_mergekit.")
    if not found.name.startswith((_APART, "dots_mergekit.evaluation.benchmarks"))
    and not found.name.endswith("__main__")
)


def examples(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for test in examples(name):
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        runner.run(test)
        assert runner.failures == 0, test.name


def test_there_are_examples() -> None:
    """Else the test above would find nothing and say that all is well."""
    assert sum(len(examples(name)) for name in MODULES) >= 15
