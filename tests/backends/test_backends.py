"""The list of backends: whose options are whose, and that nothing heavy loads to say so."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import write_triple

from dots_mergekit.backends import BACKENDS, gpus, open_backend, open_host, require_options
from dots_mergekit.backends.huggingface import LiveModel
from dots_mergekit.backends.on_disk import OnDiskModel
from dots_mergekit.errors import DotsError
from dots_mergekit.recipe import Recipe
from recipes import recipe_of

NOWHERE = Recipe("merge_method: dots")


def test_the_list_of_backends_is_light_to_import() -> None:
    heavy = {"torch", "mergekit", "transformers", "lm_eval", "vllm", "yaml", "pydantic", "numpy"}
    program = (
        "import sys; from dots_mergekit.backends import BACKENDS, require_options; "
        f"require_options('hf', device='cpu'); print(sorted({heavy} & set(sys.modules)))"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "[]\n"


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_has_its_functions_with_its_own_options(name: str) -> None:
    backend = BACKENDS[name]
    assert backend.says and backend.responses
    module: Any = __import__(backend.module, fromlist=["open_model"])
    opened = inspect.signature(module.open_model).parameters
    assert set(opened) == {"recipe", "batch_size", "kept", *backend.options}
    assert set(inspect.signature(module.gpus).parameters) == set(backend.options)
    hosted = {*inspect.signature(module.open_host).parameters} - {"batch_size"}
    assert hosted == {*inspect.signature(open_host).parameters} & {*backend.options}
    assert bool(backend.deciding) == ("backend_args" in backend.options)
    assert set(backend.options) < set(inspect.signature(open_backend).parameters)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vllm", {"on_disk": True}, "`on_disk` goes with backend `hf`, and the backend is `vllm`"),
        ("vllm", {"device": "cpu"}, "`device` goes with backend `hf`, and the backend is `vllm`"),
        ("hf", {"backend_args": {}}, "`backend_args` goes with backend `vllm`, and .* is `hf`"),
        ("hf", {"weights_on": "gpu"}, "`weights_on` goes with backend `vllm`, and .* is `hf`"),
        ("vlm", {}, "there is no backend `vlm`; did you mean `vllm`\\?; there are: hf, vllm"),
        ("hf", {"devise": "cpu"}, "there is no option `devise`"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DotsError, match=message):
        require_options(name, **options)
    with pytest.raises(DotsError, match=message):
        gpus(name, **options)
    if "devise" not in options:
        with pytest.raises(DotsError, match=message):
            open_backend(name, NOWHERE, **options)


def test_options_that_are_left_at_their_defaults_are_nobodys() -> None:
    for name in BACKENDS:
        nothing: dict[str, Any] = {"device": None, "on_disk": False, "weights_on": None}
        assert require_options(name, **nothing) is BACKENDS[name]


def test_a_model_is_loaded_when_the_backend_is_entered(tmp_path: Path) -> None:
    opening = open_backend("hf", NOWHERE)
    with pytest.raises(DotsError), opening:
        pass
    recipe = recipe_of(write_triple(tmp_path))
    with open_backend("hf", recipe, device="cpu", batch_size=3) as model:
        assert isinstance(model, LiveModel)
        assert model.lm.batch_size == 3
    with open_backend("hf", recipe, device="cpu", on_disk=True) as model:
        assert isinstance(model, OnDiskModel)


def test_gpus_that_work_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = {"tensor_parallel_size": 2, "pipeline_parallel_size": 3}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpus("hf") == gpus("hf", device="cuda:1", on_disk=True) == 1
    assert gpus("hf", device="cpu") == 0
    assert gpus("vllm", backend_args=engine) == 6
    assert gpus("vllm", backend_args=None) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpus("hf") == gpus("vllm", backend_args=engine) == 0
