"""Workers of Ray: placed as there is room for them, checked, opened, and replaced when they die."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dots_mergekit.errors import DotsError, EngineError
from dots_mergekit.messages import first_line
from dots_mergekit.progress import Progress
from dots_mergekit.workers import Done
from dots_mergekit.workers.actor import Answer, Known, Like, Plan, Worker
from dots_mergekit.workers.cluster import Share, Wish, joined

if TYPE_CHECKING:
    from dots_mergekit.merging.selections import SelectionFile

__all__ = ["RayCrew"]

# A call is asked again so often when its worker dies.
_AGAIN = 3

# So many workers in a row may die while they open what they hold.
_FALSE_STARTS = 3

# Seconds: between two looks at who has come; in which those who have room at the start are to be
# there, or the search begins without them; that a worker gets to close what it holds.
_TICK = 1.0
_GATHERING = 60.0
_CLOSING = 10.0


@dataclass
class _Call:
    """A call, and why it was not answered yet, once for each worker that died of it."""

    future: Future[Done]
    method: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    deaths: list[str] = field(default_factory=list)


@dataclass
class _Member:
    """A worker, the answer that is awaited of it, and what is to be done with that.

    Attributes:
        actor: Ray's handle.
        pending: The reference of the answer; None while it has nothing to do.
        then: Takes the answer.
        place: Where it is; empty until it has room.
        call: What it is asked.
        ready: It has opened what it holds.
    """

    actor: Any
    pending: Any
    then: Callable[[Any], None]
    place: str = ""
    call: _Call | None = None
    ready: bool = False


class RayCrew:
    """Lets Ray's workers answer; a context manager, in which Ray is joined at the first call.

    Each worker is first placed, which waits for room; then it compares what is on its machine with
    what is here, and is refused if that differs; then it opens what it holds. While this goes on,
    others answer already. One that dies is replaced, and its call asked again, elsewhere if Ray
    finds a place elsewhere first. One that is refused keeps its place, so that no other is put
    there, and does nothing.

    Args:
        plan: Makes what each worker holds.
        wish: The workers that are wanted.
        folders: The checkpoints that are folders here.
        wide: The GPUs that the engine of one worker spreads over, where there are GPUs.
        kept: Selections that workers are given, and to which those are added that they find.
        prepare: Is called once, while the first workers come, before one of them opens anything.
        progress: Is told who comes and goes.
        verbose: Show what workers print.
    """

    def __init__(
        self,
        plan: Plan,
        wish: Wish,
        *,
        folders: Sequence[str] = (),
        wide: int = 1,
        kept: SelectionFile | None = None,
        prepare: Callable[[], None] = lambda: None,
        progress: Progress,
        verbose: bool = False,
    ) -> None:
        self._plan, self._wish, self._kept, self._progress = plan, wish, kept, progress
        self._prepare = prepare
        self._like = functools.cache(lambda: Like(os.getcwd(), folders, plan.identity()))
        self._of = functools.cache(lambda: kept.of() if kept else None)
        self._join = functools.partial(joined, wish, wide, verbose=verbose)
        self._stack = contextlib.ExitStack()
        self._share: Share | None = None
        self._members: list[_Member] = []
        self._queue: deque[_Call] = deque()
        self._false_starts, self._checked, self._begun = 0, 0, 0.0
        self._worked = False
        self._told: set[str] = set()

    def __enter__(self) -> RayCrew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """How many workers are ready, at least 1."""
        return max(1, sum(member.ready for member in self._members))

    def submit(self, method: str, *args: Any, **kwargs: Any) -> Future[Done]:
        """Let the next worker that is free call a method of what it holds."""
        call = _Call(Future(), method, args, kwargs)
        self._queue.append(call)
        if self._share is None:
            self._share = self._stack.enter_context(self._join())
            self._begun = time.monotonic()
            for _ in range(self._wish.count or self._share.room):
                self._recruit(self._share)
            self._prepare()
        self._hand_out()
        return call.future

    def wait(self, futures: Collection[Future[Done]], *, more: bool) -> None:
        """Wait until one of these has ended, or there is room for more.

        Raises:
            DotsError: A worker that had room from the start is refused, or cannot open what it is
                to hold.
            EngineError: Three workers in a row died before they were ready.
        """
        while futures and not any(future.done() for future in futures):
            if more and self.size > len(futures):
                return
            self._look()

    def close(self) -> None:
        """End all workers, whatever they do, and leave the cluster."""
        import ray

        members, self._members = self._members, []
        try:
            idle = [m.actor.close.remote() for m in members if m.ready and m.pending is None]
            if idle:
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.wait(idle, num_returns=len(idle), timeout=_CLOSING)
        finally:
            for member in members:
                with contextlib.suppress(ray.exceptions.RayError, RuntimeError):
                    ray.kill(member.actor)
            self._stack.close()

    # Who is there

    def _recruit(self, share: Share) -> None:
        """Ask Ray for one more worker, which comes when there is room."""
        import ray

        actor = (
            ray.remote(Worker)
            .options(num_cpus=share.threads, num_gpus=share.gpus, max_restarts=0)
            .remote(share.threads)
        )
        member = _Member(actor, actor.place.remote(), lambda _: None)
        member.then = functools.partial(self._placed, member)
        self._members.append(member)

    def _placed(self, member: _Member, where: tuple[str, int]) -> None:
        member.place = f"{where[0]}, process {where[1]}"
        self._await(
            member, member.actor.differences.remote(self._like(), self._plan), self._compared
        )
        unplaced = any(not other.place for other in self._members)
        if self._wish.count is None and not unplaced and self._share is not None:
            self._recruit(self._share)  # for whom there may be room when a node joins

    def _compared(self, member: _Member, differences: list[str]) -> None:
        self._checked += 1
        if differences:
            self._refuse(member, "; ".join(differences))
            return
        self._await(member, member.actor.open.remote(self._known()), self._opened)

    def _opened(self, member: _Member, found: Mapping[Any, Any] | DotsError) -> None:
        if isinstance(found, DotsError):
            self._refuse(member, str(found))
            return
        self._keep(found)
        self._false_starts, self._worked = 0, True
        member.ready, member.pending = True, None

    def _refuse(self, member: _Member, why: str) -> None:
        """Let a worker do nothing; an error while those gather who had room from the start."""
        node = member.place.partition(", process")[0]
        text = f"the node {node} cannot take part: {why}"
        if self._gathering:
            raise DotsError(text)
        member.pending = None
        if node not in self._told:
            self._told.add(node)
            self._progress.note(text)

    @property
    def _gathering(self) -> bool:
        early = time.monotonic() - self._begun < _GATHERING
        room = self._share.room if self._share else 0
        return not self._worked or (early and self._checked <= room)

    def _await(self, member: _Member, reference: Any, then: Callable[..., None]) -> None:
        member.pending, member.then = reference, functools.partial(then, member)

    # Calls

    def _hand_out(self) -> None:
        """Give waiting calls to workers that have nothing to do."""
        for member in self._members:
            if self._queue and member.ready and member.pending is None:
                call = member.call = self._queue.popleft()
                asked = member.actor.call.remote(call.method, call.args, call.kwargs)
                self._await(member, asked, self._answered)

    def _answered(self, member: _Member, answer: Answer) -> None:
        call, member.call, member.pending = member.call, None, None
        assert call is not None
        self._keep(answer.found)
        if isinstance(answer.error, EngineError):
            self._ask_again(call, f"{member.place}: {answer.error}")
        elif answer.error is not None:
            call.future.set_exception(answer.error)
        else:
            call.future.set_result(Done(answer.value, answer.seconds))

    def _ask_again(self, call: _Call, why: str) -> None:
        call.deaths.append(why)
        if len(call.deaths) > _AGAIN:
            call.future.set_exception(
                EngineError(f"{len(call.deaths)} workers failed at it, the last one {why}")
            )
        else:
            self._queue.appendleft(call)

    def _look(self) -> None:
        """Take what workers have answered since, and see who died; wait a little if nothing is."""
        import ray

        pending = {m.pending: m for m in self._members if m.pending is not None}
        if not pending:
            raise DotsError("no worker is left that can take part")
        ray.wait(list(pending), num_returns=1, timeout=_TICK)
        ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
        for reference in ready:
            member = pending[reference]
            try:
                answer = ray.get(reference)
            except ray.exceptions.RayTaskError:
                raise  # a fault of ours, with the traceback from there
            except ray.exceptions.RayError as error:
                self._lost(member, error)
            else:
                member.then(answer)
        self._hand_out()

    def _lost(self, member: _Member, error: Exception) -> None:
        """Replace a worker that died, and ask elsewhere what it was asked."""
        self._members.remove(member)
        why = f"{member.place or 'without a place'}: {_cause(error)}"
        self._progress.note(f"a worker died, {why}")
        if member.call is not None:
            self._ask_again(member.call, why)
        self._false_starts += not member.ready
        if self._false_starts >= _FALSE_STARTS:
            if any(other.ready for other in self._members):
                return  # the others go on without it
            raise EngineError(
                f"{self._false_starts} workers in a row died before they were ready, the last one "
                f"{why}"
            )
        waiting = self._wish.count is None and any(not other.place for other in self._members)
        if self._share is not None and not waiting:
            self._recruit(self._share)

    # Selections

    def _known(self) -> Known:
        """Give what a worker need not compute."""
        of = self._of()
        return Known(of, self._kept.read() if self._kept and of is not None else {})

    def _keep(self, found: Mapping[Any, Any]) -> None:
        """Keep what a worker computed, for those that come."""
        if found and self._kept is not None:
            self._kept.write({**self._kept.read(), **found})


def _cause(error: Exception) -> str:
    """Say in a few words how a worker died, out of Ray's many."""
    text = str(error)
    for mark in ("Worker exit detail: ", "The actor died because its node has died"):
        start = text.find(mark)
        if start >= 0:
            cut = start + (len(mark) if mark.endswith(": ") else 0)
            return text[cut:].splitlines()[0].split(" Some common causes")[0].strip()
    return first_line(error)
