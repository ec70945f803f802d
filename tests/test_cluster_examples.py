"""The examples of clusters: they can be read, and each command in them runs, as far as it can."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dots_mergekit.cli.tune import main

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples" / "cluster"
SLURM = EXAMPLES / "slurm.sh"
KUBERAY = EXAMPLES / "kuberay.yml"


def commands() -> list[tuple[str, list[str]]]:
    """Every command of ours in an example, with where it stands."""
    found = []
    for path in sorted(EXAMPLES.iterdir()):
        text = path.read_text().replace("\\\n", " ")
        for match in re.finditer(r"(?<![#\w-])\s(dots-[a-z]+ --.*)", text):
            found.append((path.name, shlex.split(match[1])))
    return found


def test_every_example_has_a_command_of_ours() -> None:
    assert {name for name, _ in commands()} == {path.name for path in EXAMPLES.iterdir()}


@pytest.mark.parametrize(("name", "command"), commands())
def test_a_command_runs_in_dry_form(
    name: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the quickstart's recipe in place of the user's."""
    monkeypatch.chdir(ROOT)
    program, *options = command
    assert program == "dots-tune"
    options[options.index("--recipe") + 1] = "recipes/quickstart.yml"
    options[options.index("--out") + 1] = str(tmp_path / "study")
    assert main([*options, "--dry-run"]) == 0
    assert "workers: as many as have room of the Ray cluster auto" in capsys.readouterr().out


def test_the_script_for_slurm_is_sound() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SLURM)], check=True)
    ray = re.search(r"ray (symmetric-run .*?) -- ", SLURM.read_text())
    assert ray is not None
    words = re.findall(r"--[a-z-]+", ray[1])
    said = subprocess.run(
        [Path(sys.executable).with_name("ray"), "symmetric-run", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert words and all(word in said for word in words)


def test_the_job_for_kuberay_is_sound() -> None:
    job = yaml.safe_load(KUBERAY.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        spec = group["template"]["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["image"] and container["resources"]["limits"]
    assert all(
        group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        for group in cluster["workerGroupSpecs"]
    )
