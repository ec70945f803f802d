"""What the figures say of a merge: each with its number, and how sure it is.

Only what follows from the weights themselves. No range of λ and no density is advised: that a
figure here foretells them has not been shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dots_mergekit.analysis.figures import Figures, PairFigures
from dots_mergekit.messages import and_more

__all__ = ["Advice", "advise"]

_UNRELATED = 0.5
"""Below this cosine of the matrices a model is taken for no fine-tune of the base. Models that were
trained by themselves have nearly 0."""


@dataclass(frozen=True)
class Advice:
    """One thing to do or to know.

    Attributes:
        about: `base`, `no change`, `one parent` or `missing`.
        message: What, with its number.
        sure: `certain`, where it follows from the weights; `likely`, where other reasons are
            possible, which the message names.
    """

    about: str
    message: str
    sure: Literal["certain", "likely"]


def advise(
    whole: Figures, matrices: Figures, lacking: Sequence[tuple[str, Sequence[str]]]
) -> Iterator[Advice]:
    """Say what follows for a merge.

    Args:
        whole: Figures of the whole model.
        matrices: The same without vectors.
        lacking: Tensors that some sources do not have, with the names of these.
    """
    yield from _unchanged(whole)
    strangers = list(_unrelated(matrices))
    yield from strangers
    if not strangers:
        yield from _nearer_to_each_other(whole)
    yield from _missing(lacking)


def _unchanged(whole: Figures) -> Iterator[Advice]:
    for name, source in whole.sources.items():
        if source.norm == 0:
            yield Advice(
                "no change",
                f"{name} is equal to the base (its change has norm 0): its λ has no effect; leave "
                "it out, or name the model that was trained",
                "certain",
            )


def _unrelated(matrices: Figures) -> Iterator[Advice]:
    for name, source in matrices.sources.items():
        cosine = source.cosine_with_base
        if cosine is not None and cosine < _UNRELATED:
            yield Advice(
                "base",
                f"{name} was not trained from this base, or has nothing left of it: the cosine of "
                f"their matrices is {cosine:.2f} (of a fine-tune nearly 1), its change "
                f"{source.relative_change or 0:.2f} times as long as the base; name the base that "
                "it was trained from, or leave it out",
                "likely",
            )


def _nearer_to_each_other(whole: Figures) -> Iterator[Advice]:
    for pair in whole.pairs:
        a, b = (whole.sources[name].norm for name in pair.between)
        if pair.cosine is None or not a * b:
            continue
        # ‖τ_a − τ_b‖, from the cosine; where it is too small to be told from 0, it is small.
        distance = max(0.0, a * a + b * b - 2 * a * b * pair.cosine) ** 0.5
        if distance < min(a, b):
            yield _one_parent(pair, distance / min(a, b))


def _one_parent(pair: PairFigures, share: float) -> Advice:
    first, second = pair.between
    return Advice(
        "one parent",
        f"{first} and {second} are nearer to each other than to the base: {share:.2f} times the "
        f"shorter of their changes, which have the cosine {pair.cosine:.3f}. Either both come from "
        "another base, which is then the one to name, or one was trained from the other, or the "
        "same way; a merge counts what they share twice",
        "likely",
    )


def _missing(lacking: Iterable[tuple[str, Sequence[str]]]) -> Iterator[Advice]:
    tensors: dict[str, list[str]] = {}
    for tensor, names in lacking:
        for name in names:
            tensors.setdefault(name, []).append(tensor)
    for name, absent in tensors.items():
        yield Advice(
            "missing",
            f"{name} has no {absent[0]}{and_more(absent)} ({len(absent)} tensors): a merge takes "
            "these from the base and the other models",
            "certain",
        )
