"""Models whose λ change in place: what runs them, by name, and the one way to open them.

Each backend is a module with three functions, which take the options that the backend names as its
own: `open_model(recipe, *, batch_size, kept, ...)` gives a `Swappable`, `open_host(*, batch_size,
...)` a `Host`, and `gpus(...)` the number of GPUs that work for it. A new one is such a module, and
its line in `BACKENDS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dots_mergekit.errors import DotsError
from dots_mergekit.messages import did_you_mean

if TYPE_CHECKING:
    from dots_mergekit.merging.selections import SelectionFile
    from dots_mergekit.recipe import Recipe

__all__ = [
    "BACKENDS",
    "Backend",
    "Host",
    "Swappable",
    "gpus",
    "open_backend",
    "open_host",
    "require_options",
]


@dataclass(frozen=True)
class Backend:
    """What runs the models.

    Attributes:
        says: What it is, in a few words, for `--help`.
        options: The options of `open_backend` that are its own.
        module: Where its functions are; imported when one of them is called.
        library: The distribution that it runs on.
        responses: How they come about, as far as that is not alike among backends.
        deciding: Keys of `backend_args` that decide what is asked and answered, not how quickly.
    """

    says: str
    options: tuple[str, ...]
    module: str
    library: str
    responses: str
    deciding: tuple[str, ...] = ()


BACKENDS: Mapping[str, Backend] = {
    "hf": Backend(
        says="transformers",
        options=("device", "on_disk"),
        module="dots_mergekit.backends.huggingface",
        library="transformers",
        responses="what a task leaves open is as in the model's generation_config.json (and top_k "
        "50 where that is silent); one seed for all responses of a task",
    ),
    "vllm": Backend(
        says="vLLM, much faster on GPUs",
        options=("backend_args", "weights_on"),
        module="dots_mergekit.backends.vllm.model",
        library="vllm",
        responses="what a task leaves open is left open: the model's generation_config.json counts "
        "for the ends of responses alone; a seed for each response",
        deciding=(
            *("max_model_len", "max_length", "max_gen_toks", "truncation_side"),
            *("dtype", "kv_cache_dtype", "hf_overrides", "add_bos_token", "prefix_token_id"),
            *("chat_template_args", "enable_thinking", "think_end_token"),
        ),
    ),
}
"""Every backend by name, the default first."""


class Swappable(Protocol):
    """A model for lm-eval whose weights become those of any recipe; a context manager."""

    def __enter__(self) -> Swappable:
        """Give the model."""

    def __exit__(self, *_: object) -> None:
        """Close it."""

    @property
    def lm(self) -> Any:
        """The model that the next question goes to, as lm-eval sees it."""

    def use(self, recipe: Recipe) -> None:
        """Make its weights those that `mergekit-yaml` would write."""

    def close(self) -> None:
        """Give back what it takes; it is of no use afterwards."""


class Host(Protocol):
    """What runs one model after the other, of any kind, for lm-eval; a context manager."""

    def __enter__(self) -> Host:
        """Give it."""

    def __exit__(self, *_: object) -> None:
        """Close it."""

    def require(self, path: str) -> None:
        """Refuse a checkpoint that can be seen not to run here, before anything is loaded."""

    def load(self, path: str) -> Any:
        """Become a checkpoint; give it for lm-eval.

        Args:
            path: A folder or a Hub id, with `@revision` where one is named.

        Raises:
            DotsError: It cannot be loaded as it is.
            EngineError: What runs it died, or its weights are not those of the checkpoint.
        """

    def merge(self, recipe: Recipe, *, seed: int | None = None) -> Any:
        """Become a merge; give it for lm-eval.

        Args:
            recipe: Of any method.
            seed: mergekit's, for methods that draw random masks.

        Raises:
            DotsError: It cannot be merged, or not loaded as it is.
            EngineError: What runs it died, or its weights are not those of the merge.
        """

    def close(self) -> None:
        """Give back what it takes."""


def open_backend(
    name: str,
    recipe: Recipe,
    *,
    batch_size: int = 64,
    kept: SelectionFile | None = None,
    device: str | None = None,
    on_disk: bool = False,
    backend_args: Mapping[str, Any] | None = None,
    weights_on: str | None = None,
) -> AbstractContextManager[Swappable]:
    """Choose what runs the merges of a recipe under any λ.

    Mistakes in what is given are refused at once; the model is loaded when the result is entered,
    and closed when it is left.

    Args:
        name: A backend's, from `BACKENDS`.
        recipe: The merge; its weights are those to begin with.
        batch_size: Responses that `hf` generates side by side; vLLM decides that by itself.
        kept: Where selections outlive the model.
        device: Of `hf`: where the model computes; a GPU if there is one, if None.
        on_disk: Of `hf`: merge every recipe to disk and load it, instead of changing the weights
            in memory.
        backend_args: Of `vllm`: options of lm-eval's `vllm` model and of vLLM itself, by name.
        weights_on: Of `vllm`: where the inputs are kept, `gpu`, `cpu` (mapped to their files) or
            `auto`, which is also what None means: on the GPU if they fit beside the engine.

    Raises:
        DotsError: No backend has this name, or an option is another backend's.
    """
    options: dict[str, Any] = {
        "device": device,
        "on_disk": on_disk,
        "backend_args": backend_args,
        "weights_on": weights_on,
    }
    backend = require_options(name, **options)
    given = {option: options[option] for option in backend.options}

    @contextmanager
    def opening() -> Iterator[Swappable]:
        module: Any = importlib.import_module(backend.module)
        with module.open_model(recipe, batch_size=batch_size, kept=kept, **given) as model:
            yield model

    return opening()


def open_host(
    name: str,
    *,
    batch_size: int = 64,
    device: str | None = None,
    backend_args: Mapping[str, Any] | None = None,
) -> Host:
    """Choose what runs checkpoints and merges one after the other; none is loaded yet.

    Args:
        name: A backend's, from `BACKENDS`.
        batch_size: As for `open_backend`.
        device: As there.
        backend_args: As there.

    Raises:
        DotsError: No backend has this name, an option is another backend's, or has a value that
            cannot be.
    """
    options: dict[str, Any] = {"device": device, "backend_args": backend_args}
    backend = require_options(name, **options)
    module: Any = importlib.import_module(backend.module)
    given = {option: options[option] for option in backend.options if option in options}
    host: Host = module.open_host(batch_size=batch_size, **given)
    return host


def gpus(name: str, **options: Any) -> int:
    """Count the GPUs that work on this machine for a model of a backend; 0 where a CPU does.

    Args:
        name: A backend's, from `BACKENDS`.
        options: Those of `open_backend`.

    Raises:
        DotsError: As for `open_backend`.
    """
    backend = require_options(name, **options)
    module: Any = importlib.import_module(backend.module)
    given = {option: options[option] for option in backend.options if option in options}
    found: int = module.gpus(**given)
    return found


def require_options(name: str, **options: Any) -> Backend:
    """Give a backend by name, and refuse options that are given and are another's.

    Args:
        name: A backend's, from `BACKENDS`.
        options: Those of `open_backend`; None and False are as if left out.

    Raises:
        DotsError: No backend has this name, or an option is another backend's.
    """
    if name not in BACKENDS:
        raise DotsError(
            f"there is no backend `{name}`{did_you_mean(name, BACKENDS)}; "
            f"there are: {', '.join(BACKENDS)}"
        )
    for option, value in options.items():
        if option in BACKENDS[name].options or value is None or value is False:
            continue
        owners = [f"`{other}`" for other, one in BACKENDS.items() if option in one.options]
        raise DotsError(
            f"`{option}` goes with backend {' or '.join(owners)}, and the backend is `{name}`"
            if owners
            else f"there is no option `{option}` of a backend"
        )
    return BACKENDS[name]
