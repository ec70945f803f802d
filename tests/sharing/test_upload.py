"""The upload, against a Hub on loopback: all of it arrives, once, or one line says why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants
from loopback_hub import READER, WRITER, Hub, running, speak_to
from shared_merges import write_merge

from dots_mergekit.cli.reproduce import main as reproduce
from dots_mergekit.cli.share import main as share
from dots_mergekit.recipe import Recipe

NAMES = ("base", "sft", "rlvr")
NAME = "jane/merge"


@pytest.fixture(params=["lfs", "ordinary"])
def hub(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """A Hub; with LFS as where Xet is switched off, without through the client's own batches."""
    with running(Hub(lfs=request.param == "lfs")) as served:
        speak_to(served, tmp_path / "cache", monkeypatch)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's tries
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield served


@pytest.fixture(scope="session")
def made(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_merge(folder, {name: models / name for name in NAMES})
    return folder / "out"


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


def held(out: Path) -> dict[str, bytes]:
    """The files of a folder, but for what stays at home."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def arrived(hub: Hub, name: str = NAME) -> dict[str, bytes]:
    return {path: one for path, one in hub.files(name).items() if path != ".gitattributes"}


def test_all_files_arrive_and_the_next_time_nothing_is_sent(
    hub: Hub, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert share([str(out), NAME, "-q"]) == 0
    assert share([str(out), NAME]) == 0
    assert f"{hub.url}/{NAME}" in capsys.readouterr().out
    assert arrived(hub) == held(out)
    assert ".cache" not in "".join(hub.files(NAME))
    assert len(hub.commits[NAME]) == 2  # made, and filled


def test_the_hubs_own_upload_takes_a_shared_merge_and_leaves_out_what_stays_at_home(
    hub: Hub, out: Path
) -> None:
    assert share([str(out), "-q"]) == 0
    huggingface_hub.create_repo(NAME)
    huggingface_hub.upload_folder(repo_id=NAME, folder_path=out)
    assert arrived(hub) == held(out)


@pytest.mark.parametrize("where", [("PUT", "/lfs"), ("POST", f"/api/models/{NAME}/commit")])
def test_a_cut_upload_is_one_line_and_the_same_command_goes_on(
    hub: Hub, out: Path, where: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    if where[0] == "PUT" and not hub.lfs:
        pytest.skip("there are no uploads of their own")
    hub.cut[where] = 100
    assert share([str(out), NAME, "-q"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "the same command goes on" in said
    assert not arrived(hub)
    hub.cut.clear()
    assert share([str(out), NAME, "-q"]) == 0
    assert arrived(hub) == held(out)
    sent = [path for method, path in hub.asked if method == "PUT"]
    if hub.lfs and where[0] == "POST":
        assert len(sent) == 1  # the weights were there already


def test_what_arrived_is_loaded_and_reproduced_from_there(
    hub: Hub, out: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With sources on the same Hub, as the recipe pins them."""
    for name in NAMES:
        hub.put(f"org/{name}", held(models / name))
    found = {name: huggingface_hub.snapshot_download(f"org/{name}") for name in NAMES}
    (tmp_path / "new").mkdir()
    out = write_merge(tmp_path / "new", dict(found))
    assert share([str(out), NAME, "-q"]) == 0
    recipe = hub.files(NAME)["mergekit_config.yml"].decode()
    pinned = {f"org/{name}@{hub.head(f'org/{name}')}" for name in NAMES}
    assert set(Recipe(recipe).paths) == pinned
    shutil.rmtree(tmp_path / "cache")
    assert reproduce([NAME, "-q"]) == 0
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(NAME)
    assert loaded.config.architectures == ["Qwen2ForCausalLM"]
    # The owner of a source rewrites its history.
    shutil.rmtree(tmp_path / "cache")
    hub.commits["org/sft"] = {"f" * 40: hub.files("org/sft")}
    capsys.readouterr()
    assert reproduce([NAME, "-q"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "there is no such revision" in said and "org/sft" in said


def test_a_repository_with_something_else_is_left_alone_but_may_be_proposed_to(
    hub: Hub, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.put(NAME, {"config.json": b"{}", "pytorch_model.bin": b"1"})
    assert share([str(out), NAME, "-q"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "holds something else (config.json and 1 more)" in said
    assert len(hub.commits[NAME]) == 1
    assert share([str(out), NAME, "--create-pr", "-q"]) == 0
    assert len(hub.commits[NAME]) == 1 and hub.proposals[NAME].items() >= held(out).items()


def test_a_card_that_the_hub_refuses_is_one_line(
    hub: Hub, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not hub.lfs:
        pytest.skip("the Hub itself looks at the card then, when it is committed")
    assert share([str(out), NAME, "--license", "nonsense", "-q"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and '"license" must be one of' in said
    assert not arrived(hub)


def test_a_new_merge_takes_the_place_of_an_older_one_with_its_shards(hub: Hub, out: Path) -> None:
    assert share([str(out), NAME, "-q"]) == 0
    hub.put(NAME, {**hub.files(NAME), "model-00001-of-00002.safetensors": b"old"})
    (out / "README.md").write_text((out / "README.md").read_text() + "\nNew.\n")
    assert share([str(out), NAME, "-q"]) == 0
    assert arrived(hub) == held(out)


def test_what_is_private_is_named_and_nothing_is_uploaded(
    hub: Hub, out: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = {
        "notes.txt": "trained in /home/jane/runs/7",
        "run.sh": "cd /Users/jane",
        "a.json": '{"from": "C:\\\\Users\\\\jane"}',
        "b.md": f"see {models}/sft",
        "c.yml": "storage: postgres://me:secret@host/studies",
        "d.txt": "hf_" + "x1" * 17,
        "e.txt": "AKIA" + "ABCD1234" * 2,
        "f.pem": "-----BEGIN PRIVATE KEY-----",
        ".env": "A=1",
        "study.db": "SQLite format 3\0",
    }
    for name, text in planted.items():
        (out / name).write_text(text)
    (out / "g.json").symlink_to("/etc/hostname")
    assert share([str(out), NAME, "-q"]) == 2
    said = capsys.readouterr().err
    assert all(f"  {name}" in said for name in (*planted, "g.json"))
    assert hub.asked == []


def test_a_dry_run_changes_and_asks_nothing(
    hub: Hub, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = held(out)
    assert share([str(out), NAME, "--dry-run"]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert held(out) == before and hub.asked == []


@pytest.mark.parametrize(
    ("token", "name", "said"),
    [
        ("", NAME, "there is no token"),
        (READER, NAME, "you may not write here"),
        ("hf_unknown", NAME, "who?"),
        (WRITER, "jane/me rge", "is no name on the Hub"),
        (WRITER, "merge", "names no owner; write user/merge"),
        (WRITER, "jane/a/b", "is no name on the Hub"),
    ],
)
def test_what_cannot_be_uploaded_is_one_line(
    hub: Hub,
    out: Path,
    token: str,
    name: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(out / "none"))
    assert share([str(out), name, "-q"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and said in err
    assert not hub.commits


def test_offline_is_one_line(
    hub: Hub, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert share([str(out), NAME, "-q"]) == 2
    assert "the Hub is switched off here" in capsys.readouterr().err
    assert hub.asked == []


def test_no_connection_is_one_line(
    hub: Hub, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert share([str(out), NAME, "-q"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "cannot be reached" in err


def test_the_commands_themselves_speak_to_the_endpoint_of_the_environment(
    models: Path, tmp_path: Path
) -> None:
    """As a stranger would: upload, load the recipe with mergekit, reproduce; each its process."""
    with running(Hub()) as hub:
        cache = tmp_path / "hf" / "hub"
        for name in NAMES:
            commit = hub.put(f"org/{name}", held(models / name))
            shutil.copytree(models / name, cache / f"models--org--{name}" / "snapshots" / commit)
        snapshots = {name: next(cache.glob(f"models--org--{name}/snapshots/*")) for name in NAMES}
        out = write_merge(tmp_path, snapshots)
        environment = {k: v for k, v in os.environ.items() if "OFFLINE" not in k}
        environment |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": WRITER, "HF_HUB_DISABLE_XET": "1"}

        def run(home: str, *command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                command, cwd=tmp_path, env={**environment, "HF_HOME": str(tmp_path / home)},
                capture_output=True, text=True,
            )  # fmt: skip

        ours = [sys.executable, "-m", "dots_mergekit.cli.share"]
        shared = run("hf", *ours, str(out), NAME)
        assert shared.returncode == 0, shared.stderr
        assert arrived(hub) == held(out)
        mergekit = os.path.join(os.path.dirname(sys.executable), "mergekit-yaml")
        merged = run("stranger", mergekit, "out/mergekit_config.yml", "theirs")
        assert merged.returncode == 0, merged.stderr
        theirs = (tmp_path / "theirs" / "model.safetensors").read_bytes()
        assert theirs == hub.files(NAME)["model.safetensors"]
        again = run("another", sys.executable, "-m", "dots_mergekit.cli.reproduce", NAME)
        assert again.returncode == 0, again.stderr
        assert again.stdout.startswith("identical: all ")
