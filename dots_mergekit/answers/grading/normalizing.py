"""One way to write each thing: signs, commands and spellings of LaTeX and plain text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from dots_mergekit.answers.extraction import extract_answer, unwrap
from dots_mergekit.answers.grading.around import without_introduction
from dots_mergekit.answers.grading.layout import without_layout
from dots_mergekit.answers.grading.vocabulary import END, FUNCTIONS

__all__ = ["normalize"]

_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_COMPOSED = {"º": "°", "˚": "°", "′": "'", "″": "''"}
"""Signs that Unicode's compatibility form would take apart, or for others."""
_SIGNS = {
    "**": "^",
    "−": "-",
    "–": "-",
    "—": "-",
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
    "ℤ": r"\mathbb{Z}",
    "∶": ":",
    "⌊": r"\lfloor ",
    "⌋": r"\rfloor ",
    "⌈": r"\lceil ",
    "⌉": r"\rceil ",
}
_AFTER_DIGIT = re.compile("(?<=\\d)(?=[¼-¾⅐-⅞])")
"""Between a whole number and the fraction that makes it a mixed one."""
_TEXT = r"\\(?:text|textrm|textnormal|mathrm|mbox|rm)"
_SET = r"\\(?:text|textrm|textbf|textit|emph|mathrm|mathsf|rm)\s*"
_C = r"(?:C|\\(?:mathrm|text)\s*\{C\})"
"""As in `C_5^2`, a number of combinations."""
_ABOUT = r"(?:approximately|about|approx\.?|roughly)"


def _primes(match: re.Match[str]) -> str:
    return "'" * match[0].count("prime")


_REWRITES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        # Powers of ten, and what else a calculator writes.
        (
            rf"(?<=[\d.])\s*(?:[xX]|{_SET}\{{\s*[xX]\s*\}}|\\(?:bullet|centerdot){END})\s*10\s*(?=\^)",
            r"\\cdot 10",
        ),
        (rf"(?<=\d)\s*{_SET}\{{\s*[eE]\s*([-+]?\d{{1,3}})\s*\}}(?!\d)", r"e\1"),
        (
            rf"(?<=\d)\s*{_SET}\{{\s*(?:e\s*\}}\s*\{{|E\s*\}}\s*\{{?)([-+]\d{{1,3}})\}}?(?!\d)",
            r"e\1",
        ),
        (r"(?<=\d)\s+(?=10\s*\^)|(?<=\^\d)\s+(?=\d)|(?<=\^\{\d\})\s+(?=\d)", r"\\cdot "),
        (rf"\\(?:mathrm|operatorname)\s*\{{sqrt\}}|\\surd{END}", r"\\sqrt "),
        (r"\\root\s*\{?(\d+)\}?\s*\\of(?![A-Za-z])", r"\\sqrt[\1]"),
        (r"(\d*\.\d*)\\(?:bar|dot|overline)\s*\{?(\d+)\}?(?!\d*\\dot)", r"\1\\overline{\2}"),
        (r"(\d*\.\d*)\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?", r"\1\\overline{\2\3\4}"),
        (r"(?<!\d)(\d+\.)\((\d+)\)\Z", r"\1\\overline{\2}"),
        (rf"(\d*\.\d*?)(\d)\2{{2,}}\\[lc]?dots{END}", r"\1\\overline{\2}"),
        (rf"\\(?:[lc]?dots|dotso|dotsc){END}", r"\\ldots "),
        # Fractions and binomials.
        (r"(?:\{\})?\^\s?\{?(\d+)\}?\s?/\s?_\s?\{?(\d+)\}?", r"\\frac{\1}{\2}"),
        (r"\\genfrac\s*(?:\{\}){3}\{\d?\}", r"\\frac"),
        (
            rf"(?:\{{\}}|(?<![\w}}]))[\^_]\s?\{{?(\d+)\}}?\s?{_C}\s?_\s?\{{?(\d+)\}}?",
            r"\\binom{\1}{\2}",
        ),
        (rf"(?<![\\A-Za-z]){_C}\s?_\s?\{{?(\d+)\}}?\s?\^\s?\{{?(\d+)\}}?", r"\\binom{\1}{\2}"),
        (r"(\\(?:[dtc]?frac|[dt]?binom)\s*\{[^{}]*\})\s*([A-Za-z\d])", r"\1{\2}"),
        (r"\\([dtc]?frac)\s*\\pi\s*(?=[A-Za-z\d{])", r"\\\1{\\pi}"),
        (rf"\\([dtc]?frac)\s*([A-Za-z\d])\s*\\pi{END}", r"\\\1{\2}{\\pi}"),
        (rf"\\uppi{END}", r"\\pi "),
        # Signs, and words of several.
        (r"(?i:\blight-year)", "light year"),
        (rf"\\(?:colon|ratio){END}", ":"),
        (rf":=|\\coloneqq{END}", "="),
        (rf"(?<=\d)\s*{_TEXT}\{{\s*to\s*\}}\s*(?=\d)", ":"),
        (
            r"(?<![\d:])(\d{1,2}:\d\d)\s*(?:\\(?:text|mathrm)\{)?\s*([aApP])\.?[mM]\.?\s*\}?\Z",
            lambda found: f"{found[1]} {found[2].upper()}M",
        ),
        (rf"\\vee{END}", r"\\lor "),
        (rf"\\bigcup{END}|(?<=[)\]])\s*U\s*(?=[(\[])", r"\\cup "),
        # A value beside another: its rounding, or itself in other words.
        (r"\\sim(?=\s*\d)", r"\\approx "),
        (
            rf"(?<=\S)\s*\(?\s*{_TEXT}\{{\s*\(?(?:or )?{_ABOUT}\s*\}}\s*\$?([\d.,]+)\s*\)?\Z",
            r"\\approx \1",
        ),
        (rf"(?<=\S)\s*{_TEXT}\{{\s*\(?(?:or )?{_ABOUT}\s+([\d.,]+)\)?\s*\}}\Z", r"\\approx \1"),
        (r"(?<=\S)\s*\(\s*\\approx\s*([\d.,]+)\s*\)\Z", r"\\approx \1"),
        (
            rf"(?<=\S)\s*(?:{_TEXT}\{{\s*\(\s*or\s*\}}|\(\s*{_TEXT}\{{\s*or\s*\}})([^()]+)\)\Z",
            r"\\text{or}\1",
        ),
        (rf"\\leqq{END}", r"\\le "),
        (rf"\\geqq{END}", r"\\ge "),
        (rf"(?<=[(\[,;+-])(\s*)(?:inf|oo|{_TEXT}\{{inf\}})(?=\s*[)\],;])", r"\1\\infty "),
        (r"\\l[pP]aren(?![A-Za-z])", "("),
        (r"\\r[pP]aren(?![A-Za-z])", ")"),
        (r"\\abs\s*\{([^{}]*)\}", r"|\1|"),
        (
            rf"\s*\\&\s*|{_SET}\{{\s*([,;]?)\s*(and|or)\s*\}}",
            lambda found: rf"\text{{{found[1] or ''}{found[2] or 'and'}}}",
        ),
        (
            r"\^\s*\{\s*\\(?:text|mathrm)\s*\{\s*\^\\circ\s*\}\s*\}|\\textsuperscript\{o\}",
            r"^\\circ ",
        ),
        (r"(?<=_)\s?\{\s?\\(?:text|mathrm)\s?\{\s?([A-Za-z])\s?\}\s?\}", r"\1"),
        (r"\\(p?matrix)\s*\{([^{}]*)\}", r"\\begin{\1}\2\\end{\1}"),
        (
            r"\\(?:AA" + END + r"|(?:mathring|r)\s*\{\s*(?:\\(?:mathrm|text)\{)?\s*A\s*\}+)",
            " angstrom ",
        ),
        (r"\\(?:mathbf|mathrm|mathit|boldsymbol|bm)(?=\{[^{}]*\\(?!mu|Omega|cdot|circ))", ""),
        (r"\\(?:bm|boldsymbol|underline)(?=\s*\{)|\\(?:text)?color\s*\{[^{}]*\}", ""),
        (rf"{_TEXT}\s?\{{\s?(?:either|both)\s?\}}", ""),
        (rf"_\s?\{{\s?{_TEXT}\s?\{{\s?(\d+)\s?\}}\s?\}}", r"_{\1}"),
        (rf"_\s?\{{\s?{_TEXT}\s?\{{\s?base\s*(\d*)\s*\}}\s*(\d*)\s*\}}", r"_{\1\2}"),
        (r"(?<=[\d)}])\s?_\s?\{\s?\((\d+)\)\s?\}", r"_{\1}"),
        (rf"(?<=\d)\s?{_TEXT}\s?\{{\s?\(?(?:in )?base[- ](\d+)\)?\s?\}}", r"_{\1}"),
        (r"\{\}(?=\s?\^)", ""),
        (rf"(?:{_TEXT}|\\mathbf)\s?\{{\s?(\d+)\s?\}}(?=\s?_)", r"\1"),
        (r"\\(?:log|mathrm\s*\{\s*log\s*\})\s?_\s?(?:e" + END + r"|\{\s?e\s?\})", r"\\ln "),
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
_ROWS = re.compile(
    r"(\\begin\{(?:cases|aligned|gathered)\})?((?:(?!\\begin).)*?)(?(1)\\end\{\w+\})", re.DOTALL
)
_INTERVAL = re.compile(r"([\[\](])([^\[\]();,]+[;,][^\[\]();,]+)([\[\])])")
_INTERVALS = re.compile(
    rf"(?:[A-Za-z]\\in\s?)?{_INTERVAL.pattern}(?:(?:\\cup\s?|[;,]){_INTERVAL.pattern})*"
)
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
    text = unicodedata.normalize("NFKC", _AFTER_DIGIT.sub(" ", text))
    dollars = _DOLLAR.findall(text)
    if dollars and len(dollars) % 2 == 0:
        text = _DOLLAR.sub(" ", text)  # formulas in words, and no prices
    text = re.sub(r"\\(?=[%$])", "", text)
    text = without_introduction(without_layout(text))
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
    text = _LOOSE.sub("", " ".join(unwrap(text).split()))
    return _outward(_rows(text))


def _rows(text: str) -> str:
    r"""Write equations one below the other as a list: `x=1\\y=2`, with or without a brace."""
    match = _ROWS.fullmatch(text)
    if match is None:
        return text
    rows = [row.replace("&=", "=").strip(" ;,") for row in match[2].split(r"\\")]
    rows = [row for row in rows if row]
    return ";".join(rows) if all("=" in row and "&" not in row for row in rows) else text


def _outward(text: str) -> str:
    """Write `]1,2[`, brackets that turn outward where an end is open, as `(1,2)`."""
    if not _INTERVALS.fullmatch(text):
        return text
    return _INTERVAL.sub(
        lambda found: ("(" if found[1] in "](" else "[") + found[2]
        + (")" if found[3] in "[)" else "]"), text
    )  # fmt: skip


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
