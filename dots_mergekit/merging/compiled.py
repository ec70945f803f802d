"""Loops as machine code: compiled once on a machine, for its processor, and loaded from then on.

numba compiles the loops of a module, which takes a second or two, and most of a second even where
it finds in its own cache what it compiled before. So only its outcome is used: the object code lies
in the user's cache folder, and llvmlite alone, a tenth of a second, loads it from there. Where the
folder cannot be written, every process compiles for itself; where numba is missing or fails, there
is no machine code, and callers have to do without.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dots_mergekit.errors import DotsError
from dots_mergekit.files import write_bytes

__all__ = ["load"]

_LOG = logging.getLogger(__name__)

Loop = Callable[..., None]
"""Takes whole numbers, and lets other threads of Python run meanwhile."""


@functools.cache
def load(module: str, names: Sequence[str], *uses: str) -> Mapping[str, Loop] | None:
    """Give loops that are ready to be called, or None where they cannot be compiled.

    Args:
        module: The module whose `LOOPS` they are. It is not imported where they are compiled.
        names: Which of them.
        uses: Other modules of whose functions they are made.
    """
    try:
        objects = _objects(module, names, uses)
        return {name: _loaded(objects[name], name) for name in names}
    except Exception as error:  # whatever is wrong with numba, LLVM or their versions
        _LOG.warning("no machine code for %s (%r): what it computes takes longer", module, error)
        return None


def _objects(module: str, names: Sequence[str], uses: Sequence[str]) -> dict[str, bytes]:
    """Give the object code of each loop, out of the cache or into it."""
    key = _key([module, *uses])
    files = {name: _folder() / f"{module}.{name}-{key}.o" for name in names}
    kept = {name: _read(path) for name, path in files.items()}
    found = {name: code for name, code in kept.items() if code is not None}
    if len(found) < len(names):
        found = {name: _compile(module, name) for name in names}
        for name, code in found.items():
            _keep(files[name], code)
    return found


def _key(modules: Sequence[str]) -> str:
    """What decides the machine code: the sources, who compiles them, and for which processor."""
    from llvmlite import binding

    known = hashlib.sha256()
    for module in modules:
        spec = importlib.util.find_spec(module)
        assert spec is not None and spec.origin is not None
        known.update(Path(spec.origin).read_bytes())
    compilers = [f"{name} {version(name)}" for name in ("numba", "llvmlite")]
    known.update(repr([*compilers, binding.get_default_triple(), *_processor()]).encode())
    return known.hexdigest()[:24]


def _processor() -> tuple[str, str]:
    """Name and features of the processor, or what numba is told to take them for."""
    from llvmlite import binding

    name = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    return name, binding.get_host_cpu_features().flatten() if features is None else features


def _target() -> Any:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    name, features = _processor()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=name, features=features, opt=3, codemodel="jitdefault", jit=True
    )


def _compile(module: str, name: str) -> bytes:
    """Let numba compile a loop, without anything in it that would need Python."""
    import numba
    from llvmlite import binding

    logging.getLogger("numba").setLevel(logging.WARNING)  # else it tells of every instruction
    loop = importlib.import_module(module).LOOPS[name]
    count = loop.__code__.co_argcount
    compiled = numba.njit(
        numba.types.int64(*[numba.types.int64] * count),
        error_model="numpy",
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )(loop)
    (signature,) = compiled.signatures
    symbol = compiled.overloads[signature].fndesc.llvm_func_name
    parsed = binding.parse_assembly(compiled.inspect_llvm(signature).replace(symbol, name))
    code: bytes = _target().emit_object(parsed)
    return code


_engines: list[Any] = []
"""The owners of the machine code, which lives as long as they do."""


def _loaded(code: bytes, name: str) -> Loop:
    from llvmlite import binding

    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    address = engine.get_function_address(name)

    def call(*arguments: int) -> None:
        # numba's functions take places for a result and for an exception before their arguments.
        kinds = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * len(arguments)]
        result, exception = ctypes.c_int64(), ctypes.c_void_p()
        function = ctypes.CFUNCTYPE(ctypes.c_int32, *kinds)(address)
        status = function(ctypes.addressof(result), ctypes.addressof(exception), *arguments)
        assert status == 0, f"{name} ended with status {status}"

    return call


# --- the cache -----------------------------------------------------------------------------------

_DIGEST = hashlib.sha256().digest_size


def _folder() -> Path:
    """The user's folder for what can be made again."""
    if sys.platform == "win32":
        place = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        place = Path.home() / "Library" / "Caches"
    else:
        place = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(place) / "dots_mergekit"


def _read(path: Path) -> bytes | None:
    """Give the code in a file, if it is whole and this user's own."""
    try:
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            return None
        content = path.read_bytes()
    except OSError:
        return None
    code = content[_DIGEST:]
    return code if hashlib.sha256(code).digest() == content[:_DIGEST] else None


def _keep(path: Path, code: bytes) -> None:
    """Keep code for processes to come, if that is possible."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(path, hashlib.sha256(code).digest() + code)
    except (OSError, DotsError) as error:
        _LOG.debug("machine code is not kept: %s", error)
