"""One way to write each thing: signs, commands and spellings of LaTeX and plain text."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from dots_mergekit.answers.extraction import extract_answer, unwrap

__all__ = ["END", "FUNCTIONS", "LONG_WORD", "TYPE", "normalize"]

TYPE = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox|operatorname)\s*"
    r"\{([^{}]*)\}"
)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_SIGNS = {
    "−": "-",
    "–": "-",
    "⁄": "/",
    "÷": "/",
    "×": r"\cdot ",
    "⋅": r"\cdot ",
    "·": r"\cdot ",
    "*": r"\cdot ",
    "°": r"^\circ ",
    "√": r"\sqrt ",
    "π": r"\pi ",
    "θ": r"\theta ",
    "∞": r"\infty ",
    "±": r"\pm ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "∪": r"\cup ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}",
}
FUNCTIONS = (
    "sqrt|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|ln|log|exp|max|min|gcd|lcm|pi"
)
END = r"(?![A-Za-z])"
"""Where the name of a command ends."""

LONG_WORD = re.compile(rf"(?<![\\A-Za-z])(?!(?:{FUNCTIONS}){END})[^\W\d_]{{4,}}")
"""A word rather than factors side by side."""

_REWRITES = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"(?<=\d)\{,\}(?=\d)|(?<=\d),\\!\s*(?=\d)", ","),
        (r"(?<=\d)\\[,;: ]\s*(?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\[,;: ]|~|\\q?quad" + END, " "),
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|n?olimits|limits)" + END, ""),
        (r"\\+$", ""),
        (r"\\(?:text|mathrm|mbox)\{\s*\}|\\(?:bf|rm|it)" + END, ""),
        (r"\\(?:mathbf|mathrm|mathit|boldsymbol|bm)(?=\{[^{}]*\\)", ""),
        (r"\\[dtc]frac" + END, r"\\frac"),
        (r"\\(?:times|ast|cdotp)" + END, r"\\cdot "),
        (r"\\div" + END, "/"),
        (r"\\(?:leqslant|leq|le)" + END + "|<=", r"\\le "),
        (r"\\(?:geqslant|geq|ge)" + END + "|>=", r"\\ge "),
        (r"\\lt" + END, "<"),
        (r"\\gt" + END, ">"),
        (r"\\neq" + END, r"\\ne "),
        (r"\\approx" + END, "="),
        (r"\\varnothing" + END, r"\\emptyset "),
        (r"\\lbrace" + END, r"\\{"),
        (r"\\rbrace" + END, r"\\}"),
        (r"\\[lr]?vert" + END, "|"),
        (r"\^\s*\{\s*\\circ\s*\}|\\degree" + END, r"^\\circ "),
        (rf"(?<![\\A-Za-z])(?!(?:min|sec)\s*(?:$|[^\sA-Za-z(\\]))({FUNCTIONS}){END}", r"\\\1 "),
        (rf"(?<![\\A-Za-z])infinity{END}", r"\\infty "),
        (r"\{([^{}\\]+?)\\over" + END + r"([^{}\\]+)\}", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([A-Za-z\d])\s*([A-Za-z\d])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([A-Za-z\d])\s*\{", r"\\frac{\1}{"),
        (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*([A-Za-z\d])", r"\\sqrt{\1}"),
        (r"\^\s*(\d{2,})", r"^{\1}"),
        (r"([_^])\{([A-Za-z\d])\}", r"\1\2"),
        (r",\s+", ";"),
    )
)
_LOOSE = re.compile(r"(?<![A-Za-z\d]) | (?![A-Za-z\d])")


@lru_cache(maxsize=1 << 12)
def normalize(text: str) -> str:
    """Write an answer with one sign, one command and one spelling for each thing."""
    text = unwrap(text)
    if re.search(r"\\\\[A-Za-z]{3}", text) and not re.search(r"(?<!\\)\\(?!\\)", text):
        text = text.replace("\\\\", "\\")  # escaped once too often
    text = text.replace(r"\fbox{", r"\boxed{")
    if r"\boxed" in text:
        text = extract_answer(text, order=("boxed",)) or ""
    text = _RAISED.sub(lambda raised: f"^{{{unicodedata.normalize('NFKC', raised[0])}}}", text)
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"\\(?=[%$])", "", text)
    for sign, new in _SIGNS.items():
        text = text.replace(sign, new)
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    return _LOOSE.sub("", " ".join(unwrap(text).split()))
