"""The rules of the house: who may import whom, what stays light, where versions come from."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import rooms
from packaging.requirements import Requirement

import dots_mergekit
from dots_mergekit import autoload

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dots_mergekit"
MODULES = sorted(PACKAGE.rglob("*.py"))

COMMANDS = ("analyze", "check", "eval", "queries", "reproduce", "share", "tune")

LAYERS = (
    {*("errors", "messages", "files", "foreign", "templates", "template_process")}
    | {"progress", "logs", "threads", "schema"},
    {"merging"},
    {"recipe"},
    {"checking", "answers"},
    {"objectives", "backends", "workers"},
    {"tuning", "evaluation", "analysis"},
    {"sharing"},
    {"api"},
    {"cli"},
)
"""A room may import those of the layers below it, and none of its own layer but itself.

The ground, which comes first, is one room in many files.
"""

OUTSIDE = {
    # The rooms of its public names, for type checkers alone: that it stays light is tested below.
    "__init__": {"autoload", "api", "errors", "merging", "progress", "recipe"},
    "autoload": {"merging"},
    "__main__": {"autoload", "merging"},
}
"""The files that make mergekit know the method, with all that each of them may import."""

BEYOND = {
    "errors.py": set[str](),
    "files.py": set[str](),
    "foreign.py": set[str](),
    "messages.py": set[str](),
    "threads.py": set[str](),
    "schema.py": {"pydantic", "pydantic_core"},
    "merging/kernel.py": {"torch"},
    "autoload.py": set[str](),
    "__init__.py": set[str](),
    "backends/__init__.py": set[str](),
    "objectives/__init__.py": set[str](),
    "tuning/choice.py": set[str](),
    "tuning/front.py": set[str](),
}
"""Files that import little from outside the package: what, besides the standard library."""


def room(module: Path) -> str:
    """The room a file belongs to: its own name, or the folder's where the room is a folder."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module: Path) -> Iterator[str]:
    """The full names of what a file imports, at its top or anywhere in it."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def identify(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


def allowed(here: str) -> set[str]:
    """The rooms that a room may import."""
    if here in OUTSIDE:
        return OUTSIDE[here]
    floor = next((number for number, layer in enumerate(LAYERS) if here in layer), None)
    assert floor is not None, f"{here} has no place in the layers yet: give it one"
    own = LAYERS[0] if floor == 0 else {here}
    return set[str]().union(own, {"autoload"}, *LAYERS[:floor])


@pytest.mark.parametrize("module", MODULES, ids=identify)
def test_a_room_imports_from_the_layers_below_it_alone(module: Path) -> None:
    """Rooms of one layer do not know each other."""
    parts = [name.split(".") for name in imports(module)]
    # `from dots_mergekit import Recipe` would go through the front door; inside, name the room.
    used = {name[1] for name in parts if name[0] == "dots_mergekit" and len(name) > 1}
    used -= {"__version__"}
    refused = used - allowed(room(module))
    assert not refused, f"{room(module)} may not import {sorted(refused)}"


@pytest.mark.parametrize("name", BEYOND)
def test_files_that_many_import_import_next_to_nothing(name: str) -> None:
    used = {full.split(".")[0] for full in imports(PACKAGE / name)}
    beyond = used - set(sys.stdlib_module_names) - {"dots_mergekit"}
    assert beyond <= BEYOND[name]


FORBIDDEN: Mapping[str, set[str]] = {
    # The search knows that there is a scorer, not which; a live model is no model of lm-eval's.
    "tuning": {"lm_eval", "vllm", "transformers", "dots_mergekit.objectives.harness"},
    "evaluation": {"optuna", "sqlalchemy"},
    "cli": {"torch", "optuna", "mergekit", "lm_eval", "transformers", "dots_mergekit.recipe"},
}
"""What a room leaves to others."""


@pytest.mark.parametrize("module", MODULES, ids=identify)
def test_a_room_leaves_to_others_what_is_theirs(module: Path) -> None:
    for name in imports(module):
        for other in FORBIDDEN.get(room(module), set()):
            reader = module.name == "sources.py" and other == "lm_eval"  # tasks as queries
            assert reader or not f"{name}.".startswith(f"{other}."), name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_calls_the_api_alone(name: str) -> None:
    """Besides what it parses with: names of backends, baselines and benchmarks, and the schema."""
    module = PACKAGE / "cli" / f"{name}.py"
    own = {
        "cli",
        "api",
        "backends.BACKENDS",
        "evaluation.baselines.BASELINES",
        "evaluation.baselines.USUAL",
        "evaluation.benchmarks.sources.sources",
    }
    for full in imports(module):
        place = full.removeprefix("dots_mergekit.")
        types = "tuning.outcome"  # of what is printed, for type checkers
        if place != full and not place.startswith(types):
            assert place in own or place.split(".")[0] in own, full


@pytest.mark.parametrize("module", MODULES, ids=identify)
def test_every_module_begins_by_saying_in_one_line_what_it_is(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert docstring, "no docstring"
    first, *rest = docstring.splitlines()
    assert first.endswith((".", ":"))
    assert not rest or rest[0] == ""


HEAVY = {"torch", "mergekit", "transformers", "optuna", "lm_eval", "vllm", "yaml", "pydantic"}
LIGHT = ["dots_mergekit", *(f"dots_mergekit.cli.{name}" for name in COMMANDS)]


@pytest.mark.parametrize("module", LIGHT)
def test_what_every_start_and_every_help_imports_is_light(module: str) -> None:
    program = f"import {module}, sys; print(sorted({HEAVY} & set(sys.modules)))"
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "[]\n"


def test_every_public_name_is_where_the_package_says() -> None:
    for name in dots_mergekit.__all__:
        assert getattr(dots_mergekit, name) is not None
    assert set(dots_mergekit.__all__) <= set(dir(dots_mergekit))


def test_the_contributors_page_lists_the_rooms_as_they_are() -> None:
    """If it does not, put in what `python tests/rooms.py` prints."""
    page = (PACKAGE / "README.md").read_text(encoding="utf-8")
    assert rooms.table() in page


@pytest.mark.parametrize("module", MODULES, ids=identify)
def test_files_and_functions_stay_short(module: Path) -> None:
    """A file is at most 400 lines, and a function a screen of 50, its docstring not counted."""
    text = module.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            told = (ast.get_docstring(node, clean=False) or "").splitlines()
            assert node.end_lineno - node.lineno + 1 - len(told) <= 50, node.name


def installed() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution("dots-mergekit")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("dots-mergekit is not installed here")


def test_the_version_is_the_one_that_was_installed() -> None:
    assert installed().version == dots_mergekit.__version__


def test_where_the_package_is_installed_the_source_folder_is_not_what_is_tested() -> None:
    """Otherwise a file that the wheel lacks would go unnoticed."""
    files = [str(file) for file in installed().files or ()]
    if "dots_mergekit/__init__.py" not in files:
        pytest.skip("the install is editable: the source folder is the package")
    assert not Path(dots_mergekit.__file__).is_relative_to(ROOT)


def test_the_start_up_message_asks_for_the_mergekit_that_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert autoload.REQUIREMENT in project["dependencies"]


def test_constraints_satisfy_what_is_pinned_and_pin_everything_that_is_asked_for() -> None:
    """An install with `-c constraints.txt` can then neither fail on a pin nor drift."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["test"] + extras["dev"]
    pins = {
        name.lower().replace("_", "-"): version
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
        for name, _, version in [line.partition("==")]
    }
    for requirement in map(Requirement, wanted):
        if requirement.name != "dots-mergekit":
            assert pins[requirement.name.lower().replace("_", "-")] in requirement.specifier
