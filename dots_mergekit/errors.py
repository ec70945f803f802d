"""What can go wrong that is worth a sentence: one root, a few kinds, an exit code each."""

from __future__ import annotations

__all__ = ["DEATHS", "DotsError", "EngineError", "NonFiniteError", "RecipeError"]


class DotsError(Exception):
    """A failure with a message for the person at the keyboard.

    The message says what is wrong and where (file, tensor or key), what was expected, what was
    found and what to do. Our commands print it without a traceback and exit with `exit_code`:
    2 for a mistake in what was given to us, 1 for a failure of ours.
    """

    exit_code = 2


class RecipeError(DotsError):
    """A recipe that cannot be merged or tuned as it is written."""


class EngineError(DotsError):
    """An engine that died, or that does not hold the weights it was given.

    It says nothing against what was scored: whoever asks again gets a new engine.
    """

    exit_code = 1


DEATHS = 3
"""After so many of them in a row, nobody asks for another engine."""


class NonFiniteError(DotsError):
    """NaN or infinity in an input tensor, or arithmetic that leaves the range of its dtype.

    `input` says which tensor it is: 0 for the base, i for the i-th source, None if no input is to
    blame.
    """

    def __init__(self, message: str, *, input: int | None = None) -> None:
        super().__init__(message)
        self.input = input
