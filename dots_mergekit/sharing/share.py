"""Sharing a merge: its card and its record written, what would go out looked at, the upload."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dots_mergekit.analysis.saved import read_analysis
from dots_mergekit.errors import DotsError
from dots_mergekit.files import require_writable, write_bytes
from dots_mergekit.foreign import is_file, is_folder, read_bytes
from dots_mergekit.messages import and_more
from dots_mergekit.progress import Progress
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.fingerprint import RECORD, fingerprint, recognize
from dots_mergekit.recipe.places import with_names, with_paths
from dots_mergekit.recipe.schema import TUNE
from dots_mergekit.recipe.whereabouts import keep_places, known_places
from dots_mergekit.sharing.analysed import analysis_section, find_analysis, pictures_of
from dots_mergekit.sharing.card import Facts, license_of, read_card, write_card
from dots_mergekit.sharing.evidence import (
    PICTURES,
    QUERIES,
    queries_section,
    search_section,
)
from dots_mergekit.sharing.hashes import file_hash, hash_tensors
from dots_mergekit.sharing.privacy import find_leaks
from dots_mergekit.sharing.record import (
    RECIPE,
    Input,
    MergeRecord,
    read_merge_record,
    versions_here,
)
from dots_mergekit.sharing.scores import (
    LEADERBOARDS,
    leaderboards,
    require_table,
    results_section,
    scored,
)
from dots_mergekit.sharing.sources import CARD, Source, sources_of
from dots_mergekit.sharing.upload import require_name, require_way, upload
from dots_mergekit.tuning.again import recorded
from dots_mergekit.tuning.study import POOL

__all__ = ["Request", "Shared", "prepare", "share", "to_upload"]

# Of a folder: never uploaded.
_ASIDE = (".cache", ".git")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be shared, and with what.

    Attributes:
        folder: The merge's.
        repository: Where it is to go on the Hub; None writes the card alone.
        study: The folder of the search that found its λ.
        results: The folder of an evaluation of it.
        analysis: The `analysis.json` of an analysis of its models, or the folder of it.
        license: Its license, in place of what the sources' cards say.
        with_queries: Put the texts of the study's queries beside the card.
        private: Make the repository a private one.
        create_pr: Propose the files to its owner, in a pull request.
        dry_run: Write and upload nothing.
    """

    folder: Path
    repository: str | None = None
    study: Path | None = None
    results: Path | None = None
    analysis: Path | None = None
    license: str | None = None
    with_queries: bool = False
    private: bool = False
    create_pr: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.repository is not None:
            require_name(self.repository)
        for name in ("private", "create_pr"):
            if getattr(self, name) and self.repository is None:
                raise DotsError(f"`{name}` is about a repository on the Hub: name one, user/name")
        if self.with_queries and self.study is None:
            raise DotsError("`with_queries` shares the queries of a study: name it with `study`")


@dataclass(frozen=True)
class Shared:
    """A merge with its card.

    Attributes:
        folder: The merge's.
        files: What belongs to it, with sizes in bytes.
        notes: What to know of it.
        url: Where it is on the Hub, if it was uploaded.
    """

    folder: Path
    files: Mapping[str, int]
    notes: tuple[str, ...]
    url: str | None = None

    def __str__(self) -> str:
        """List the files, and say where they are."""
        width = max(map(len, self.files))
        lines = [f"{name:{width}}  {size:>15,}" for name, size in self.files.items()]
        total = f"{len(self.files)} files, {sum(self.files.values()):,} bytes"
        return "\n".join([*lines, f"{total}: {self.url or self.folder}"])


@dataclass(frozen=True)
class Prepared:
    """What sharing will write, in memory.

    Attributes:
        contents: By file name.
        stale: Files of an earlier time that are not true any more.
        sources: What was merged, by public names.
        notes: What to know of it.
    """

    contents: Mapping[str, bytes]
    stale: tuple[str, ...]
    sources: Mapping[str, Source]
    notes: tuple[str, ...]


def prepare(request: Request, progress: Progress) -> Prepared:
    """Look at a merge and at the evidence for it, and compose what goes beside the weights.

    Raises:
        DotsError: The folder holds no merge of mergekit's; a model that was merged is not on this
            machine; the weights are others than its record says; the evidence is of another merge.
    """
    folder = request.folder
    recipe = _recipe_of(folder)
    _require_evidence(request)  # before anything takes time
    places = known_places(folder)
    progress.begin("hashing", 2, 0)
    sources = sources_of(recipe, places)
    progress.advance("what was merged")
    names = {source.path: name for name, source in sources.items()}
    public = _public(recipe, names)
    record = _record(folder, public, sources)
    progress.advance("what came out")
    evidence, files = _evidence(request, recipe, sources)
    old = read_card(folder)
    asked = request.license or _license_in(old, folder)
    license, notes = license_of(sources, asked)
    name = request.repository or folder.resolve().name
    facts = Facts(name, folder, public, sources, record, license)
    contents = {
        CARD: write_card(old, facts, evidence).encode(),
        RECIPE: public.text.encode(),
        RECORD: record.text().encode(),
        **{name: content for name, content in files.items() if content is not None},
    }
    return Prepared(contents, tuple(files.keys() - contents.keys()), sources, tuple(notes))


def share(request: Request, progress: Progress) -> Shared:
    """Write the card and the record of a merge into its folder, and upload it if asked to.

    Raises:
        DotsError: As `prepare`; the folder cannot be written into; something in it is private;
            the Hub refuses it.
    """
    if request.repository is not None and not request.dry_run:
        require_way()  # before anything takes time
    prepared = prepare(request, progress)
    folder = request.folder
    names = to_upload(folder, prepared.contents, without=prepared.stale)
    places = [source.folder for source in prepared.sources.values()]
    words = _public_words(request, prepared)
    leaks = find_leaks(folder, names, prepared.contents, public=words, places=places)
    said = [f"not to be uploaded: {leak}" for leak in leaks]
    shared = Shared(folder, names, (*prepared.notes, *said))
    for note in prepared.notes if request.repository and not request.dry_run else shared.notes:
        progress.note(note)
    if request.dry_run:
        return shared
    require_writable(folder, "merge's folder")
    keep_places(folder, {name: source.folder for name, source in prepared.sources.items()})
    for name, content in prepared.contents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_bytes(folder / name, content)
    for name in prepared.stale:
        (folder / name).unlink(missing_ok=True)
    if request.repository is None:
        return shared
    if leaks:
        lines = "\n  ".join(map(str, leaks))
        raise DotsError(f"nothing was uploaded, for {folder} holds what is private:\n  {lines}")
    progress.note(f"{len(names)} files, {sum(names.values()):,} bytes, go to {request.repository}")
    url = upload(
        folder, names, request.repository, private=request.private, create_pr=request.create_pr
    )
    return replace(shared, url=url)


def _public_words(request: Request, prepared: Prepared) -> set[str]:
    """Give the names of owners and models on the Hub, which are nobody's secret."""
    named = [request.repository, *(source.repository for source in prepared.sources.values())]
    return {word for name in named if name for word in name.split("/")}


def to_upload(
    folder: Path, contents: Mapping[str, bytes], *, without: Collection[str] = ()
) -> dict[str, int]:
    """Give the size of every file that belongs to a shared merge, by its name in the folder.

    Args:
        folder: The merge's.
        contents: What is yet to be written into it.
        without: What is yet to be removed from it.
    """
    sizes = {}
    for above, inner, files in os.walk(folder):
        inner[:] = sorted(name for name in inner if name not in _ASIDE)
        links = [name for name in inner if Path(above, name).is_symlink()]
        for name in (*files, *links):
            path = Path(above, name)
            if not (name.startswith(".") and name.endswith(".tmp")):
                sizes[path.relative_to(folder).as_posix()] = path.lstat().st_size
    sizes |= {name: len(content) for name, content in contents.items()}
    return {name: size for name, size in sorted(sizes.items()) if name not in without}


def _recipe_of(folder: Path) -> Recipe:
    if not is_folder(folder):
        raise DotsError(f"there is no folder {folder}; name one that a merge was written to")
    if not is_file(folder / RECIPE):
        raise DotsError(
            f"{folder} has no {RECIPE}, so it cannot be said what was merged; merge into it with "
            "`merge`, `dots-tune` or `mergekit-yaml`, which write it"
        )
    return Recipe.load(folder / RECIPE)


def _public(recipe: Recipe, names: Mapping[str, str]) -> Recipe:
    """Give a recipe with public names of its models, and of local files in `tune:`."""
    content = with_names(recipe.content, {old: new for old, new in names.items() if old != new})
    if TUNE in content:
        content[TUNE] = _without_places(content[TUNE])
    return recipe.changed(content)


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(inner) for key, inner in value.items()}
    if isinstance(value, str) and "/" in value and Path(value).exists():
        return f"./local/{Path(value).name}"
    return value


def _record(folder: Path, recipe: Recipe, sources: Mapping[str, Source]) -> MergeRecord:
    """Give the record of a merge: the one it has, as long as the weights are still those."""
    weights = sorted(path.name for path in folder.glob("*.safetensors"))
    files = {name: file_hash(folder / name) for name in weights}
    inputs = {name: Input(one.repository, one.revision, one.files) for name, one in sources.items()}
    digest = hashlib.sha256(recipe.text.encode()).hexdigest()
    before = read_merge_record(folder)
    if before is None:
        return MergeRecord(digest, inputs, files, hash_tensors(folder), versions_here())
    if before.files != files:
        other = [
            name for name in {**before.files, **files} if before.files.get(name) != files.get(name)
        ]
        raise DotsError(
            f"{folder / other[0]}{and_more(other)} is not what {RECORD} says came out of this "
            f"merge; merge anew, or remove {RECORD} if the change is meant to be shared"
        )
    changed = [
        name for name, one in inputs.items() if name in before.inputs and before.inputs[name] != one
    ]
    if changed:
        raise DotsError(
            f"{sources[changed[0]].folder} is not what was merged any more: its files are others "
            f"than {RECORD} in {folder} says; bring back the old ones, or merge anew"
        )
    return MergeRecord(digest, inputs, files, before.tensors, before.versions)


def _require_evidence(request: Request) -> None:
    """See that what is to speak for a merge is there and can be read."""
    if request.study is not None:
        recorded(request.study)
    if request.results is not None:
        require_table(request.results)
    if request.analysis is not None:
        read_analysis(find_analysis(request.analysis))


def _evidence(
    request: Request, recipe: Recipe, sources: Mapping[str, Source]
) -> tuple[dict[str, str], dict[str, bytes | None]]:
    """Give the sections of what speaks for a merge, and the files beside them; None removes one."""
    here = recipe.changed(
        with_paths(recipe.content, {one.path: one.folder for one in sources.values()})
    )
    sections: dict[str, str] = {}
    files: dict[str, bytes | None] = {}
    if request.results is not None:
        found = scored(request.results, _keys(request.folder, here, sources))
        sections["results"] = results_section(request.results, found)
        text = leaderboards(request.results, found)
        files[LEADERBOARDS] = None if text is None else text.encode()
    if (study := request.study) is not None:
        drawn = {own: study / name for own, name in PICTURES.items() if is_file(study / name)}
        files |= {own: read_bytes(path) for own, path in drawn.items()}
        sections["search"] = search_section(study, here, list(drawn))
        sections["queries"] = queries_section(study, texts=request.with_queries)
        if request.with_queries:
            files[QUERIES] = read_bytes(study / POOL)
    if request.analysis is not None:
        analysis = find_analysis(request.analysis)
        pictures = pictures_of(analysis)
        files |= pictures
        known = {str(one.folder): one.revision for one in sources.values()}
        prints = {*known.values(), *map(fingerprint, known)}
        sections["analysis"] = analysis_section(
            analysis, {one for one in prints if one}, list(pictures)
        )
    return sections, files


def _keys(folder: Path, here: Recipe, sources: Mapping[str, Source]) -> set[str]:
    """Give what a merge may be known by in results: by folders, by ids on the Hub, as a model."""
    ids = {str(one.folder): name for name, one in sources.items() if one.repository}
    named = here.changed(with_names(here.content, ids))
    keys = (recognize(here), recognize(named), fingerprint(str(folder)))
    return {key for key in keys if key is not None}


def _license_in(card: str, folder: Path) -> str | None:
    """Give the license that a card's front matter already names."""
    from huggingface_hub.repocard import metadata_load

    if not card:
        return None
    try:
        found = (metadata_load(folder / CARD) or {}).get("license")
    except Exception:  # broken YAML: `write_card` says so
        return None
    return found if isinstance(found, str) else None
