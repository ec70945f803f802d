"""One way to write each thing: signs, commands and spellings of LaTeX and plain text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from dots_mergekit.answers.extraction import TYPE_COMMANDS, extract_answer, unwrap

__all__ = ["END", "FUNCTIONS", "LONG_WORD", "TYPE", "normalize"]

TYPE = re.compile(rf"\\(?:{TYPE_COMMANDS})\s*\{{([^{{}}]*)\}}")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_COMPOSED = {"º": "°", "˚": "°", "′": "'", "″": "''"}
"""Signs that Unicode's compatibility form would take apart, or for others."""
_SIGNS = {
    "**": "^",
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
    "∛": r"\sqrt[3] ",
    "∜": r"\sqrt[4] ",
    "≈": r"\approx ",
    "μ": r"\mu ",
    "Å": " angstrom ",
    "☉": r"\odot ",
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

_ALONE = r"(?<![\w.,}\\])(?<!\d\s)"
"""Where a number may begin that is not the rest of another."""
_TEXT = r"\\(?:text|textrm|textnormal|mathrm|mbox|rm)"


def _joined(digits: re.Match[str]) -> str:
    return "".join(digits[0].split())


def _primes(match: re.Match[str]) -> str:
    return "'" * match[0].count("prime")


_REWRITES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\\\\s*\[-?[\d.]+\s*(?:pt|em|ex|mm|cm|in|bp)\]", r"\\\\\\\\"),
        (r"(?<=\d)\{\\,\}(?=\d{3}(?!\d))", ""),
        (r"(?<=\d)\{,\}(?=\d)|(?<=\d),\\!\s*(?=\d)", ","),
        (r"(?<=\d)\\[,;: ]\s*(?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\[,;: ]|~|\\q?quad" + END, " "),
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|n?olimits|limits)" + END, ""),
        (r"\\(?:small|large|Large|LARGE|huge|Huge)" + END, ""),
        (r"(?<!\\)\\+$", ""),
        (rf"{_ALONE}\d{{1,3}}(?:\s\d{{3}})+(?![\d/^!(]|\s\d|\.\d{{4}})", _joined),
        (r"(?<=\d)\s*[xX]\s*10\s*(?=\^)", r"\\cdot 10"),
        (r"\\(?:text|mathrm|mbox)\{\s*\}|\\(?:bf|rm|it)" + END, ""),
        (
            r"\\(?:AA" + END + r"|(?:mathring|r)\s*\{\s*(?:\\(?:mathrm|text)\{)?\s*A\s*\}+)",
            " angstrom ",
        ),
        (r"\\(?:mathbf|mathrm|mathit|boldsymbol|bm)(?=\{[^{}]*\\(?!mu|Omega|cdot|circ))", ""),
        (r"\\(?:bm|boldsymbol|underline)(?=\s*\{)|\\(?:text)?color\s*\{[^{}]*\}", ""),
        (rf"{_TEXT}\s?\{{\s?(?:either|both)\s?\}}", ""),
        (rf"_\s?\{{\s?{_TEXT}\s?\{{\s?(\d+)\s?\}}\s?\}}", r"_{\1}"),
        (rf"(?<=\d)\s?{_TEXT}\s?\{{\s?\(?(?:in )?base[- ](\d+)\)?\s?\}}", r"_{\1}"),
        (r"\{\}(?=\s?\^)", ""),
        (rf"{_TEXT}\s?\{{\s?(\d+)\s?\}}(?=\s?_)", r"\1"),
        (r"\\log\s?_\s?(?:e" + END + r"|\{\s?e\s?\})", r"\\ln "),
        (r"\\[dtc]?frac\s?\{(?:\\mathrm\{d\}|d)\s?y\}\s?\{(?:\\mathrm\{d\}|d)\s?x\}", "y'"),
        (r"\\(?:[dtcs]|nice|flat)frac" + END, r"\\frac"),
        (r"\\[dt]binom" + END, r"\\binom"),
        (r"\\(?:times|ast|cdotp)" + END, r"\\cdot "),
        (r"\\div" + END, "/"),
        (r"\\(?:leqslant|leq|le)" + END + "|<=", r"\\le "),
        (r"\\(?:geqslant|geq|ge)" + END + "|>=", r"\\ge "),
        (r"\\lt" + END, "<"),
        (r"\\gt" + END, ">"),
        (r"\\neq" + END, r"\\ne "),
        (r"\\(?:approxeq|simeq|doteq)" + END, r"\\approx "),
        (r"\\varnothing" + END, r"\\emptyset "),
        (r"\\lbrace" + END, r"\\{"),
        (r"\\rbrace" + END, r"\\}"),
        (r"\\[lr]?vert" + END, "|"),
        (r"\^\s*\{\s*\\circ\s*\}|\\(?:text)?degree" + END, r"^\\circ "),
        (
            rf"(?<=[\d)}}])\s?\^\s?(?:\{{?\s?(?:{_TEXT}\s?)?\{{?\s?o\s?\}}{{1,2}}|o{END})",
            r"^\\circ ",
        ),
        (r"\^\s?(?:\{\s?((?:\\prime\s?)+)\}|((?:\\prime" + END + r"\s?)+))", _primes),
        (r"(?<![A-Za-z\d}])[({]([\dA-F]+)[)}]\s?_\s?(?=\d|\{\d+\})", r"\1_"),
        (rf"(?<![\\A-Za-z])(?!(?:min|sec)\s*(?:$|[^\sA-Za-z(\\]))({FUNCTIONS}){END}", r"\\\1 "),
        (rf"(?<![\\A-Za-z])infinity{END}", r"\\infty "),
        (r"\\frac\s*([A-Za-z\d])\s*([A-Za-z\d])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([A-Za-z\d])\s*\{", r"\\frac{\1}{"),
        (r"\\sqrt\s*(\[\d+\])?\s*([A-Za-z\d])", r"\\sqrt\1{\2}"),
        (r"\^\s*(\d{2,})", r"^{\1}"),
        (r"([_^])\{([A-Za-z\d])\}", r"\1\2"),
        (r",\s+", ";"),
    )
)
_WHOLE = tuple(
    (re.compile(pattern, re.DOTALL), new)
    for pattern, new in (
        # What is said around an answer: `The answer is`, `for all n`, `Option`.
        (rf"\A\s*{_TEXT}\{{[^{{}}]*\b(?:is|are)[\s:]*\}}(?=.)", ""),
        (rf"(?<=.)[\s,(]*{_TEXT}\{{\s*,?\s*for (?:all|every|any|each)\b.*\Z", ""),
        (r"(?<=\S)\s+\([a-z]\s*\\ge\s*\d+\s*\)\Z", ""),
        (r"\A(?:[Oo]ption|[Cc]hoice)\s+\(?([A-J])\)?\Z", r"\1"),
        # Two inequalities that are one.
        (
            rf"\A([^<>]+?)(<|\\le{END})\s*([a-z])\s*(?:{_TEXT}\{{\s*and\s*\}}|and{END})\s*\3\s*"
            rf"(<|\\le{END})([^<>]+)\Z",
            r"\1\2 \3\4 \5",
        ),
    )
)
_SIGN_OF_ROOT = re.compile(r"([√∛∜]|(?<![\\A-Za-z])sqrt)\s*(\d+(?:\.\d+)?)")
"""A root of a number without brackets around it; after `\\sqrt`, it is of one digit."""
_ROOT_OF_BRACKETS = re.compile(r"\\sqrt\s*(\[\d+\])?\s*\(((?:[^()]|\([^()]*\))*)\)")
_INFIX = re.compile(
    r"\{((?:[^{}]|\{[^{}]*\})*?)\\(over|choose)(?![A-Za-z])((?:[^{}]|\{[^{}]*\})*)\}"
)
_INFIXES = {"over": r"\frac", "choose": r"\binom"}
_DEEPEST_ROOT = 8
_DOLLAR = re.compile(r"(?<!\\)\$")
_LOOSE = re.compile(r"(?<![A-Za-z\d]) | (?![A-Za-z\d])")


@lru_cache(maxsize=1 << 12)
def normalize(text: str) -> str:
    """Write an answer with one sign, one command and one spelling for each thing."""
    text = unwrap(text)
    if re.search(r"\\\\[A-Za-z]{3}", text) and not re.search(r"(?<!\\)\\(?!\\)", text):
        text = text.replace("\\\\", "\\")  # escaped once too often
    if r"\boxed" in text or r"\fbox" in text:
        text = extract_answer(text, order=("boxed",)) or ""
    text = _RAISED.sub(lambda raised: f"^{{{unicodedata.normalize('NFKC', raised[0])}}}", text)
    for sign, new in _COMPOSED.items():
        text = text.replace(sign, new)
    text = unicodedata.normalize("NFKC", text)
    dollars = _DOLLAR.findall(text)
    if dollars and len(dollars) % 2 == 0:
        text = _DOLLAR.sub(" ", text)  # formulas in words, and no prices
    text = re.sub(r"\\(?=[%$])", "", text)
    text = _SIGN_OF_ROOT.sub(r"\1{\2}", text)
    for sign, new in _SIGNS.items():
        text = text.replace(sign, new)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _infix(text)
    for pattern, replacement in _WHOLE:
        text = pattern.sub(replacement, text)
    for _ in range(_DEEPEST_ROOT):
        text, changes = _ROOT_OF_BRACKETS.subn(r"\\sqrt\1{\2}", text)
        if not changes:
            break
    return _LOOSE.sub("", " ".join(unwrap(text).split()))


def _infix(text: str) -> str:
    r"""Write plain TeX's `{a \over b}` and `{n \choose k}`, with or without braces around all."""
    if not re.search(r"\\(?:over|choose)(?![A-Za-z])", text):
        return text
    for whole in (text, f"{{{text}}}"):
        new = _INFIX.sub(
            lambda found: f"{_INFIXES[found[2]]}{{{found[1].strip()}}}{{{found[3].strip()}}}", whole
        )
        if new != whole:
            return new
    return text
