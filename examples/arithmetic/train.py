"""Train the three checkpoints of the arithmetic world from scratch: base, SFT, RLVR.

    python examples/arithmetic/train.py --seed 0 --out triple

writes `triple/base`, `triple/sft`, `triple/rlvr` (Hugging Face format, bfloat16 safetensors, about
1.6 MB each) and `triple/training_log.json`. SFT and RLVR both start from the saved base, so their
task vectors are what two teams would get who fine-tuned one published model.

What is learned, by how large a model and for how long, is a `Course`; `ARITHMETIC` is that of the
shipped triple. Another script can hand another one to `main`.
"""

import argparse
import json
import math
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

import torch
import world
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    set_seed,
)

PAD, END, USER, ASSISTANT = SPECIAL_TOKENS = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role not in ('user', 'assistant') %}"
    "{{ raise_exception('this model knows the roles user and assistant only') }}"
    "{% endif %}"
    "{{ '<|' + message.role + '|>' + message.content + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
PROMPT_LOSS_WEIGHT = 0.1
"""Loss weight of prompt tokens in base training: digits of a question cannot be predicted, so they
teach little and would drown the response, yet the model should have seen what questions are."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """A world to learn, the model that learns it, and how.

    Attributes:
        name: What the world is called.
        base: Endless (prompt, response) pairs of the noisy mixture.
        sft: So many clean (prompt, response) pairs.
        rlvr: So many problems, of which only the answers are used.
        stages: What each stage teaches, for `--help`.
        shape: Of the model, fields of a `Qwen2Config`.
        max_response: Tokens of a response.
        steps: Optimizer steps, by stage.
        base_batch: Responses in a batch of the base.
        base_rate: Learning rate of the base, after the warm-up.
        base_warmup: Steps of the warm-up.
        sft_batch: Responses in a batch of SFT.
        sft_rate: Learning rate of SFT at its beginning.
        rlvr_prompts: Prompts in a batch of RLVR.
        rlvr_samples: Samples of each prompt.
        rlvr_rate: Learning rate of RLVR.
        bf16: Whether products are computed in bfloat16; the weights stay in float32.
    """

    name: str
    base: Callable[[random.Random], Iterator[tuple[str, str]]]
    sft: Callable[[random.Random, int], list[tuple[str, str]]]
    rlvr: Callable[[random.Random, int], Sequence[world.Problem]]
    stages: Mapping[str, str]
    shape: Mapping[str, Any]
    max_response: int
    steps: Mapping[str, int]
    base_batch: int = 128
    base_rate: float = 2e-3
    base_warmup: int = 100
    sft_batch: int = 64
    sft_rate: float = 3e-4
    rlvr_prompts: int = 32
    rlvr_samples: int = 8
    rlvr_rate: float = 1e-5
    bf16: bool = False


ARITHMETIC = Course(
    name="arithmetic world",
    base=lambda rng: world.base_corpus(world.build(), rng),
    sft=lambda rng, size: world.sft_corpus(world.build(), rng, size),
    rlvr=lambda rng, size: world.rlvr_corpus(world.build(), rng, size),
    stages={
        "base": "next-token prediction on a noisy mixture of all eight families",
        "sft": "TRL SFTTrainer: clean answers for reverse, sort, town, color",
        "rlvr": "TRL GRPOTrainer: reward 1 for the exact answer on add, sub, mul, max",
    },
    shape={
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    max_response=48,  # the longest worked response has 36 with its end token
    steps={"base": 1400, "sft": 500, "rlvr": 80},
)


def build_tokenizer() -> Qwen2Tokenizer:
    """One token per byte (byte-level BPE without merges) and four special tokens.

    Any text survives encoding and decoding. A word-level vocabulary would be smaller, but
    transformers loads every `qwen2` tokenizer as byte-level BPE and would drop its spaces.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    # Byte-level BPE writes a printable byte as itself and the n-th other one as chr(256 + n).
    symbols = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *symbols))}
    return Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        unk_token=None,  # type: ignore[arg-type]  # every byte is known; its default is not a token
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
    )


def build_model(tokenizer: Qwen2Tokenizer, shape: Mapping[str, Any]) -> Qwen2ForCausalLM:
    """A Qwen2 with random weights (from torch's seed), in float32."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        **shape,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def save(model: PreTrainedModel, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Write a bfloat16 checkpoint whose generation defaults are greedy and end at `<|end|>`."""
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.config.use_cache = True
    torch.nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load(folder: Path) -> PreTrainedModel:
    """The saved checkpoint in float32, ready for fine-tuning."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def encode(
    pairs: list[tuple[str, str]], tokenizer: Qwen2Tokenizer
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [batch, length], padded right, and the loss weight of each token."""
    ids, weights = [], []
    for prompt, response in pairs:
        question = tokenizer.encode(f"{USER}{prompt}{END}{ASSISTANT}")
        answer = tokenizer.encode(f"{response}{END}")
        ids.append(torch.tensor(question + answer))
        weights.append(torch.tensor([PROMPT_LOSS_WEIGHT] * len(question) + [1.0] * len(answer)))
    pad = tokenizer.pad_token_id
    return (
        torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad),
        torch.nn.utils.rnn.pad_sequence(weights, batch_first=True),
    )


def train_base(
    course: Course, out: Path, tokenizer: Qwen2Tokenizer, seed: int, steps: int
) -> dict[str, float | int]:
    """Next-token prediction on the noisy mixture: AdamW, linear warm-up, cosine decay to zero."""
    model = build_model(tokenizer, course.shape)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=course.base_rate, weight_decay=0.01)

    def rate(step: int) -> float:
        warm = min(1.0, (step + 1) / course.base_warmup)
        return warm * 0.5 * (1 + math.cos(math.pi * step / steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    corpus = course.base(random.Random(seed))
    losses: list[float] = []
    start = time.perf_counter()
    for step in range(1, steps + 1):
        ids, weights = encode([next(corpus) for _ in range(course.base_batch)], tokenizer)
        # No attention mask: padding is on the right and attention is causal.
        with torch.autocast("cpu", torch.bfloat16, enabled=course.bf16):
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()
        token_losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        loss = (token_losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 0 or step == steps:
            recent = statistics.fmean(losses[-100:])
            elapsed = time.perf_counter() - start
            print(f"  base {step}/{steps} loss {recent:.4f} {elapsed:.0f} s", flush=True)
    save(model, tokenizer, out / "base")
    return {
        "steps": steps,
        "final_loss": statistics.fmean(losses[-100:]),
        "parameters": model.num_parameters(),
    }


def _message(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def _fine_tune(
    course: Course,
    out: Path,
    stage: str,
    tokenizer: Qwen2Tokenizer,
    seed: int,
    steps: int,
    trainers: tuple[Any, Any],
    examples: list[dict[str, Any]],
    settings: dict[str, Any],
    **more: Any,
) -> list[dict[str, float]]:
    """Train the saved base with one of TRL's trainers, save it as `stage`, give what was logged.

    Args:
        course: Says how products are computed.
        out: Where the base is, and where the result goes.
        stage: The name of the result.
        tokenizer: Saved with it.
        seed: Of the order of the data and of whatever is sampled.
        steps: Optimizer steps.
        trainers: A trainer and the class of its settings.
        examples: The rows of the data set.
        settings: What only this trainer is told; on a CPU, nothing saved on the way.
        more: Further arguments of the trainer.
    """
    from datasets import Dataset

    trainer_class, config_class = trainers
    model = load(out / "base")
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_class(
            model=model,
            args=config_class(
                output_dir=scratch,
                max_steps=steps,
                seed=seed,
                use_cpu=True,
                bf16=course.bf16,
                gradient_checkpointing=False,
                save_strategy="no",
                report_to="none",
                logging_steps=min(10, steps),
                dataloader_pin_memory=False,
                **settings,
            ),
            train_dataset=Dataset.from_list(examples),
            processing_class=tokenizer,
            **more,
        )
        trainer.train()
    save(model, tokenizer, out / stage)
    history: list[dict[str, float]] = trainer.state.log_history
    return history


def _logged(history: list[dict[str, float]], key: str) -> list[float]:
    return [entry[key] for entry in history if key in entry]


def train_sft(
    course: Course, out: Path, tokenizer: Qwen2Tokenizer, seed: int, steps: int
) -> dict[str, float | int]:
    """TRL's SFTTrainer on clean string and fact answers; loss on the response only."""
    from trl import SFTConfig, SFTTrainer

    pairs = course.sft(random.Random(seed), steps * course.sft_batch)
    examples = [
        {"prompt": _message("user", prompt), "completion": _message("assistant", response)}
        for prompt, response in pairs
    ]
    settings = {
        "per_device_train_batch_size": course.sft_batch,
        "learning_rate": course.sft_rate,
        "lr_scheduler_type": "cosine",
        "max_length": 128,
        "completion_only_loss": True,
    }
    trainers = (SFTTrainer, SFTConfig)
    history = _fine_tune(course, out, "sft", tokenizer, seed, steps, trainers, examples, settings)
    losses = _logged(history, "loss")
    return {"steps": steps, "first_loss": losses[0], "final_loss": losses[-1]}


def exact_answer(
    completions: list[list[dict[str, str]]], answer: list[str], **_: object
) -> list[float | None]:
    """The verifiable reward: 1 if what follows the last `####` is the answer, else 0."""
    return [
        float(world.extract_answer(completion[0]["content"]) == expected)
        for completion, expected in zip(completions, answer, strict=True)
    ]


def train_rlvr(
    course: Course, out: Path, tokenizer: Qwen2Tokenizer, seed: int, steps: int
) -> dict[str, float | int]:
    """TRL's GRPOTrainer on the reasoning families: exact-answer reward, no KL penalty."""
    from trl import GRPOConfig, GRPOTrainer

    problems = course.rlvr(random.Random(seed), steps * course.rlvr_prompts)
    examples = [
        {"prompt": _message("user", problem.prompt), "answer": problem.answer}
        for problem in problems
    ]
    settings = {
        "per_device_train_batch_size": course.rlvr_prompts * course.rlvr_samples,
        "num_generations": course.rlvr_samples,
        "max_completion_length": course.max_response,
        "temperature": 1.0,
        "learning_rate": course.rlvr_rate,
        "lr_scheduler_type": "constant",
        "beta": 0.0,
    }
    trainers = (GRPOTrainer, GRPOConfig)
    history = _fine_tune(
        course,
        out,
        "rlvr",
        tokenizer,
        seed,
        steps,
        trainers,
        examples,
        settings,
        reward_funcs=exact_answer,
    )
    rewards = _logged(history, "reward")
    return {"steps": steps, "first_reward": rewards[0], "final_reward": rewards[-1]}


def versions() -> dict[str, str]:
    """The Python and package versions that the result depends on."""
    packages = ("torch", "transformers", "trl", "tokenizers", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def parse_arguments(course: Course, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; defaults are those of the course."""
    stages = "\n".join(f"  {stage:<6}{what}" for stage, what in course.stages.items())
    compare = (
        " Then see how well they merge:\n  python examples/arithmetic/compare.py --triple DIR"
        if course is ARITHMETIC
        else ""
    )
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"Train base -> sft and base -> rlvr on the {course.name}, from scratch,\n"
        f"on a CPU.\n\n{stages}",
        epilog="Writes DIR/base, DIR/sft, DIR/rlvr and DIR/training_log.json. The data are the\n"
        "same for every seed; the seed sets the initial weights, the order of the data and\n"
        f"the samples.{compare}",
    )
    parser.add_argument("--seed", type=int, default=0, help="training seed (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to create; must be empty"
    )
    parser.add_argument(
        "--base",
        type=Path,
        metavar="DIR",
        help="take the base of this triple, in place of training one",
    )
    for stage, what in (
        ("base", f"batches of {course.base_batch} responses"),
        ("sft", f"batches of {course.sft_batch} responses"),
        ("rlvr", f"batches of {course.rlvr_prompts} prompts, {course.rlvr_samples} samples each"),
    ):
        parser.add_argument(
            f"--{stage}-steps",
            type=int,
            default=course.steps[stage],
            metavar="N",
            help=f"{stage} training steps, {what} (default: %(default)s)",
        )
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count(),
        metavar="N",
        help="CPU threads of torch (default: all, %(default)s here)",
    )
    parsed = parser.parse_args(arguments)
    for name in ("base_steps", "sft_steps", "rlvr_steps", "threads"):
        if getattr(parsed, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return parsed


def fail(message: str) -> NoReturn:
    """End with the exit code of a user's mistake."""
    print(f"train.py: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def main(course: Course = ARITHMETIC, given: Sequence[str] | None = None) -> None:
    """Train the triple and write its log."""
    arguments = parse_arguments(course, given)
    out: Path = arguments.out
    try:
        version("trl")
    except PackageNotFoundError:
        fail("the trainers of TRL are needed: pip install trl")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            fail(f"{out} is not empty: name a new folder with --out")
    except OSError as error:
        fail(f"cannot write to {out}: {error.strerror}")

    torch.set_num_threads(arguments.threads)
    tokenizer = build_tokenizer()
    log: dict[str, Any] = {
        "seed": arguments.seed,
        "threads": arguments.threads,
        "versions": versions(),
        "stages": {},
    }
    stages: dict[
        str, Callable[[Course, Path, Qwen2Tokenizer, int, int], dict[str, float | int]]
    ] = {"base": train_base, "sft": train_sft, "rlvr": train_rlvr}
    if arguments.base:
        del stages["base"]
        shutil.copytree(arguments.base / "base", out / "base")
        log["base"] = str(arguments.base)
    for stage, train in stages.items():
        print(f"{stage}: training", flush=True)
        start = time.perf_counter()
        set_seed(arguments.seed)
        steps = getattr(arguments, f"{stage}_steps")
        outcome = train(course, out, tokenizer, arguments.seed, steps)
        seconds = round(time.perf_counter() - start, 1)
        log["stages"][stage] = {"seconds": seconds, **outcome}
        print(f"{stage}: {seconds:.0f} s {outcome}", flush=True)
        (out / "training_log.json").write_text(json.dumps(log, indent=2) + "\n")


if __name__ == "__main__":
    main()
