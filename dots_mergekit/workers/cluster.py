"""Ray, started here or joined: what it has room for, and what is said where it has none."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.logs import mute
from dots_mergekit.messages import first_line
from dots_mergekit.workers.warden import warded

__all__ = ["Share", "Wish", "joined", "require_ray", "share_of"]

# Seconds that an address has to answer.
_PATIENCE = 20

# Ray gives up on a busy machine where it would have started a little later.
_STARTS = 3

# What Ray keeps for objects, in bytes: ours are texts and numbers. Its least is 75 MiB.
_OBJECTS = 100 << 20


@dataclass(frozen=True)
class Wish:
    """The workers that somebody asked for.

    Attributes:
        count: How many at most; None is as many as the cluster has room for.
        address: Of a Ray cluster, HOST:PORT or `auto`; None starts one on this machine.
        gpus: For each worker; None is one for each GPU that its engine spreads over, if there are
            GPUs.
        threads: That compute on CPUs, for each worker; None is its share of the cores.

    Raises:
        DotsError: These cannot be.
    """

    count: int | None = None
    address: str | None = None
    gpus: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("workers", self.count), ("threads", self.threads)):
            if value is not None and (isinstance(value, bool) or value < 1):
                raise DotsError(f"`{name}`: a whole number of at least 1 is needed; found {value}")
        if self.gpus is not None and not (0 <= self.gpus < 1 or self.gpus == int(self.gpus) >= 1):
            raise DotsError(
                f"`gpus_per_worker`: a share below 1 or a whole number is needed; found {self.gpus}"
            )
        if self.address is None and self.count is None:
            raise DotsError("`workers` or `ray_address` is needed to say where workers are")
        host, _, port = (self.address or "auto").rpartition(":")
        if self.address not in (None, "auto") and not (host and "/" not in host and port.isdigit()):
            raise DotsError(f"`ray_address`: HOST:PORT or auto is needed; found {self.address!r}")

    def __str__(self) -> str:
        """Spell it as people read it: `at most 8 of the Ray cluster at auto, 1 GPU each`."""
        count = "as many as have room" if self.count is None else f"at most {self.count}"
        where = "on this machine" if self.address is None else f"of the Ray cluster {self.address}"
        each = [
            *([] if self.gpus is None else [f"{self.gpus:g} GPUs"]),
            *([] if self.threads is None else [f"{self.threads} threads"]),
        ]
        return ", ".join([f"{count} {where}", *(f"{one} each" for one in each)])


@dataclass(frozen=True)
class Share:
    """What each worker gets.

    Attributes:
        gpus: As Ray counts them.
        threads: That compute on CPUs.
        room: How many such workers the nodes that are there now have room for.
    """

    gpus: float
    threads: int
    room: int


def require_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        DotsError: It is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise DotsError(
            'workers need Ray, which is not installed: pip install "dots-mergekit[ray]"'
        )


@contextlib.contextmanager
def joined(wish: Wish, wide: int, *, verbose: bool = False) -> Iterator[Share]:
    """Start a Ray on this machine, or join the cluster, and say what each worker gets.

    A Ray that was started ends with the block, with every process of it, and some seconds after
    this process where that is killed. Ctrl-C and SIGTERM stay what they were before.

    Args:
        wish: The workers that are wanted.
        wide: The GPUs that the engine of one spreads over, where there are GPUs.
        verbose: Show what workers print.

    Raises:
        DotsError: Ray is not installed; the address does not answer, or not as a Ray of this
            version; no node has the GPUs of one worker.
        EngineError: Ray does not start here.
    """
    require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing here calls home
    import ray

    if ray.is_initialized():
        raise DotsError("this process uses Ray already: end that with ray.shutdown() first")
    options: dict[str, Any] = {
        "logging_level": "ERROR",
        "log_to_driver": verbose,
        "configure_logging": verbose,
    }
    if wish.address is None:
        cores = max(os.cpu_count() or 1, (wish.count or 1) * (wish.threads or 1))
        options |= {"address": "local", "num_cpus": cores, "include_dashboard": False}
        options |= {"object_store_memory": _OBJECTS}
    else:
        _require_answer(wish.address)
        options |= {"address": wish.address}
    with warded() as started:
        try:
            with _same_signals(), contextlib.nullcontext() if verbose else mute():
                _start(options, wish.address)
            started()
            yield share_of(wish, wide, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        finally:
            with _same_signals():
                ray.shutdown()


def _require_answer(address: str) -> None:
    """See that something answers at an address, and as Ray does, before Ray waits for it."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), _PATIENCE):
            pass
    except OSError as error:
        raise DotsError(
            f"`ray_address`: nothing answers at {address} ({first_line(error)}); start Ray there "
            "with `ray start --head`, or leave the option out to use this machine alone"
        ) from error
    program = (
        "import sys; from ray._raylet import GcsClient; "
        "GcsClient(address=sys.argv[1]).internal_kv_keys(b'', None)"
    )
    try:
        subprocess.run(
            [sys.executable, "-c", program, address],
            capture_output=True,
            check=True,
            timeout=_PATIENCE,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise DotsError(
            f"`ray_address`: what answers at {address} is no Ray head, or did not answer within "
            f"{_PATIENCE} s; give the address that `ray start --head` printed"
        ) from error


def _start(options: Mapping[str, Any], address: str | None) -> None:
    """Let Ray start or join; once more where it did not start in the half minute that it waits."""
    import ray

    for tries in range(_STARTS if address is None else 1, 0, -1):
        try:
            ray.init(**options)
            return
        except Exception as error:  # of many kinds, plain `Exception` among them
            ray.shutdown()
            if tries == 1:
                raise _failure(address, error) from error


def _failure(address: str | None, error: Exception) -> DotsError:
    if address is None:
        return EngineError(
            f"Ray does not start on this machine: {first_line(error)}; try again when it is less "
            "busy, or score in this process, without `workers`"
        )
    return DotsError(
        f"`ray_address`: the cluster at {address} cannot be joined: {first_line(error)}; this "
        "machine must be one of its nodes (`ray start`), with the same versions of Ray and Python"
    )


@contextlib.contextmanager
def _same_signals() -> Iterator[None]:
    """Undo what Ray does to the handlers of signals, where there are any."""
    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        yield
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread, where Ray sets none
            for number, handler in before.items():
                signal.signal(number, handler)


def share_of(wish: Wish, wide: int, nodes: Sequence[Mapping[str, float]]) -> Share:
    """Divide what nodes have among workers.

    Raises:
        DotsError: No node has enough GPUs for one.
    """
    most = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    gpus = wish.gpus if wish.gpus is not None else float(wide) if most else 0.0
    if gpus > most:
        raise DotsError(
            f"`gpus_per_worker`: a worker is to have {gpus:g} GPUs, and no node has more than "
            f"{most:g}"
        )
    cores = [int(node.get("CPU", 0)) for node in nodes]
    slots = [int(node.get("GPU", 0) / gpus) for node in nodes] if gpus else cores
    count = min(sum(slots), wish.count or sum(slots))
    threads = wish.threads or _threads(cores, slots, count, by_gpu=bool(gpus))
    room = sum(min(slot, core // threads) for slot, core in zip(slots, cores, strict=True))
    if not room:
        raise DotsError(
            f"`threads`: a worker is to have {threads}, and no node has more than "
            f"{max(cores, default=0)} cores for Ray"
        )
    return Share(gpus, threads, min(room, wish.count or room))


def _threads(cores: Sequence[int], slots: Sequence[int], count: int, *, by_gpu: bool) -> int:
    """Give each worker its share of cores; beside GPUs, that of the node with the fewest."""
    if by_gpu:
        shares = [core // slot for core, slot in zip(cores, slots, strict=True) if slot]
        return max(1, min(shares))
    # The most with which so many workers have room.
    most = range(max(cores, default=1), 1, -1)
    return next((n for n in most if sum(core // n for core in cores) >= count), 1)
