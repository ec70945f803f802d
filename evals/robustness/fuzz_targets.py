"""What is fuzzed: the package's readers of foreign input, each as a function of bytes.

A reader returns, or raises a `DotsError`; anything else that it does is a fault. `attempt` tries an
input and says which. `fuzz.py` makes up inputs; `tests/test_fuzzing.py` replays those that are kept
in `tests/fuzzing/`, without a fuzzer. Imports that take seconds stand where they are needed: each
target has a process of its own.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.answers.extraction import PLACES, extract_answer
from dots_mergekit.answers.grading import choose, grade, verify
from dots_mergekit.answers.patterns import compiled, last_group
from dots_mergekit.answers.vote import majority_vote
from dots_mergekit.errors import DotsError
from dots_mergekit.foreign import is_file

if TYPE_CHECKING:
    from dots_mergekit.checking.checkpoints import Checkpoint
    from dots_mergekit.recipe import Recipe

__all__ = ["TARGETS", "Attempt", "Target", "attempt"]

LONGEST_LINE = 2000
"""Characters in a line of a message: more than a screen of them is no message."""

MEMORY = 512
"""MiB that the reading of one input, of at most some KiB, may add to what the process takes."""

POOLS = (".jsonl", ".csv", ".tsv", ".json", ".txt", ".parquet", ".jsonl.gz", ".csv.gz")
"""Kinds of files of queries; the first line of an input names one."""

Reader = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """One kind of foreign input, and what reads it.

    Attributes:
        open: Prepares a folder, and gives what reads an input there.
        files: What there may be in that folder afterwards.
        seconds: The longest that one input may take on a machine that does nothing else.
    """

    open: Callable[[Path], Reader]
    files: frozenset[str] = frozenset()
    seconds: float = 2.0


@dataclass(frozen=True)
class Attempt:
    """What came of one input.

    Attributes:
        seconds: How long it took.
        fault: What is wrong and where, the same for inputs that show the same fault; None where
            nothing is.
        details: The traceback, if there is one.
    """

    seconds: float
    fault: str | None = None
    details: str = ""


def attempt(target: Target, read: Reader, data: bytes, folder: Path) -> Attempt:
    """Read one input, and see that nothing happened that should not.

    What takes too long is read twice, and the shorter time counts: others use the machine, too.
    """
    before = _peak()
    tried = _timed(read, data)
    if tried.seconds > target.seconds and tried.fault is None:
        tried = min(tried, _timed(read, data), key=lambda one: one.seconds)
    if tried.fault is not None:
        return tried
    if tried.seconds > target.seconds:
        return Attempt(tried.seconds, f"takes more than {target.seconds:g} s")
    if left := set(os.listdir(folder)) - target.files:
        return Attempt(tried.seconds, f"leaves {min(left)} behind")
    if _peak() - before > MEMORY:
        return Attempt(tried.seconds, f"takes more than {MEMORY} MiB")
    return tried


def _timed(read: Reader, data: bytes) -> Attempt:
    fault, details = None, ""
    start = time.perf_counter()
    try:
        read(data)
    except DotsError as error:
        fault = _fault_of_message(str(error))
    except Exception as error:
        fault, details = _fault_of(error), traceback.format_exc()
    return Attempt(time.perf_counter() - start, fault, details)


def _fault_of_message(message: str) -> str | None:
    if not message.strip():
        return "a message that says nothing"
    if max(map(len, message.splitlines())) > LONGEST_LINE:
        return f"a message with a line of more than {LONGEST_LINE} characters"
    return None


def _fault_of(error: Exception) -> str:
    """Name an exception by its kind and by the last place in the package, or here, it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "dots_mergekit" in Path(f.filename).parts] or frames
    return f"{type(error).__name__} in {Path(ours[-1].filename).name}, {ours[-1].name}"


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _header(folder: Path) -> Reader:
    from dots_mergekit.checking.headers import read_header

    file = folder / "model.safetensors"

    def read(data: bytes) -> None:
        file.write_bytes(data)
        for tensor in read_header(file).values():
            assert tensor.span is not None and 0 <= tensor.span[0] <= tensor.span[1] <= len(data)

    return read


def _index(folder: Path) -> Reader:
    from dots_mergekit.checking.checkpoints import weight_files

    index = folder / "model.safetensors.index.json"

    def read(data: bytes) -> None:
        index.write_bytes(data)
        for file in weight_files(folder):
            is_file(file)
            inside = os.path.relpath(os.path.normpath(file), folder)
            assert not inside.startswith(".."), "the index leads out of the folder"

    return read


_CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 288,
}


def _checkpoint(folder: Path) -> Checkpoint:
    """Write the smallest checkpoint there is."""
    from dots_mergekit.checking.checkpoints import read_checkpoint

    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(4)
    (folder / "model.safetensors").write_bytes(content)
    (folder / "config.json").write_text(json.dumps(_CONFIG))
    return read_checkpoint("base", folder)


def _config(folder: Path) -> Reader:
    import transformers

    from dots_mergekit.checking.checkpoints import read_checkpoint, vocabulary_sizes
    from dots_mergekit.checking.configs import (
        custom_code,
        different_architecture,
        different_config,
    )
    from dots_mergekit.checking.weights import unmergeable

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # untyped there
    base = _checkpoint(folder)

    def read(data: bytes) -> None:
        (folder / "config.json").write_bytes(data)
        other = read_checkpoint("other", folder)
        vocabulary_sizes(other)
        for findings in (
            unmergeable(other),
            custom_code(other),
            different_architecture(base, other),
            different_config(base, other, sliced=False),
        ):
            for finding in findings:
                str(finding)

    return read


_TOKENIZER = {
    "added_tokens": [{"id": 2, "content": "<end>"}],
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
}


def _tokenizer(folder: Path) -> Reader:
    from dots_mergekit.checking.tokenizers import different_tokenizer

    base, other = folder / "base", folder / "other"
    for place in (base, other):
        place.mkdir(exist_ok=True)
    first, second = _checkpoint(base), _checkpoint(other)
    (base / "tokenizer.json").write_text(json.dumps(_TOKENIZER))

    def read(data: bytes) -> None:
        (other / "tokenizer.json").write_bytes(data)
        list(different_tokenizer(first, second))

    return read


def _template(folder: Path) -> Reader:
    from dots_mergekit.checking.templates import chat_templates
    from dots_mergekit.checking.tokenizers import lost_chat_template

    base, other = folder / "base", folder / "other"
    for place in (base, other):
        place.mkdir(exist_ok=True)
    first, second = _checkpoint(base), _checkpoint(other)

    def read(data: bytes) -> None:
        (other / "tokenizer_config.json").write_bytes(data)
        for place, template in chat_templates(other).items():
            assert isinstance(template, str), place
        list(lost_chat_template(first, second, None))

    return read


def _recipe(folder: Path) -> Reader:
    from dots_mergekit.recipe import Recipe

    file = folder / "recipe.yml"

    def read(data: bytes) -> None:
        file.write_bytes(data)
        recipe = Recipe.read(file)
        _ = recipe.models, recipe.paths, recipe.sources, recipe.base
        _show(recipe.mistakes)
        if not recipe.mistakes:
            _use(recipe)

    return read


def _use(recipe: Recipe) -> None:
    """Do with a recipe what a search does, and see that mergekit reads the same of it."""
    import yaml
    from mergekit.config import MergeConfiguration

    from dots_mergekit.recipe.schema import TUNE
    from dots_mergekit.tuning.settings import Settings
    from dots_mergekit.tuning.space import few_trials

    MergeConfiguration.model_validate({k: v for k, v in recipe.content.items() if k != TUNE})
    _ = recipe.but_for_weights
    weights = recipe.weights()
    halves = dict.fromkeys(weights, 0.5)
    other = recipe.with_weights(halves)
    assert other.weights() == halves, "weights that were set are not those that are read"
    assert other.with_weights(weights).weights() == weights
    assert yaml.safe_load(other.text) == other.content
    for source in recipe.sources:
        recipe.alone(source)
    try:
        few_trials(recipe, Settings.parse(recipe))
    except DotsError as error:
        _show([str(error)])
    try:
        recipe.with_density(0.5)
    except DotsError as error:
        _show([str(error)])


def _show(messages: tuple[str, ...] | list[str]) -> None:
    """Raise what is wrong with a recipe, if that is no message that people can read."""
    if problem := next(filter(None, map(_fault_of_message, messages)), None):
        raise AssertionError(problem)


_SOUND = """\
merge_method: dots
base_model: ./base
models:
  - model: ./sft
    parameters: {weight: 1.0}
  - model: ./rlvr
    parameters: {weight: [{filter: mlp, value: 1.0}, {value: 0.5}]}
parameters: {density: 0.3}
"""


def _tune(folder: Path) -> Reader:
    from dots_mergekit.recipe import Recipe
    from dots_mergekit.tuning.settings import Settings
    from dots_mergekit.tuning.space import few_trials

    def read(data: bytes) -> None:
        lines = data.decode(errors="replace").splitlines()
        recipe = Recipe(f"{_SOUND}tune:\n" + "".join(f"  {line}\n" for line in lines))
        _show(recipe.mistakes)
        if recipe.mistakes:
            return
        try:
            few_trials(recipe, Settings.parse(recipe))
        except DotsError as error:
            _show([str(error)])

    return read


def _pool(folder: Path) -> Reader:
    from dots_mergekit.objectives.queries import read_pool, write_pool
    from dots_mergekit.tuning.pool import PoolSettings, load_candidates

    def read(data: bytes) -> None:
        first, _, content = data.partition(b"\n")
        ending = first.decode(errors="replace").strip()
        if ending not in POOLS:
            return
        for old in folder.iterdir():
            old.unlink()
        file = folder / f"queries{ending}"
        file.write_bytes(content)
        problem = None
        try:
            queries = load_candidates(PoolSettings(source=str(file), selection="all"))
        except DotsError as error:
            problem = error
        else:
            written = folder / "written.jsonl"
            write_pool(written, queries)
            again = read_pool(written)
            assert [q.prompt for q in again] == [q.prompt for q in queries], "other queries"
        if ending == ".jsonl":
            read_pool(file)
        if problem is not None:
            raise problem

    return read


def _extractor(folder: Path) -> Reader:
    def read(data: bytes) -> None:
        text = data.decode(errors="surrogateescape")
        for place in PLACES:
            answer = extract_answer(text, order=[place])
            assert answer is None or answer.strip(), "an answer that is empty"
        extract_answer(text)

    return read


def _regex(folder: Path) -> Reader:
    def read(data: bytes) -> None:
        pattern, _, text = data.decode(errors="surrogateescape").partition("\n")
        try:
            groups = compiled(pattern).groups
        except ValueError:
            return  # what the schema of `tune:` makes a message of
        if groups:
            last_group(pattern, text)

    return read


class _WithoutAlgebra(MathEquivalence):
    """Answers at once what math-verify would be asked, so that all around it is tried."""

    def _ask(self, answers: tuple[str, str], how: bool | float) -> bool:
        first, second = (len(answer) % 3 for answer in answers)
        return first == second


def _grading(equal: Callable[[], MathEquivalence]) -> Callable[[Path], Reader]:
    def opened(folder: Path) -> Reader:
        kept = [equal()]
        asked = 0

        def read(data: bytes) -> None:
            nonlocal asked
            asked += 1
            if asked % 1000 == 0:  # it remembers what it was asked
                kept[0].close()
                kept[0] = equal()
            gold, _, response = data.decode(errors="surrogateescape").partition("\n")
            grade(response, gold, kept[0])
            grade(f"\\boxed{{{response}}}", gold, kept[0])
            one_way = verify(gold, response, kept[0])
            assert verify(response, gold, kept[0]) == one_way, "equal one way only"
            majority_vote([gold, response, None], kept[0])
            choose(response, gold.split("|"))

        return read

    return opened


TARGETS: Mapping[str, Target] = {
    "header": Target(_header, frozenset({"model.safetensors"})),
    "index": Target(_index, frozenset({"model.safetensors.index.json"})),
    "config": Target(_config, frozenset({"model.safetensors", "config.json"})),
    "tokenizer": Target(_tokenizer, frozenset({"base", "other"})),
    "template": Target(_template, frozenset({"base", "other"})),
    "recipe": Target(_recipe, frozenset({"recipe.yml"})),
    "tune": Target(_tune),
    "pool": Target(_pool, frozenset({"written.jsonl", *(f"queries{end}" for end in POOLS)})),
    "extractor": Target(_extractor),
    # A search may take `patterns.SECONDS`, and looks at the clock now and then.
    "regex": Target(_regex, seconds=4.0),
    "grader": Target(_grading(_WithoutAlgebra)),
    # Five comparisons: each asks for a second, may then begin one more question, and may have to
    # start the process anew.
    "algebra": Target(_grading(lambda: MathEquivalence(seconds=1.0)), seconds=20.0),
}
"""What is fuzzed, by name."""
