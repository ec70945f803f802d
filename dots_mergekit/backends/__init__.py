"""Models whose λ change in place: what runs them, by name, and the one way to open them.

Each backend is a module with two functions, which take the options that the backend names as its
own: `open_model(recipe, *, batch_size, kept, ...)` gives a `Swappable`, and `gpus(...)` the
number of GPUs that work for it. A new one is such a module, and its line in `BACKENDS`.
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

__all__ = ["BACKENDS", "Backend", "Swappable", "gpus", "open_backend", "require_options"]


@dataclass(frozen=True)
class Backend:
    """What runs the models.

    Attributes:
        says: What it is, in a few words, for `--help`.
        options: The options of `open_backend` that are its own.
        module: Where its functions are; imported when one of them is called.
    """

    says: str
    options: tuple[str, ...]
    module: str


BACKENDS: Mapping[str, Backend] = {
    "hf": Backend(
        says="transformers",
        options=("device", "on_disk"),
        module="dots_mergekit.backends.huggingface",
    ),
    "vllm": Backend(
        says="vLLM, much faster on GPUs",
        options=("backend_args", "weights_on"),
        module="dots_mergekit.backends.vllm.model",
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
