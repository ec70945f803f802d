"""Where queries come from: files, tasks of lm-eval, data sets of the Hub."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file, parse_json
from dots_mergekit.messages import first_line
from dots_mergekit.objectives.queries import (
    Query,
    json_lines,
    read_content,
    read_file,
    read_prompt,
)

if TYPE_CHECKING:
    from dots_mergekit.tuning.pool import PoolSettings

__all__ = ["has_column", "load_queries"]


def load_queries(settings: PoolSettings) -> list[Query]:
    """Tell what kind of source it is, and read it."""
    source = settings.source
    path = Path(source)
    column = settings.prompt_column
    if reader := _reader(path):
        return [_query(row, column, where) for where, row in reader(path, column)]
    if not source.isprintable() or len(source) > _LONGEST:
        raise DotsError(f"cannot read queries from {source!r:.80}: this is no name of a source")
    if is_file(path):
        raise DotsError(
            f"cannot read queries from {source}: its name does not end in "
            f"{', '.join(_READERS)} (or one of these and .gz), and these are the kinds of file "
            "that are known"
        )
    if source.startswith((".", "/", "~")) and not path.exists():
        raise DotsError(f"cannot read queries from {source}: there is no such file")
    if settings.config is None and settings.split is None and "/" not in source:
        prompts = _task_prompts(source)
        if prompts is not None:
            return [Query(read_prompt({column: p}, column, where)) for where, p in prompts]
    return [_query(row, column, where) for where, row in _dataset_rows(settings)]


def has_column(source: str, column: str) -> bool:
    """Say whether a source is a file whose first query has a column; False if it is unreadable."""
    reader = _reader(Path(source))
    if reader is None:
        return False
    try:
        _, row = next(reader(Path(source), ""), ("", {}))
    except DotsError:
        return False
    return column in row


def _reader(path: Path) -> _Reader | None:
    """Find what reads a file, by the end of its name."""
    packed = path.suffix.lower() == ".gz"
    return _READERS.get((path.with_suffix("") if packed else path).suffix.lower())


def _table(delimiter: str) -> _Reader:
    def rows(path: Path, column: str) -> Iterator[tuple[str, dict[str, Any]]]:
        text = io.StringIO(read_file(path), newline="")
        reader = csv.DictReader(text, delimiter=delimiter)
        try:
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row:
                    raise DotsError(f"{where}: more fields than the first line has names")
                yield where, dict(row)
        except csv.Error as error:
            raise DotsError(f"{path}, line {reader.line_num}: this is not CSV: {error}") from error

    return rows


def _lines(path: Path, column: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(read_file(path).split("\n"), 1):
        if line.strip():
            yield f"{path}, line {number}", {column: line.rstrip("\r")}


def _json_list(path: Path, column: str) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = parse_json(read_file(path), str(path))
    if not isinstance(rows, list):
        raise DotsError(f"{path}: a list of queries is needed, found {type(rows).__name__}")
    for number, row in enumerate(rows, 1):
        where = f"{path}, entry {number}"
        if not isinstance(row, dict | str):
            raise DotsError(
                f"{where}: a text or a JSON object is needed, found {type(row).__name__}"
            )
        yield where, {column: row} if isinstance(row, str) else row


def _json_lines(path: Path, column: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return json_lines(path)


def _parquet_rows(path: Path, column: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DotsError(
            f"reading {path} needs pyarrow, which cannot be imported ({error}): "
            "pip install pyarrow, or use a .jsonl file"
        ) from error
    content = read_content(path)
    try:
        rows = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DotsError(f"cannot read queries from {path}: {first_line(error)}") from error
    for number, row in enumerate(rows, 1):
        yield f"{path}, row {number}", row


_Reader = Callable[[Path, str], Iterator[tuple[str, dict[str, Any]]]]

# Each gives rows and their places; those without columns put their prompts in the one that is
# asked for.
_READERS: Mapping[str, _Reader] = {
    ".jsonl": _json_lines,
    ".parquet": _parquet_rows,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".json": _json_list,
    ".txt": _lines,
}

# Of the name of a dataset.
_LONGEST = 1000


def _task_prompts(name: str) -> list[tuple[str, Any]] | None:
    """Give the prompts of an lm-eval task, without targets; None if there is no such task."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    if name in manager.all_groups or name in manager.all_tags:
        raise DotsError(f"`{name}` is a group of lm-eval tasks; name one of its tasks")
    if name not in manager.all_subtasks:
        return None
    try:
        task = manager.load(name)["tasks"][name]
        prompts = [task.doc_to_text(document) for document in task.eval_docs]
    except Exception as error:  # a task may do anything, and mostly it downloads
        raise DotsError(
            f"cannot load the lm-eval task `{name}`: {first_line(error)}; if this machine has "
            "no network, save its prompts to a .jsonl file where there is one"
        ) from error
    return [(f"task {name}, document {number}", p) for number, p in enumerate(prompts, 1)]


def _dataset_rows(settings: PoolSettings) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a dataset of the Hugging Face Hub, or one that `datasets` can load from a folder."""
    import datasets

    source = settings.source
    try:
        loaded = datasets.load_dataset(source, settings.config, split=settings.split)
    except Exception as error:  # the kinds differ with each way a download can fail
        raise DotsError(
            f"`{source}` is no file and no lm-eval task, and cannot be loaded as a Hugging Face "
            f"dataset: {first_line(error)}; check the name, `config`, `split` and the network, "
            "or save the prompts to a .jsonl file"
        ) from error
    if isinstance(loaded, Mapping):
        if len(loaded) > 1:
            raise DotsError(
                f"the dataset {source} has several splits; name one with "
                f"`split`: {', '.join(map(str, loaded))}"
            )
        (loaded,) = loaded.values()
    for number, row in enumerate(loaded, 1):
        yield f"dataset {source}, row {number}", row


def _query(row: Mapping[str, Any], column: str, where: str) -> Query:
    extra = {name: value for name, value in row.items() if name != column}
    return Query(read_prompt(row, column, where), extra)
