"""What strangers' files may hold: headers, models and tokenizers that are not what they seem.

Each is a sentence, what makes it of a sound one, and a part of the message that names it.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from checked import configure

__all__ = [
    "BASES",
    "HEADERS",
    "LOOP",
    "MODELS",
    "Spoil",
    "deep",
    "index",
    "looped",
    "pickled",
    "piped",
    "spell",
    "written",
]

GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def deep(text: str, levels: int = 60_000) -> bytes:
    return (text * levels).encode()


def but(**changes: Any) -> dict[str, Any]:
    """The header of one tensor with other fields; None leaves one out."""
    entry = {**GOOD, **changes}
    return {"w": {key: value for key, value in entry.items() if value is not None}}


HEADERS: Mapping[str, tuple[Any, str]] = {
    "a list": ([1], "holds a list"),
    "a text": ("x", "holds a text"),
    "a number": (5, "holds the number 5"),
    "null": (None, "holds nothing"),
    "true": (True, "holds true or false"),
    "lists nested 60,000 deep": (deep("["), "nests more than"),
    "lists nested 200 deep": (deep("[", 200) + deep("]", 200), "nests more than"),
    "mappings nested 60,000 deep": (deep('{"a":'), "nests more than"),
    "a tensor that is a number": ({"w": 5}, "tensor w is the number 5"),
    "a tensor that is a list": ({"w": [1]}, "tensor w is a list"),
    "a tensor that is null": ({"w": None}, "tensor w is nothing"),
    "no dtype": (but(dtype=None), "has no `dtype`"),
    "no shape": (but(shape=None), "has no `shape`"),
    "no data_offsets": (but(data_offsets=None), "has no `data_offsets`"),
    "a dtype that is a number": (but(dtype=5), "has the dtype 5"),
    "a dtype that is a list": (but(dtype=["F32"]), "has the dtype ['F32']"),
    "a dtype that nobody knows": (but(dtype="F33"), "has the dtype F33"),
    "a shape that is a number": (but(shape=2), "has the shape 2"),
    "a shape of texts": (but(shape=["2"]), "has the shape ['2']"),
    "a shape of fractions": (but(shape=[2.0]), "has the shape [2.0]"),
    "a shape of truths": (but(shape=[True, 2]), "has the shape [True, 2]"),
    "a negative shape": (but(shape=[-2, -1]), "has the shape [-2, -1]"),
    "a shape beyond all bounds": (but(shape=[10**30]), "has the shape [1000"),
    "a shape of a million dimensions": (but(shape=[1] * 1_000_000), "has the shape [1, 1"),
    "a shape of another size": (but(shape=[3]), "takes 12"),
    "offsets that are a number": (but(data_offsets=8), "has the data_offsets 8"),
    "one offset": (but(data_offsets=[8]), "has the data_offsets [8]"),
    "three offsets": (but(data_offsets=[0, 4, 8]), "has the data_offsets [0, 4, 8]"),
    "offsets that are texts": (but(data_offsets=["0", "8"]), "has the data_offsets ['0', '8']"),
    "offsets reversed": (but(data_offsets=[8, 0]), "has the data_offsets [8, 0]"),
    "offsets below zero": (but(data_offsets=[-8, 0]), "has the data_offsets [-8, 0]"),
    "offsets beyond the file": (but(shape=[4], data_offsets=[0, 16]), "is truncated"),
    "offsets that leave a gap": (but(shape=[1], data_offsets=[4, 8]), "leaves a gap"),
    "offsets that overlap": ({"a": GOOD, "b": GOOD}, "tensor b overlaps"),
    "bytes of no tensor": (but(shape=[1], data_offsets=[0, 4]), "4 bytes that belong to no"),
    "a name twice": (b'{"w": 1, "w": 2}', "'w' stands in it twice"),
    "a number of 5,000 digits": (b'{"w": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
    "metadata that is a list": ({"__metadata__": [1], **but()}, "safetensors refuses"),
    "what is no UTF-8": (b'{"\xff": 1}', "cannot be read as JSON"),
    "nothing": (b"", "is empty"),
}


def spell(header: Any) -> bytes:
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + bytes(8)


def index(folder: Path, content: Any) -> None:
    """Give a model an index, its file beside it."""
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "model.safetensors.index.json").write_bytes(text)


def pickled(folder: Path, content: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


def written(folder: Path, name: str, content: bytes | str) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)


def bomb(folder: Path, part: str, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(part, content)


def pickled_as(folder: Path, content: str) -> None:
    (folder / "model.safetensors").unlink()
    written(folder, "pytorch_model.bin", content)


def foldered(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()


def piped(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)


def looped(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / name)


LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"

Spoil = Callable[[Path], Any]

MODELS: Mapping[str, tuple[Spoil, str]] = {
    "config nests 60,000 deep": (
        lambda p: written(p, "config.json", deep('{"a":')),
        "config.json nests more than 100 deep",
    ),
    "config nests 200 deep": (
        lambda p: configure(p, x=json.loads("[" * 200 + "]" * 200)),
        "config.json nests more than 100 deep",
    ),
    "config is binary": (
        lambda p: written(p, "config.json", b"\x80\x02\xff"),
        "config.json cannot be read as JSON",
    ),
    "config is empty": (lambda p: written(p, "config.json", ""), "it is empty"),
    "config is a list": (lambda p: written(p, "config.json", "[1]"), "it is no mapping"),
    "config is null": (lambda p: written(p, "config.json", "null"), "it is no mapping"),
    "config is an LFS pointer": (
        lambda p: written(p, "config.json", "version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer",
    ),
    "config is huge": (
        lambda p: os.truncate(p / "config.json", 1 << 30),
        "config.json is too large",
    ),
    "config is a pipe": (lambda p: piped(p, "config.json"), "is a pipe; a file is needed"),
    "config links to itself": (
        lambda p: looped(p, "config.json"),
        "Too many levels of symbolic links",
    ),
    "config is a folder": (
        lambda p: foldered(p, "config.json"),
        "has no config.json",
    ),
    "architectures: 3": (lambda p: configure(p, architectures=3), "it has 3"),
    "architectures: Qwen": (lambda p: configure(p, architectures="Q"), "it has 'Q'"),
    "architectures: [3]": (lambda p: configure(p, architectures=[3]), "it has [3]"),
    "architectures: []": (lambda p: configure(p, architectures=[]), "it has []"),
    "quantization_config: 5": (
        lambda p: configure(p, quantization_config=5),
        "quantization_config that is no mapping",
    ),
    "a thousand million layers": (
        lambda p: configure(p, num_hidden_layers=10**9),
        "num_hidden_layers: 1000000000; a whole number of at most 10000",
    ),
    "2.5 layers": (lambda p: configure(p, num_hidden_layers=2.5), "num_hidden_layers: 2.5"),
    "layers that are a text": (lambda p: configure(p, num_hidden_layers="x"), "refuses its config"),
    "a model_type that is a list": (lambda p: configure(p, model_type=[1]), "refuses its config"),
    "a model_type with code of its own": (
        lambda p: configure(p, model_type="odd", auto_map={"AutoConfig": "odd.Odd"}),
        "code that comes with the model, which is not run",
    ),
    "hidden_size: null and more": (lambda p: configure(p, vocab_size=-1), "vocab_size is -1"),
    "a vocabulary that the weights do not have": (
        lambda p: configure(p, vocab_size=300),
        "vocab_size is 300, and model.embed_tokens.weight has 288 rows",
    ),
    "index with numbers as files": (
        lambda p: index(p, {"weight_map": {"w": 3}}),
        "weight_map has 3 as the file of w",
    ),
    "index with null as a file": (
        lambda p: index(p, {"weight_map": {"w": None}}),
        "weight_map has None as the file of w",
    ),
    "index that leaves the folder": (
        lambda p: index(p, {"weight_map": {"w": "../base/model.safetensors"}}),
        "which is not in the model's folder",
    ),
    "index that leaves the folder by a detour": (
        lambda p: index(p, {"weight_map": {"w": "a/../../base/model.safetensors"}}),
        "which is not in the model's folder",
    ),
    "index with an absolute path": (
        lambda p: index(p, {"weight_map": {"w": "/etc/passwd"}}),
        "which is not in the model's folder",
    ),
    "index that names the folder": (
        lambda p: index(p, {"weight_map": {"w": "."}}),
        "which is not in the model's folder",
    ),
    "index with a NUL in a name": (
        lambda p: index(p, {"weight_map": {"w": "a\0b"}}),
        "embedded null byte",
    ),
    "index with a surrogate in a name": (
        lambda p: index(p, {"weight_map": {"w": "\ud800.safetensors"}}),
        "cannot look at",
    ),
    "index with a name of 5,000 characters": (
        lambda p: index(p, {"weight_map": {"w": "x" * 5000}}),
        "File name too long",
    ),
    "index that is a list": (lambda p: index(p, [1]), "has no weight_map"),
    "index without a map": (lambda p: index(p, {"metadata": {}}), "has no weight_map"),
    "index with an empty map": (lambda p: index(p, {"weight_map": {}}), "has no weight_map"),
    "index with a list for a map": (lambda p: index(p, {"weight_map": [1]}), "has no weight_map"),
    "index nested deep": (lambda p: index(p, deep("[")), "nests more than"),
    "index that promises too much": (
        lambda p: index(p, {"weight_map": {"w": "part.safetensors"}}),
        "the index promises w in part.safetensors; it is not",
    ),
    "index that names the config": (
        lambda p: index(p, {"weight_map": {"w": "config.json"}}),
        "config.json cannot be read as PyTorch weights",
    ),
    "pickle of a list": (lambda p: pickled(p, [1, 2]), "it holds a list"),
    "pickle of a number": (lambda p: pickled(p, 5), "it holds a int"),
    "pickle of a tensor": (lambda p: pickled(p, torch.ones(2)), "it holds a Tensor"),
    "pickle with a state_dict that is none": (
        lambda p: pickled(p, {"state_dict": 5}),
        "no floating-point tensors",
    ),
    "pickle with numbers as names": (lambda p: pickled(p, {1: torch.ones(2)}), "1 stands where"),
    "pickle with code": (lambda p: pickled(p, {"w": print}), "more than tensors (print)"),
    "pickle of sparse tensors": (
        lambda p: pickled(p, {"w": torch.ones(2, 2).to_sparse()}),
        "w is sparse or quantized",
    ),
    "pickle that expands a thousand-fold": (
        lambda p: bomb(p, "a/data.pkl", b"0" * (1 << 24)),
        "a/data.pkl in it is compressed (",
    ),
    "weights that expand a thousand-fold": (
        lambda p: bomb(p, "a/data/0", bytes(1 << 24)),
        "a/data/0 in it is compressed (",
    ),
    "bytes under the name of a pickle": (
        lambda p: pickled_as(p, "hello"),
        "pytorch_model.bin cannot be read as PyTorch weights",
    ),
    "empty pickle": (
        lambda p: pickled_as(p, ""),
        "pytorch_model.bin is empty",
    ),
    "pickle that is an LFS pointer": (
        lambda p: pickled_as(p, "version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS pointer",
    ),
    "weights that are a pipe": (lambda p: piped(p, "model.safetensors"), "is a pipe"),
    "weights that link to themselves": (
        lambda p: looped(p, "model.safetensors"),
        "Too many levels of symbolic links",
    ),
    "empty weights": (lambda p: os.truncate(p / "model.safetensors", 0), "is empty"),
    "cut weights": (lambda p: os.truncate(p / "model.safetensors", 9000), "is truncated"),
}


BASES: Mapping[str, tuple[Spoil, str]] = {
    "tokenizer that is cut": (
        lambda p: os.truncate(p / "tokenizer.json", 100),
        "tokenizer.json cannot be read as JSON",
    ),
    "tokenizer that is other JSON": (
        lambda p: written(p, "tokenizer.json", '{"a": 1}'),
        "cannot be loaded",
    ),
    "tokenizer that is a list": (
        lambda p: written(p, "tokenizer.json", "[1]"),
        "tokenizer.json must hold a mapping",
    ),
    "tokenizer that nests deep": (
        lambda p: written(p, "tokenizer.json", deep('{"model":')),
        "tokenizer.json nests more than",
    ),
    "tokenizer that is a pipe": (lambda p: piped(p, "tokenizer.json"), "is a pipe"),
    "tokenizer of an odd kind": (
        lambda p: written(p, "tokenizer.json", '{"model": {"type": "Odd", "vocab": 3}}'),
        "cannot be loaded",
    ),
    "tokenizer_config that is binary": (
        lambda p: written(p, "tokenizer_config.json", b"\xff\xfe"),
        "tokenizer_config.json cannot be read as JSON",
    ),
    "tokenizer_config that is a text": (
        lambda p: written(p, "tokenizer_config.json", '"x"'),
        "tokenizer_config.json must hold a mapping",
    ),
    "template that is binary": (
        lambda p: written(p, "chat_template.jinja", b"\x80\xff"),
        "chat_template.jinja is not UTF-8 text",
    ),
    "template with a syntax error": (
        lambda p: written(p, "chat_template.jinja", "a\n{% if %}"),
        "chat_template.jinja is broken, line 2",
    ),
    "template without end": (
        lambda p: written(p, "chat_template.jinja", LOOP),
        "takes more than 1 s of computing for a plain question",
    ),
    "template that takes all memory": (
        lambda p: written(
            p, "chat_template.jinja", "{% set n = 33 %}{{ ('a' * (2 ** n)) | length }}"
        ),
        "takes more memory",
    ),
    "template that writes without end": (
        lambda p: written(
            p, "chat_template.jinja", "{% for i in range(99999) %}{{ 'ab' * 50 }}{% endfor %}"
        ),
        "writes more than",
    ),
    "template that reaches into Python": (
        lambda p: written(p, "chat_template.jinja", "{{ ''.__class__.__mro__ }}"),
        "reaches for what the sandbox forbids",
    ),
    "template that fails": (
        lambda p: written(p, "chat_template.jinja", "{{ a.b.c }}"),
        "fails on a plain question: UndefinedError",
    ),
    "template that is a pipe": (lambda p: piped(p, "chat_template.jinja"), "is a pipe"),
    "template in the config that is a number": (
        lambda p: written(p, "tokenizer_config.json", '{"chat_template": [5]}'),
        "chat_template is 5",
    ),
}
