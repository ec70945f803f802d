"""What runs at Python's start-up: tried in real environments, each made here and thrown away."""

from __future__ import annotations

import os
import pkgutil
import shutil
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkpoints import read_tensors, write_checkpoint

from dots_mergekit import autoload
from dots_mergekit.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
START_UP_FILES = ("dots_mergekit.pth", "dots_mergekit.start")

ASK_FOR_DOTS = "from mergekit.merge_methods import get; print(get('dots').spec.name)"
"""A program that has never heard of us."""

WAITING = "import sys; print(sum('dots_mergekit' in type(f).__module__ for f in sys.meta_path))"
"""Prints how many of our hooks are waiting."""

COUNT_REGISTRATIONS = """
import sys, types
stub = types.ModuleType("dots_mergekit.merging.method")
registrations = []
class Counting:
    def find_spec(self, name, path=None, target=None):
        if name == "dots_mergekit.merging.method":
            from importlib.machinery import ModuleSpec
            return ModuleSpec(name, self)
    def create_module(self, spec):
        registrations.append("mergekit.merge_methods" in sys.modules)
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Counting())
"""
"""Puts a stand-in in the place of our method module, so that these need neither torch nor mergekit.

`registrations` then holds one entry for each registration.
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and how to run Python in it."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        return next(self.folder.glob("lib/python*/site-packages"))

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python with nothing of this process's own Python settings."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PYTHON") and name != autoload.SWITCH
        }
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder,  # not the repository: `-c` and `-m` put it on the path
            env=inherited | {"HF_HUB_OFFLINE": "1"} | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def pip(self, *arguments: str) -> None:
        """Run this process's pip on the environment, without network."""
        completed = subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(self.python), *arguments],
            cwd=self.folder,
            env=os.environ | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr

    def install(self, kind: str, wheel: Path) -> None:
        offline = ("install", "--no-deps", "--no-index", "--no-build-isolation")
        if kind == "editable":
            self.pip(*offline, "--editable", str(ROOT))
        else:
            self.pip(*offline, str(wheel))

    def installed(self) -> list[str]:
        """The names of ours at the root of site-packages."""
        return sorted(path.name for path in self.site.glob("*dots_mergekit*"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is installed here, but for us and for what runs at start-up.

    An environment that names this folder in a `.pth` file of its own has mergekit, torch and the
    rest without another gigabyte. To name our own site-packages instead would leave
    `dots_mergekit` importable where it is not installed.
    """
    folder = tmp_path_factory.mktemp("libraries")
    for place in map(Path, sys.path):
        if place.name in ("site-packages", "dist-packages"):
            for entry in place.iterdir():
                ours = entry.name.lstrip("_").startswith("dots_mergekit")
                runs = entry.suffix in (".pth", ".start")
                if not ours and not runs and not (folder / entry.name).exists():
                    (folder / entry.name).symlink_to(entry)
    return folder


def make(folder: Path, libraries: Path | None = None) -> Environment:
    venv.create(folder, with_pip=False, symlinks=True)
    environment = Environment(folder)
    if libraries is not None:
        (environment.site / "libraries.pth").write_text(f"{libraries}\n")
    return environment


@pytest.fixture(scope="module")
def installed(
    tmp_path_factory: pytest.TempPathFactory, wheel: Path, libraries: Path
) -> Environment:
    environment = make(tmp_path_factory.mktemp("installed"), libraries)
    environment.install("wheel", wheel)
    return environment


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment with our wheel and nothing else: not even mergekit."""
    environment = make(tmp_path_factory.mktemp("bare"))
    environment.install("wheel", wheel)
    return environment


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with a mergekit whose merge methods are an empty file."""
    package = tmp_path / "fake" / "mergekit" / "merge_methods"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    return tmp_path / "fake"


def test_the_wheel_holds_the_package_and_the_two_files_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = next(name for name in names if name.endswith(".dist-info/RECORD"))
        recorded = {line.split(",")[0] for line in archive.read(record).decode().splitlines()}
        top = {name.split("/")[0] for name in names}
    assert set(START_UP_FILES) <= recorded
    assert top == {"dots_mergekit", *START_UP_FILES, record.split("/")[0]}


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_an_install_makes_mergekit_know_dots_and_an_uninstall_undoes_it(
    kind: str, tmp_path: Path, wheel: Path, libraries: Path
) -> None:
    environment = make(tmp_path / "venv", libraries)
    environment.install(kind, wheel)
    assert set(START_UP_FILES) <= set(environment.installed())
    known = environment.run("-c", ASK_FOR_DOTS)
    assert (known.returncode, known.stdout) == (0, "dots\n"), known.stderr

    environment.pip("uninstall", "--yes", "dots-mergekit")
    assert environment.installed() == []
    ask = "import importlib.util; print(importlib.util.find_spec('dots_mergekit')); "
    unknown = environment.run("-c", ask + ASK_FOR_DOTS)
    assert unknown.stdout == "None\n"
    assert unknown.stderr.endswith("RuntimeError: Unimplemented merge method dots\n")


def test_mergekits_own_commands_merge_with_it_and_ours_does_under_dash_s(
    installed: Environment, libraries: Path, tmp_path: Path
) -> None:
    """`python -S` reads no start-up file: PYTHONPATH says where the packages are."""
    base = write_checkpoint(tmp_path / "base")
    tuned = write_checkpoint(tmp_path / "tuned", seed=1, shift_from=base)
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        f"merge_method: dots\nbase_model: {base}\ndtype: bfloat16\n"
        f"models: [{{model: {tuned}, parameters: {{weight: 1.0}}}}]\n"
    )
    stock, ours = tmp_path / "stock", tmp_path / "ours"
    by_them = installed.run("-m", "mergekit.scripts.run_yaml", str(recipe), str(stock))
    assert by_them.returncode == 0, by_them.stderr

    path = os.pathsep.join(map(str, (installed.site, libraries)))
    command = ("merge", str(recipe), str(ours), "--lazy-unpickle")
    by_us = installed.run("-S", "-m", "dots_mergekit", *command, PYTHONPATH=path)
    assert by_us.returncode == 0, by_us.stderr

    expected, merged = read_tensors(stock), read_tensors(ours)
    assert expected.keys() == merged.keys()
    assert all(tensor.equal(merged[name]) for name, tensor in expected.items())


@pytest.mark.parametrize(("value", "waiting"), [("0", 0), ("1", 1), ("", 1), ("no", 1)])
def test_only_zero_switches_it_off(bare: Environment, value: str, waiting: int) -> None:
    completed = bare.run("-c", WAITING, **{autoload.SWITCH: value})
    assert (completed.stdout, completed.stderr) == (f"{waiting}\n", "")


def test_switched_off_mergekit_does_not_know_it_unless_our_method_is_imported(
    installed: Environment,
) -> None:
    off = {autoload.SWITCH: "0"}
    unknown = installed.run("-c", f"import dots_mergekit; {ASK_FOR_DOTS}", **off)
    assert unknown.stderr.endswith("RuntimeError: Unimplemented merge method dots\n")
    known = installed.run("-c", f"import dots_mergekit.merging.method; {ASK_FOR_DOTS}", **off)
    assert known.stdout == "dots\n"


@pytest.mark.parametrize(
    ("flags", "waiting"), [((), 1), (("-I",), 1), (("-E", "-s"), 1), (("-S",), 0)]
)
def test_it_runs_where_python_reads_start_up_files(
    bare: Environment, flags: tuple[str, ...], waiting: int
) -> None:
    completed = bare.run(*flags, "-c", WAITING)
    assert (completed.stdout, completed.stderr) == (f"{waiting}\n", "")


@pytest.mark.parametrize(
    "first",
    [
        "import dots_mergekit",
        "import mergekit.merge_methods, dots_mergekit",
        "import dots_mergekit.merging.method",
    ],
)
def test_importing_us_is_enough_in_any_order(
    installed: Environment, libraries: Path, first: str
) -> None:
    path = os.pathsep.join(map(str, (installed.site, libraries)))
    completed = installed.run("-S", "-c", f"{first}; {ASK_FOR_DOTS}", PYTHONPATH=path)
    assert (completed.returncode, completed.stdout) == (0, "dots\n"), completed.stderr
    assert "dots_mergekit" not in completed.stderr


def test_an_old_mergekit_works_and_one_line_says_what_to_upgrade(
    installed: Environment, fake: Path
) -> None:
    completed = installed.run(
        "-c", "import mergekit.merge_methods; print('alive')", PYTHONPATH=str(fake)
    )
    assert (completed.returncode, completed.stdout) == (0, "alive\n")
    (line,) = completed.stderr.splitlines()
    assert str(fake / "mergekit" / "merge_methods" / "__init__.py") in line
    assert "ImportError: cannot import name" in line
    assert line.endswith(f'pip install "{autoload.REQUIREMENT}"')


def test_our_own_command_says_the_same_once_and_exits_with_2(
    installed: Environment, fake: Path
) -> None:
    scripts = fake / "mergekit" / "scripts"
    scripts.mkdir()
    (scripts / "run_yaml.py").write_text("import mergekit.merge_methods\ndef main(): ...\n")
    command = ("-m", "dots_mergekit", "merge", "recipe.yml", "out")
    completed = installed.run(*command, PYTHONPATH=str(fake))
    (line,) = completed.stderr.splitlines()
    assert completed.returncode == 2
    assert line.endswith(f'pip install "{autoload.REQUIREMENT}"')


@pytest.mark.parametrize("broken", ["mergekit", "mergekit/merge_methods"])
def test_an_error_in_mergekits_own_import_passes_unchanged(
    bare: Environment, fake: Path, broken: str
) -> None:
    (fake / broken / "__init__.py").write_text("raise LookupError('of their own')\n")
    completed = bare.run("-c", "import mergekit.merge_methods", PYTHONPATH=str(fake))
    assert completed.returncode == 1
    assert completed.stderr.endswith("\nLookupError: of their own\n")
    assert "is not available" not in completed.stderr


def test_a_second_attempt_to_import_mergekit_is_awaited_too(bare: Environment, fake: Path) -> None:
    (fake / "mergekit/merge_methods/__init__.py").write_text(
        "import sys\nif not hasattr(sys, 'mended'): raise LookupError\n"
    )
    program = f"""{COUNT_REGISTRATIONS}
try:
    import mergekit.merge_methods
except LookupError:
    sys.mended = True
assert registrations == []
import mergekit.merge_methods
assert registrations == [True]
"""
    completed = bare.run("-c", program, PYTHONPATH=str(fake))
    assert (completed.returncode, completed.stderr) == (0, "")


def test_nothing_but_our_two_modules_is_imported_at_start_up(
    bare: Environment, tmp_path: Path
) -> None:
    def imported(environment: Environment) -> set[str]:
        report = environment.run("-X", "importtime", "-c", "pass").stderr
        return {line.split("|")[-1].strip() for line in report.splitlines()}

    ours = imported(bare) - imported(make(tmp_path / "without"))
    # Python 3.13 reads every `.pth` file by that codec.
    assert ours - {"__future__", "encodings.utf_8_sig"} == {
        "dots_mergekit",
        "dots_mergekit.autoload",
    }


def test_start_up_is_silent_where_nothing_else_is_installed(bare: Environment) -> None:
    completed = bare.run("-c", "pass")
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
    missing = bare.run("-c", "import mergekit.merge_methods")
    assert missing.stderr.endswith("ModuleNotFoundError: No module named 'mergekit'\n")


@pytest.mark.parametrize("minor", [11, 12, 13, 14, 15])
def test_start_up_is_silent_on_other_pythons(tmp_path: Path, wheel: Path, minor: int) -> None:
    other = shutil.which(f"python3.{minor}")
    command = (other or "", "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    if other is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip(f"no Python 3.{minor} on this machine")
    environment = Environment(tmp_path / "venv")
    environment.install("wheel", wheel)
    completed = environment.run("-c", WAITING)
    assert (completed.stdout, completed.stderr) == ("1\n", "")


def test_the_start_file_names_what_the_pth_file_calls(bare: Environment) -> None:
    """Python 3.15 reads the one, older ones the other; where both are read, twice is as once."""
    import_line = (bare.site / "dots_mergekit.pth").read_text()
    lines = (bare.site / "dots_mergekit.start").read_text().splitlines()
    (entry,) = [line for line in lines if not line.startswith("#")]
    assert import_line == "import dots_mergekit.autoload; dots_mergekit.autoload.install()\n"
    assert pkgutil.resolve_name(entry) is autoload.install
    completed = bare.run("-c", f"import pkgutil; pkgutil.resolve_name({entry!r})(); {WAITING}")
    assert (completed.stdout, completed.stderr) == ("1\n", "")


def test_the_hook_goes_away_and_leaves_the_module_as_it_is_without_us(
    bare: Environment, fake: Path
) -> None:
    """Its loader is its own while it runs and after; a reload runs it and registers no more."""
    (fake / "mergekit/merge_methods/__init__.py").write_text(
        "assert 'SourceFileLoader' in repr(__loader__) and __spec__.loader is __loader__\n"
    )
    program = f"""{COUNT_REGISTRATIONS}
import importlib.util
spec = importlib.util.find_spec("mergekit.merge_methods")
assert "assert" in spec.loader.get_source(spec.name)
import mergekit.merge_methods as loaded
importlib.reload(loaded)
assert 'SourceFileLoader' in repr(loaded.__loader__) and loaded.__spec__.loader is loaded.__loader__
assert registrations == [True]
{WAITING}
"""
    completed = bare.run("-c", program, PYTHONPATH=str(fake))
    assert (completed.stdout, completed.stderr) == ("0\n", "")


def test_a_mergekit_in_a_zip_file_is_awaited(bare: Environment, fake: Path) -> None:
    archive = shutil.make_archive(str(fake / "library"), "zip", fake, "mergekit")
    program = (
        f"{COUNT_REGISTRATIONS}\nimport mergekit.merge_methods\nassert registrations == [True]"
    )
    completed = bare.run("-c", program, PYTHONPATH=archive)
    assert (completed.returncode, completed.stderr) == (0, "")


def test_a_mergekit_from_anothers_finder_is_awaited(bare: Environment, fake: Path) -> None:
    """Editable installs of other packages bring finders, before ours and behind it."""
    for place in ("sys.meta_path.insert(0, Others())", "sys.meta_path.append(Others())"):
        program = f"""{COUNT_REGISTRATIONS}
from importlib.util import spec_from_file_location
class Others:
    def find_spec(self, name, path=None, target=None):
        folder = {str(fake)!r} + "/" + name.replace(".", "/")
        if name.startswith("mergekit"):
            return spec_from_file_location(
                name, folder + "/__init__.py", submodule_search_locations=[]
            )
{place}
import mergekit.merge_methods
assert len(registrations) == {0 if "insert" in place else 1}
import dots_mergekit.autoload
dots_mergekit.autoload.install()
assert registrations == [True]
"""
        completed = bare.run("-c", program)
        assert (completed.returncode, completed.stderr) == (0, "")


def test_what_is_left_of_an_uninstalled_mergekit_is_not_taken_for_one(
    bare: Environment, tmp_path: Path
) -> None:
    (tmp_path / "left" / "mergekit" / "merge_methods").mkdir(parents=True)
    program = f"{COUNT_REGISTRATIONS}\nimport mergekit.merge_methods\nassert registrations == []"
    completed = bare.run("-c", program, PYTHONPATH=str(tmp_path / "left"))
    assert (completed.returncode, completed.stderr) == (0, "")


def test_threads_that_import_at_once_register_once(bare: Environment, fake: Path) -> None:
    (fake / "mergekit/merge_methods/__init__.py").write_text("import time; time.sleep(0.1)\n")
    program = f"""{COUNT_REGISTRATIONS}
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
names = ["mergekit.merge_methods", "json", "decimal", "mergekit.merge_methods"] * 4
with ThreadPoolExecutor(16) as pool:
    assert [module.__name__ for module in pool.map(import_module, names)] == names
assert registrations == [True]
{WAITING}
"""
    completed = bare.run("-c", program, PYTHONPATH=str(fake))
    assert (completed.stdout, completed.stderr) == ("0\n", "")


def test_our_command_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("merge RECIPE OUT", "merge_method: dots", "dots-check"))


@pytest.mark.parametrize(
    ("arguments", "named"), [(["marge", "a", "b"], "'marge'"), ([], "a command is missing")]
)
def test_an_unknown_command_exits_with_2_and_names_the_one_there_is(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert named in message
    assert "merge RECIPE OUT" in message


def test_its_options_and_errors_are_mergekits(installed: Environment) -> None:
    refused = installed.run("-m", "dots_mergekit", "merge", "--lazy-unpickl")
    assert refused.returncode == 2
    assert "Usage: python -m dots_mergekit merge" in refused.stderr
    assert "--lazy-unpickle" in refused.stderr
