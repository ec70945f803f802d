"""The card and the record: what they say, that they are what the Hub takes, what stays in them."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, snapshot_download
from loopback_hub import Hub, running, speak_to
from safetensors import safe_open
from shared_merges import REVISION, cached, write_merge

from dots_mergekit import DotsError, Recipe, Silent, share
from dots_mergekit.cli.reproduce import main as reproduce
from dots_mergekit.recipe.fingerprint import fingerprint

NAMES = ("base", "sft", "rlvr")


@pytest.fixture(scope="session")
def made(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe of local models and its merge, not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    write_merge(folder, {name: models / name for name in NAMES})
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A merge of its own."""
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


def load(out: Path) -> Any:
    """The card, as the Hub's client reads it."""
    return ModelCard.load(out / "README.md")


def shared(out: Path, **more: Any) -> Any:
    share(out, progress=Silent(), **more)
    return load(out)


def snippets(card: Any, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", card.text, re.DOTALL)


def test_the_card_says_what_the_merge_is_and_hides_where_it_was_made(
    out: Path, models: Path
) -> None:
    card = shared(out)
    assert card.data.tags == ["merge", "mergekit", "dots"]
    assert card.data.pipeline_tag == "text-generation"
    assert str(models) not in card.content + (out / "mergekit_config.yml").read_text()
    recipe = Recipe.load(out / "mergekit_config.yml")
    assert recipe.paths == ("./local/base", "./local/sft", "./local/rlvr")
    assert recipe.weights() == {"sft": 1.0, "rlvr": 0.5}
    assert "# for my friends" in recipe.text and "# taught by examples" in recipe.text
    assert snippets(card, "yaml") == [recipe.text]
    assert "created using [mergekit]" not in card.text


def test_the_record_has_the_hashes_of_all_that_went_in_and_came_out(
    out: Path, models: Path
) -> None:
    shared(out)
    record = json.loads((out / "reproduce.json").read_text())
    weights = (out / "model.safetensors").read_bytes()
    assert record["outputs"]["files"] == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    with safe_open(out / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
        one = file.get_tensor(min(names))
    assert set(record["outputs"]["tensors"]) == names
    stored = record["outputs"]["tensors"][min(names)]
    data = one.contiguous().view(torch.uint8).numpy().tobytes()
    assert stored["sha256"] == hashlib.sha256(data).hexdigest()
    assert stored["shape"] == list(one.shape) and f"torch.{stored['dtype']}" == str(one.dtype)
    for name in NAMES:
        files = record["inputs"][f"./local/{name}"]["files"]
        content = (models / name / "model.safetensors").read_bytes()
        assert files["model.safetensors"] == hashlib.sha256(content).hexdigest()


def test_models_of_the_hub_are_named_by_the_commit_that_was_merged(
    models: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "hub"
    found = {name: cached(models / name, cache) for name in NAMES}
    for name, folder in found.items():
        (folder / "README.md").write_text(f"---\nlicense: mit\nlanguage: en\n---\n{name}")
    card = shared(write_merge(tmp_path, found))
    assert card.data.base_model == ["org/base", "org/sft", "org/rlvr"]
    assert card.data["base_model_relation"] == "merge"
    assert card.data.license == "mit" and card.data.language == ["en"]
    paths = Recipe.load(tmp_path / "out" / "mergekit_config.yml").paths
    assert paths == tuple(f"org/{name}@{REVISION}" for name in NAMES)


def test_a_license_is_named_where_all_sources_agree_or_a_person_decides(
    models: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "hub"
    found = {name: cached(models / name, cache) for name in NAMES}
    for (_, folder), said in zip(found.items(), ("mit", "mit", "apache-2.0"), strict=True):
        (folder / "README.md").write_text(f"---\nlicense: {said}\n---\n")
    out = write_merge(tmp_path, found)
    (note,) = share(out, progress=Silent()).notes
    assert "the licenses differ" in note and "apache-2.0" in note
    assert load(out).data.license is None
    assert shared(out, license="apache-2.0").data.license == "apache-2.0"
    assert shared(out).data.license == "apache-2.0"  # and is not asked again


def test_what_a_person_wrote_outside_the_sections_stays(out: Path) -> None:
    shared(out)
    path = out / "README.md"
    text = path.read_text()
    text = text.replace("tags:\n", "thumbnail: cat.png\ntags:\n- cats\n")
    text = text.replace(
        "<!-- dots-share: end of use -->", "<!-- dots-share: end of use -->\n\nMew."
    )
    text = text.replace("## The recipe", "## Changed inside a section") + "\nPurr.\n"
    path.write_text(text)
    again = shared(out)
    assert "Mew." in again.text and again.text.endswith("Purr.\n")
    assert "## Changed inside" not in again.text and "## The recipe" in again.text
    assert "cats" in (again.data.tags or []) and again.data["thumbnail"] == "cat.png"
    before = path.read_text()
    shared(out)
    assert path.read_text() == before


def test_a_card_without_our_sections_is_kept_whole(out: Path) -> None:
    (out / "README.md").write_text("---\nlicense: mit\n---\n# My own\n\nAll by hand.\n")
    card = shared(out)
    assert card.text.lstrip().startswith("# My own\n\nAll by hand.")
    assert card.data.license == "mit"


def test_it_can_be_shared_from_elsewhere_and_again(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths count from where it was merged."""
    monkeypatch.chdir(models.parent)
    out = write_merge(tmp_path, {name: f"./{models.name}/{name}" for name in NAMES})
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    shared(out)
    record = (out / "reproduce.json").read_bytes()
    shared(out)
    assert (out / "reproduce.json").read_bytes() == record


def test_what_mergekit_itself_merged_is_shared_from_where_it_was_merged(
    made: Path, models: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(out / ".cache")
    recipe = out / "mergekit_config.yml"
    recipe.write_text(recipe.read_text().replace(f"{models}/", f"./{models.name}/"))
    with pytest.raises(DotsError, match="go to the folder that the merge was made in"):
        shared(out)
    monkeypatch.chdir(models.parent)
    shared(out)


def test_models_of_the_hub_are_pinned_to_what_was_merged_though_they_moved_on(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Hub()) as hub:
        speak_to(hub, tmp_path / "cache", monkeypatch)
        for name in NAMES:
            hub.put(f"org/{name}", {p.name: p.read_bytes() for p in (models / name).iterdir()})
        merged = {f"org/{name}@{hub.head(f'org/{name}')}" for name in NAMES}
        out = write_merge(tmp_path, {name: f"org/{name}" for name in NAMES})
        hub.put("org/sft", {**hub.files("org/sft"), "new.txt": b"of today"})
        snapshot_download("org/sft")
        shared(out)
    assert set(Recipe.load(out / "mergekit_config.yml").paths) == merged


def test_a_tokenizer_of_its_own_is_a_source_too(models: Path, tmp_path: Path) -> None:
    out = write_merge(tmp_path, {name: models / name for name in NAMES})
    recipe = out / "mergekit_config.yml"
    shutil.copytree(models / "sft", tmp_path / "words")
    recipe.write_text(recipe.read_text() + f"tokenizer:\n  source: {tmp_path}/words\n")
    shared(out)
    assert "source: ./local/words" in recipe.read_text()
    assert "./local/words" in json.loads((out / "reproduce.json").read_text())["inputs"]


def test_the_record_is_about_the_model_and_no_part_of_it(out: Path) -> None:
    before = fingerprint(str(out))
    shared(out)
    assert fingerprint(str(out)) == before


def test_the_cards_python_runs_as_written(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = snippets(shared(out), "python")
    assert "apply_chat_template" in code
    monkeypatch.chdir(out.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["output"].shape[1] > names["inputs"]["input_ids"].shape[1]
    assert capsys.readouterr().out


def test_the_cards_commands_are_commands(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", shared(out).text, re.DOTALL | re.MULTILINE)
    lines = [line for language, text in blocks if not language for line in text.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines]
    named = {command[0]: command[1:] for command in commands}
    assert named["vllm"] == ["serve", "out"]
    assert named["mergekit-yaml"] == ["mergekit_config.yml", "OUT"]
    monkeypatch.chdir(out.parent)
    assert reproduce([*named["dots-reproduce"], "-q"]) == 0
    if shutil.which("vllm"):
        subprocess.run(["vllm", *named["vllm"], "--help"], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda out: (out / "mergekit_config.yml").unlink(), "has no mergekit_config.yml"),
        (lambda out: (out / "README.md").write_text("---\na: [\n---\n"), "front matter"),
        (lambda out: (out / "reproduce.json").write_text("{}"), "no record of a merge"),
        (lambda out: (out / "model.safetensors").unlink(), "no .safetensors file"),
    ],
)
def test_what_cannot_be_shared_is_one_sentence(out: Path, spoil: Any, said: str) -> None:
    spoil(out)
    with pytest.raises(DotsError, match=re.escape(said)) as caught:
        shared(out)
    assert "\n" not in str(caught.value)


def test_weights_that_changed_since_are_refused(out: Path) -> None:
    shared(out)
    weights = out / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DotsError, match=r"model\.safetensors is not what reproduce\.json says"):
        shared(out)


def test_sources_that_changed_since_are_refused(models: Path, tmp_path: Path) -> None:
    for name in NAMES:
        shutil.copytree(models / name, tmp_path / name)
    out = write_merge(tmp_path, {name: tmp_path / name for name in NAMES})
    shared(out)
    settings = json.loads((tmp_path / "sft" / "config.json").read_text())
    (tmp_path / "sft" / "config.json").write_text(json.dumps({**settings, "new": 1}))
    with pytest.raises(DotsError, match="is not what was merged any more"):
        shared(out)
