"""A model in a vLLM engine whose weights become those of any recipe, without a restart."""

from __future__ import annotations

import functools
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dots_mergekit.backends.live import LiveMerge, require_live
from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.merging.selections import SelectionFile
from dots_mergekit.recipe import Recipe
from dots_mergekit.recipe.mergekit import write_merge
from dots_mergekit.recipe.plans import NotLiveError, PlannedMerge

if TYPE_CHECKING:
    from dots_mergekit.backends.vllm.lm import VllmLM

__all__ = ["LiveVllmModel", "WeightSwapper"]

_LOG = logging.getLogger(__name__)

# What a worker answers: that all is well, that a merge is impossible, or that the engine is broken.
_FINE, _REFUSED, _BROKEN = "fine", "refused", "broken"

# Rows and columns of each of the engine's parameters that are looked at after a swap.
_ROWS, _COLUMNS = 32, 4

# How many whole numbers, from 0 up, every floating-point format of weights holds exactly.
_DIGITS = 256

# What lm-eval or vLLM would take, and why it cannot be chosen here.
_NOT_OPTIONS = {
    **dict.fromkeys(
        ("pretrained", "model", "tokenizer"), "the engine runs the merge of the recipe"
    ),
    "data_parallel_size": "each engine would need swaps of its own; use tensor_parallel_size",
    "load_format": "the engine starts from the safetensors files of the first merge",
    "lora_local_path": "name the adapter in the recipe: model+adapter",
    "quantization": "merged weights cannot be swapped into quantized ones",
    "trust_remote_code": "code that comes with a model is never run",
}

# Memory that is left alone where inputs are kept on a GPU, in bytes.
_MARGIN = 2 << 30

# Entries whose bits are read at a time, and what spreads their places over the bits of a number.
_CHUNK = 1 << 22
_ODD = 0x9E3779B1


class LiveVllmModel:
    """A model in one vLLM engine, whose weights are merged anew inside it for each recipe.

    mergekit merges the first recipe into a folder, from which the engine starts. From then on
    only the text of a recipe travels to the engine's workers. Each of them merges every tensor,
    and the engine's own loader keeps the worker's share of it. The inputs stay mapped to their
    files, or lie on the GPU where there is room for them.

    A context manager; without `with`, call `close`.

    Args:
        recipe: The merge; its weights are those to begin with.
        engine: Options of lm-eval's `vllm` model and of vLLM itself, by name.
        weights_on: Where workers keep the inputs: `gpu`, `cpu` (mapped to their files), or `auto`:
            on the GPU if they fit beside the engine.
        kept: Where selections outlive the engine.

    Raises:
        DotsError: vLLM is not installed, does not start, or does not take this merge.
    """

    def __init__(
        self,
        recipe: Recipe,
        engine: Mapping[str, Any] | None = None,
        *,
        weights_on: str = "auto",
        kept: SelectionFile | None = None,
    ) -> None:
        try:
            require_live(recipe)
        except NotLiveError as error:
            raise _not_taken(str(error)) from None
        self._options = dict(engine or {})
        for name in self._options:
            if name in _NOT_OPTIONS:
                raise DotsError(f"--backend-args {name}: {_NOT_OPTIONS[name]}")
        self._weights_on = weights_on
        self._kept = kept
        self._first = recipe
        self._used: str | None = None
        self._lm: VllmLM | None = None
        self._folder = tempfile.TemporaryDirectory()
        try:
            _require_vllm()
            write_merge(recipe, self._folder.name)
            _require_plain(self._folder.name)
            self._start()
        except EngineError as error:
            self.close()
            raise DotsError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> LiveVllmModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the engine, and remove what it started from."""
        self._stop()
        self._folder.cleanup()

    @property
    def lm(self) -> VllmLM:
        """The model as lm-eval sees it; another object when the engine was started again.

        Raises:
            EngineError: There is no engine; `use` starts one.
        """
        if self._lm is None:
            raise EngineError("the vLLM engine is not running")
        return self._lm

    def use(self, recipe: Recipe) -> None:
        """Make the engine's weights those that `mergekit-yaml` would write, and forget the rest.

        An engine that failed since is replaced first.

        Raises:
            EngineError: The engine died, or its weights are not those of the merge.
            DotsError: The merge cannot be done.
        """
        if self._lm is None or self._lm.failed:
            _LOG.warning("starting the vLLM engine again")
            self._stop()
            self._start()
        if recipe.text != self._used:
            self._used = None
            self._ask("dots_swap", recipe.text)
            self._used = recipe.text
        # Also without a swap: with less to compute, a cached prompt may round differently.
        if not self.lm.ask(lambda llm: llm.reset_prefix_cache()):
            self._stop()
            raise EngineError(
                "the vLLM engine keeps its prefix cache, which is that of old weights"
            )

    def _start(self) -> None:
        from dots_mergekit.backends.vllm.lm import VllmLM

        options = {
            "worker_extension_cls": f"{__name__}.{WeightSwapper.__qualname__}",
            **self._options,
            "pretrained": self._folder.name,
        }
        try:
            self._lm = VllmLM(**options)
        except Exception as error:
            told = str(error).strip().splitlines() or [type(error).__name__]
            raise EngineError(
                f"the vLLM engine does not start: {told[0]}; look at its own messages and at "
                "--backend-args"
            ) from error
        kept = self._kept
        # Every worker keeps them: each finds the same, and a file is replaced as a whole.
        file = [str(kept.path.resolve()), json.dumps(kept.of())] if kept else []
        self._ask("dots_open", self._first.text, self._weights_on, *file)
        self._used = self._first.text

    def _stop(self) -> None:
        self._used = None
        if self._lm is not None:
            self._lm.close()
            self._lm = None

    def _ask(self, method: str, *arguments: str) -> None:
        """Let every worker do something; the first that cannot speaks for all."""
        answers = self.lm.ask(lambda llm: llm.collective_rpc(method, args=arguments))
        for state, message in answers:
            if state != _FINE:
                self._stop()  # it may hold half of a merge
                raise (DotsError if state == _REFUSED else EngineError)(message)


def _require_vllm() -> None:
    try:
        import vllm  # noqa: F401

        import dots_mergekit.backends.vllm.lm  # noqa: F401
    except ImportError as error:
        raise DotsError(
            f"--backend vllm needs vLLM, which cannot be imported ({error}); "
            'install it with: pip install "dots-mergekit[vllm]"'
        ) from error


def _require_plain(folder: str) -> None:
    """Refuse what vLLM keeps in another form than its checkpoint's, before it is started."""
    from vllm.config import ModelConfig

    try:
        config = ModelConfig(model=folder)
    except Exception as error:
        told = str(error).strip().splitlines()
        raise _not_taken(f"vLLM does not know it: {told[0] if told else error!r}") from error
    kinds = {
        "a hybrid or Mamba model, whose state vLLM derives from its weights": config.is_hybrid
        or config.has_inner_state
        or config.is_attention_free,
        "a mixture of experts, whose weights vLLM cannot load twice": config.is_moe,
        "quantized": config.quantization is not None,
    }
    for kind, applies in kinds.items():
        if applies:
            raise _not_taken(f"the model ({', '.join(config.architectures)}) is {kind}")


def _not_taken(reason: str) -> DotsError:
    return DotsError(
        f"this merge cannot be swapped inside a vLLM engine: {reason}; use --backend hf"
    )


# In the engine's workers


class WeightSwapper:
    """What is added to each worker of the engine: methods that are called by their names.

    vLLM makes it a base class of its worker class, so the worker's attributes are at hand. Only
    texts travel, there and back.
    """

    model_runner: Any
    device: torch.device

    def dots_open(
        self, text: str, weights_on: str, kept: str | None = None, of: str = "null"
    ) -> tuple[str, str]:
        """Read the inputs, find out where each of their entries lies here, and merge them.

        Args:
            text: The recipe of the merge that the engine started from.
            weights_on: `gpu`, `cpu` or `auto`.
            kept: The file of the selections, if they are to outlive the engine.
            of: What decides those selections, as JSON.

        Returns:
            `fine`, or `refused` with the reason: the weights as merged here are not those that
            the engine loaded from its folder, bit for bit.
        """
        try:
            recipe = Recipe(text)
            file = SelectionFile(Path(kept), functools.partial(json.loads, of)) if kept else None
            merge = LiveMerge(recipe, device=self.device, kept=file)
            if _fits(merge, self.device, weights_on):
                merge.keep_on_device()
            self._dots_swap = _Swap(self.model_runner, merge, recipe)
        except NotLiveError as error:
            return _REFUSED, str(_not_taken(str(error)))
        except DotsError as error:
            return _REFUSED, str(error)
        return _FINE, ""

    def dots_swap(self, text: str) -> tuple[str, str]:
        """Merge, load what was merged, and compare a part of it with what is there then.

        Returns:
            `fine`; `refused` with the reason why the merge is impossible; `broken` where the
            weights are not those of the merge.
        """
        try:
            differing = self._dots_swap.to(Recipe(text))
        except DotsError as error:
            return _REFUSED, str(error)
        if differing:
            return _BROKEN, (
                "after a swap the weights in the vLLM engine are not those of the merge: "
                + ", ".join(differing)
            )
        return _FINE, ""

    def dots_fingerprints(self) -> dict[str, int]:
        """Give a number for each parameter of this worker's model that depends on all its bits."""
        return _fingerprints(self.model_runner.get_model())


def _fits(merge: LiveMerge, device: torch.device, weights_on: str) -> bool:
    """Say whether the inputs are to lie on the GPU, and see that they can."""
    if device.type == "cpu":
        if weights_on == "gpu":
            raise DotsError("--weights-on gpu: the engine runs on the CPU")
        return False
    free, _ = torch.cuda.mem_get_info(device)
    fits = merge.nbytes + _MARGIN <= free
    if weights_on == "gpu" and not fits:
        needed, left = (f"{size / 2**30:.1f} GiB" for size in (merge.nbytes, free))
        raise DotsError(
            f"--weights-on gpu: the inputs take {needed}, and beside the engine {left} are free; "
            "lower gpu_memory_utilization in --backend-args"
        )
    return fits and weights_on != "cpu"


class _Swap:
    """One worker's side of the swaps.

    vLLM fuses tensors, shards them over workers and pads them. Where an entry of a tensor ends up
    is found out by loading numbers that say where they come from, through the same loaders.
    """

    def __init__(self, runner: Any, merge: LiveMerge, recipe: Recipe) -> None:
        self._runner = runner
        self._merge = merge
        model = runner.get_model()
        started = _fingerprints(model)
        self._samples = [_Sample(parameter) for parameter in _parameters(model)]
        try:
            self._locate(recipe)
            self.to(recipe)
        except torch.OutOfMemoryError:
            raise
        except (KeyError, ValueError, RuntimeError, AssertionError, AttributeError) as error:
            # Whatever a loader raises at a name or a shape that it does not expect.
            raise NotLiveError(f"vLLM does not take its tensors ({error!r})") from error
        differing = [name for name, bits in _fingerprints(model).items() if bits != started[name]]
        if differing:
            raise NotLiveError(f"{_spell(differing)} differ from the merge on disk")
        for sample in self._samples:
            sample.keep_found()
        lost = [s.parameter.name for s in self._samples if not len(s)]
        if lost:
            raise NotLiveError(f"no tensor of the merge ends up in {_spell(lost)}")

    def to(self, recipe: Recipe) -> list[str]:
        """Merge and load; give the names of parameters that are not what was merged."""
        with self._merge.keeping_new_selections():
            self._runner.reload_weights(weights_iterator=self._stream(recipe))
        return [s.parameter.name for s in self._samples if not s.holds()]

    def _stream(self, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
        for number, planned in enumerate(self._merge.plan(recipe)):
            # Each one new: vLLM keeps it until the layer that it belongs to is complete.
            merged = self._merge.tensor(planned)
            for sample in self._samples:
                sample.expect(number, merged)
            yield planned.task.tensor_name, merged

    def _locate(self, recipe: Recipe) -> None:
        """Load the digits of each entry's tensor, row and column, and read what came where."""
        plan = self._merge.plan(recipe)
        shapes = [_matrix_shape(self._merge.shape(planned)) for planned in plan]
        most = len(plan), max(rows for rows, _ in shapes), max(columns for _, columns in shapes)
        for axis, count in enumerate(most):
            place = 1
            while place < count:
                self._runner.reload_weights(weights_iterator=self._digits(plan, axis, place))
                for sample in self._samples:
                    sample.learn(axis, place)
                place *= _DIGITS
        for sample in self._samples:
            sample.drop_strays(shapes)

    def _digits(
        self, plan: Sequence[PlannedMerge], axis: int, place: int
    ) -> Iterator[tuple[str, Tensor]]:
        """Stream one digit of the tensor's number (axis 0), of each row's (1), or column's (2)."""
        for number, planned in enumerate(plan):
            shape = self._merge.shape(planned)
            rows, columns = _matrix_shape(shape)
            index = [
                torch.full((1, 1), number),
                torch.arange(rows).view(-1, 1),
                torch.arange(columns).view(1, -1),
            ][axis]
            digit = (index // place % _DIGITS).to(self._runner.device, torch.bfloat16)
            yield planned.task.tensor_name, digit.expand(rows, columns).reshape(shape)


def _matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """See a tensor as rows of whatever belongs to one index of its first dimension."""
    rows = shape[0] if len(shape) else 1
    columns = 1
    for size in shape[1:]:
        columns *= size
    return rows, columns


@dataclass(frozen=True)
class _Parameter:
    """A parameter of the engine's model, in whatever form it computes with it.

    Attributes:
        name: In the engine, where layers of the checkpoint may be fused.
        tensor: The parameter; empty where a CPU build has packed it for its matrix product.
        layer: The layer that it belongs to.
    """

    name: str
    tensor: Tensor
    layer: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        if self.tensor.numel():
            return _matrix_shape(self.tensor.shape)
        return self.layer.output_size_per_partition, self.layer.input_size_per_partition

    @property
    def dtype(self) -> torch.dtype:
        """The format of the entries."""
        return self.tensor.dtype

    def columns(self, chosen: Tensor) -> Tensor:
        """Read these columns, all rows."""
        # Looked up each time: a reload may put another tensor in its place.
        tensor = getattr(self.layer, self.name.rpartition(".")[2])
        if tensor.numel():
            rows, columns = self.shape
            entries: Tensor = tensor.detach().view(rows, columns)[:, chosen]
            return entries
        # A product with unit vectors is exact, and is what the engine itself would compute.
        units = torch.zeros(len(chosen), self.shape[1], dtype=tensor.dtype, device=tensor.device)
        units[torch.arange(len(chosen)), chosen] = 1
        product: Tensor = self.layer.quant_method.apply(self.layer, units, None)
        return product.t()


def _parameters(model: nn.Module) -> Iterator[_Parameter]:
    for prefix, layer in model.named_modules():
        for name, tensor in layer.named_parameters(recurse=False):
            found = _Parameter(f"{prefix}.{name}" if prefix else name, tensor, layer)
            packed = hasattr(layer, "quant_method") and hasattr(layer, "input_size_per_partition")
            if not tensor.numel() and not packed:
                raise NotLiveError(f"vLLM keeps {found.name} in a form that cannot be read")
            yield found


def _fingerprints(model: nn.Module) -> dict[str, int]:
    """Give Σ bits(i) · odd(i), modulo 2⁶³, for each parameter: exact in any order."""
    return {parameter.name: _fingerprint(parameter) for parameter in _parameters(model)}


def _fingerprint(parameter: _Parameter) -> int:
    rows, columns = parameter.shape
    total, step = 0, max(1, _CHUNK // rows)
    for first in range(0, columns, step):
        chosen = torch.arange(first, min(first + step, columns), device=parameter.tensor.device)
        values = parameter.columns(chosen).contiguous()
        bits = values.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[values.itemsize])
        place = torch.arange(rows, device=values.device).view(-1, 1) * columns + chosen
        total += int((bits.long() * (place * _ODD | 1)).sum())  # int64 wraps around
    return total % (1 << 63)


class _Sample:
    """A few entries of one parameter: where they come from, and what they should be."""

    def __init__(self, parameter: _Parameter) -> None:
        self.parameter = parameter
        rows, columns = parameter.shape
        device = parameter.tensor.device
        self._rows = _spread(rows, _ROWS if columns > 1 else _ROWS * _COLUMNS, device)
        self._columns = _spread(columns, _COLUMNS, device)
        count = len(self._rows) * len(self._columns)
        # Of the entries as they are read, row after row: those that are looked at, the tensor, row
        # and column of the merge that each of them comes from, and what the last merge made them.
        self._entries = torch.arange(count, device=device)
        self._origin = torch.zeros(3, count, dtype=torch.int64, device=device)
        self._expected = torch.zeros(count, dtype=parameter.dtype, device=device)
        self._numbers: set[int] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def read(self) -> Tensor:
        """Read the entries from the engine."""
        return self.parameter.columns(self._columns)[self._rows].reshape(-1)[self._entries]

    def learn(self, axis: int, place: int) -> None:
        """Take what is there now for a digit of where the entries come from."""
        # What nothing was loaded into may hold anything.
        digits = self.read().double().nan_to_num(nan=-1.0).clamp(-1, _DIGITS).long()
        self._origin[axis] += digits * place

    def drop_strays(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Forget entries that come from nowhere: padding."""
        limits = torch.tensor(shapes, device=self._origin.device).T
        number, row, column = self._origin
        known = (number >= 0) & (number < len(shapes))
        nearest = number.clamp(0, len(shapes) - 1)
        known &= (row >= 0) & (row < limits[0][nearest])
        known &= (column >= 0) & (column < limits[1][nearest])
        self._keep(known)

    def keep_found(self) -> None:
        """Forget entries that are not what was merged, of a model that is known to be right."""
        self._keep(self.read() == self._expected)

    def _keep(self, known: Tensor) -> None:
        self._entries, self._origin = self._entries[known], self._origin[:, known]
        self._expected = self._expected[known]
        self._numbers = set(self._origin[0].tolist())

    def expect(self, number: int, merged: Tensor) -> None:
        """Note the values of those entries that come from this tensor."""
        if number in self._numbers:
            mine = (self._origin[0] == number).nonzero().squeeze(1)
            _, row, column = self._origin[:, mine]
            values = merged.reshape(_matrix_shape(merged.shape))[row, column]
            self._expected[mine] = values.to(self._expected.dtype)

    def holds(self) -> bool:
        """Whether the engine has what was merged."""
        return torch.equal(self.read(), self._expected)


def _spread(size: int, count: int, device: torch.device) -> Tensor:
    """Choose up to `count` of `size` indices, evenly, the first and the last among them."""
    last = max(1, min(size, count) - 1)
    return torch.tensor([i * (size - 1) // last for i in range(min(size, count))], device=device)


def _spell(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
