"""The vLLM backend of lm-eval, with a seed for each response and a plain word when it dies."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from lm_eval.models.vllm_causallms import VLLM
from vllm import LLM, SamplingParams, TokensPrompt
from vllm.platforms import current_platform

from dots_mergekit.backends.counting import CountsResponses
from dots_mergekit.errors import DEATHS, EngineError

__all__ = ["VllmLM"]

_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")


# How often a call that waits for the engine looks whether it still lives, in seconds.
_LOOK = 0.2

# How long vLLM may take to end its processes, in seconds; it gives them 5 itself.
_FAREWELL = 20.0

# How long it may take to tidy up after them, in seconds.
_AFTERMATH = 2.0


class VllmLM(CountsResponses, VLLM):  # type: ignore[misc]  # lm-eval has no types
    """lm-eval's `vllm` model.

    It differs in four things. Each response is sampled with a seed of its own, drawn from
    torch's generator: lm-eval would give all responses to a prompt the same seed or none, and
    without one they depend on whatever the engine sampled before. The engine begins only when it
    has all requests, so that which of them are computed side by side, and with it the last bit of
    a logit, does not depend on the speed of this process. It counts what it generates. And an
    engine that dies costs the responses that it was about to give, where there is a way to have
    another one: the others are kept, and those are asked again with their seeds.

    Attributes:
        revive: Starts the engine again, with the weights that it had; None where whoever asked is
            to be told that it died.

    Args:
        kwargs: As for lm-eval's `VLLM`: `pretrained`, and the options of the engine.
    """

    def __init__(self, **kwargs: Any) -> None:
        if current_platform.is_cpu():
            # vLLM takes back what a seed gave to half a prompt, which no CPU generator can do: the
            # engine would die at the first prompt that is cut to fill a step.
            kwargs = {"enable_chunked_prefill": False, **kwargs}
        self.revive: Callable[[], object] | None = None
        with self._starting():
            super().__init__(**kwargs)

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Know the processes of an engine that starts meanwhile."""
        before = set(multiprocessing.active_children())
        yield
        self._processes = set(multiprocessing.active_children()) - before
        self._failed = False

    def restart(self, folder: str) -> None:
        """End the engine, and start another one with the same options.

        Args:
            folder: The checkpoint that it begins with, of the same tokenizer and shapes.
        """
        self.close()
        with self._starting():
            self.model = LLM(**{**self.model_args, "model": folder})

    @property
    def failed(self) -> bool:
        """Whether the engine died, or a call to it failed: what it holds is then unknown."""
        return self._failed or self._died()

    @property
    def pids(self) -> list[int]:
        """The processes of the engine that this one started."""
        return [process.pid for process in self._processes if process.pid is not None]

    def describe(self) -> dict[str, Any]:
        """Say what answers, for the record, as lm-eval does."""
        config = self.model.llm_engine.vllm_config
        given = {name: value for name, value in self.model_args.items() if value is not None}
        return {
            "model": "vllm",
            "model_args": {name: value for name, value in given.items() if name != "model"},
            "model_dtype": str(config.model_config.dtype),
            "batch_size": self.batch_size,
            "device": str(config.device_config.device),
        }

    def ask(self, call: Callable[[Any], _T], meanwhile: Callable[[], None] | None = None) -> _T:
        """Call the engine, and watch it meanwhile: vLLM itself waits forever for a dead one.

        Args:
            call: Is given the `vllm.LLM`.
            meanwhile: Is called now and then while it waits, and once more when it has the answer.

        Raises:
            EngineError: The engine died, or the call failed in it.
        """
        done: list[_T] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                done.append(call(self.model))
            except BaseException as error:  # raised again below, where somebody can see it
                failure.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        while thread.is_alive() and not self._died():
            thread.join(_LOOK)
            if meanwhile is not None:
                meanwhile()
        if not thread.is_alive() and done:
            return done[0]
        self._failed = True
        raise EngineError(self._spell_failure(failure)) from (failure[0] if failure else None)

    def close(self) -> None:
        """End the engine, with force where it does not end by itself."""
        self._failed = True
        # In a thread, and never awaited for long: when the processes are gone, vLLM's cleanup
        # sends a word to a thread of its own, and waits forever if that has just ended.
        shutdown = self.model.llm_engine.engine_core.shutdown
        cleanup = threading.Thread(target=shutdown, daemon=True)
        cleanup.start()
        deadline = time.monotonic() + _FAREWELL
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        cleanup.join(_AFTERMATH)

    def _handed_over(self) -> None:
        """It has been heard of already, while the others were computed."""

    def _died(self) -> bool:
        return any(not process.is_alive() for process in self._processes)

    def _spell_failure(self, failure: Sequence[BaseException]) -> str:
        for process in self._processes:
            process.join(_LOOK)  # a death that vLLM saw first
        codes = [process.exitcode for process in self._processes if process.exitcode is not None]
        if not codes:
            return f"the vLLM engine failed: {failure[0]!r}" if failure else "vLLM gave no answer"
        ends = ", ".join(f"signal {-code}" if code < 0 else f"exit code {code}" for code in codes)
        return (
            f"the vLLM engine died ({ends}); its own messages say why. Where memory ran out, "
            "lower gpu_memory_utilization, max_model_len or max_num_seqs in `backend_args`"
        )

    def _model_generate(
        self,
        requests: list[list[int]],
        generate: bool = False,
        sampling_params: list[SamplingParams] | None = None,
    ) -> list[Any]:
        if generate and sampling_params:
            seeds = torch.randint(1 << 62, (len(requests),)).tolist()
            for parameters, seed in zip(sampling_params, seeds, strict=True):
                parameters.seed = seed
        else:
            # The likelihood of the prompt's tokens; vLLM generates one token at least.
            sampling_params = [
                SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=1, detokenize=False)
            ] * len(requests)
        outputs = self._finish([*zip(requests, sampling_params, strict=True)])
        if generate:
            responses = [output.outputs[0] for output in outputs]
            self._count(
                [len(response.token_ids) for response in responses],
                [response.finish_reason != "length" for response in responses],
            )
        return outputs

    def _finish(self, requests: Sequence[tuple[list[int], SamplingParams]]) -> list[Any]:
        """Have all responses; ask again for those that an engine was about to give when it died.

        Raises:
            EngineError: It died and there is no other one, or so often that none would help.
        """
        finished: dict[int, Any] = {}
        deaths = 0
        while len(finished) < len(requests):
            before = len(finished)
            try:
                if deaths and self.revive is not None:
                    self.revive()
                self._run(requests, finished)
            except EngineError as error:
                # A row of deaths: not one response between them.
                deaths = 1 if len(finished) > before else deaths + 1
                if self.revive is None or deaths == DEATHS:
                    raise
                _LOG.warning(
                    "%s; %d responses are asked again", error, len(requests) - len(finished)
                )
        return [finished[index] for index in range(len(requests))]

    def _run(
        self, requests: Sequence[tuple[list[int], SamplingParams]], finished: dict[int, Any]
    ) -> None:
        """Have the responses that are missing, and note each as soon as it is there."""
        missing = [index for index in range(len(requests)) if index not in finished]

        def run(llm: Any) -> None:
            llm.sleep(level=0)  # requests wait
            names = llm.enqueue(
                [TokensPrompt(prompt_token_ids=requests[index][0]) for index in missing],
                [requests[index][1] for index in missing],
                lora_request=self.lora_request,
                use_tqdm=False,
            )
            # An output has the name of its request without what vLLM appends to tell them apart.
            places = {n.partition("-")[0]: i for n, i in zip(names, missing, strict=True)}
            llm.wake_up(tags=["scheduling"])
            while llm.llm_engine.has_unfinished_requests():
                for output in llm.llm_engine.step():
                    if output.finished:
                        finished[places[output.request_id]] = output

        told = len(finished)

        def tell() -> None:
            nonlocal told
            self._answered(len(finished) - told)
            told = len(finished)

        self.ask(run, tell)
