"""TeX's commands, functions and words of answers, as regular expressions."""

from __future__ import annotations

import re

from dots_mergekit.answers.extraction import TYPE_COMMANDS

__all__ = ["END", "FUNCTIONS", "LONG_WORD", "TEXT", "TYPE"]

END = r"(?![A-Za-z])"
"""Where the name of a command ends."""

TEXT = r"\\(?:text|textrm|textnormal|textbf|mathrm|mbox|rm)\s?"
"""What sets words in a formula."""

TYPE = re.compile(rf"\\(?:{TYPE_COMMANDS})\s*\{{([^{{}}]*)\}}")
"""Something set as text or in some type."""

FUNCTIONS = (
    "sqrt|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|ln|log|exp|max|min|gcd|lcm|pi"
)

LONG_WORD = re.compile(rf"(?<![\\A-Za-z])(?!(?:{FUNCTIONS}){END})[^\W\d_]{{4,}}")
"""A word rather than factors side by side."""
