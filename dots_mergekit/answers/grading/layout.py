"""What only sets the type of an answer, or spaces it: taken off, so that what is said remains."""

from __future__ import annotations

import re
from collections.abc import Callable

from dots_mergekit.answers.extraction import TYPE_COMMANDS
from dots_mergekit.answers.grading.vocabulary import END

__all__ = ["without_layout"]

_ALONE = r"(?<![\w.,}\\])(?<!\d\s)"
"""Where a number may begin that is not the rest of another."""
_LENGTH = r"-?[\d.]+\s*(?:pt|em|ex|mm|cm|in|bp|mu|px)"
_SET = rf"\\(?:{TYPE_COMMANDS})\s*"
_SIZES = (
    "tiny|scriptsize|footnotesize|small|normalsize|[lL]arge|LARGE|[hH]uge|displaystyle|textstyle"
    "|scriptstyle|scriptscriptstyle|normalfont|n?olimits|limits"
)


def _joined(digits: re.Match[str]) -> str:
    return "".join(digits[0].split())


def _without_braces(found: re.Match[str]) -> str:
    return found["sign"] or found[0]


_REWRITES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (rf"\\\\\s*\[{_LENGTH}\]|\\(?:newline|cr){END}", r"\\\\\\\\"),
        # Commands that are others by another name.
        (r"\\hbox(?=\s*\{)", r"\\mbox"),
        (r"\\bold(?=\s*\{)", r"\\mathbf"),
        (rf"\\textdollar{END}\s?", "$"),
        (r"\\num\s*\{([\d.,]+)\}", r"\1"),
        (rf"\\mathop\s*\{{(?:\\mathrm\s*\{{|\\rm{END}\s?)?\s*([a-z]+)\s*\}}{{1,2}}", r"\\\1 "),
        # Space.
        (rf"\\[hv]?phantom\s*\{{[^{{}}]*\}}|\\(?:math)?strut{END}", ""),
        (rf"\\(?:hspace\*?\s*\{{[^{{}}]*\}}|(?:hskip|kern|mkern|mskip)\s*{_LENGTH})", r"\\,"),
        (rf"\\(?:thinspace|medspace|thickspace|enspace|nobreakspace){END}\s?", r"\\,"),
        (rf"\\negthinspace{END}\s?", r"\\!"),
        (r"\{\\[,;:> ]\}", r"\\,"),
        # Signs in braces, which keep TeX from spacing them.
        (
            r"(?:[\^_]|\\[A-Za-z]+)\s*\{|"
            rf"(?:\\math(?:ord|punct|bin|rel)\s*)?\{{\s*(?P<sign>[-+.,:;=/%$]|"
            rf"\\(?:times|cdot|pm|mp|div|le|ge|in|approx){END})\s*\}}",
            _without_braces,
        ),
        (rf"\\math(?:ord|punct|bin|rel)\s*\{{\s*([-+.,:;=/])\s*\}}|{_SET}\{{(\s*[,;:]\s*)\}}",
         lambda found: found[1] or found[2]),
        (r"(?<=\d)\{,\}(?=\d)|(?<=\d),\\!\s*(?=\d)", ","),
        (r"(?<=\d)\\[,;:> ]\s*(?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\!", ""),
        (rf"{_SET}\{{\s*\}}", " "),
        (r"(?<!\\)\\[,;:> ]|~|\\q?quad" + END + r"|\{\s+\}", " "),
        # Size, colour and type.
        (r"\\left\s*\\\{\s*\\begin\{array\}\{[clr|\s]*\}(.*)\\end\{array\}\s*\\right\s*\.?\Z",
         r"\\begin{cases}\1\\end{cases}"),
        (r"\\(?:left|right)\s*\.", ""),
        (rf"\\(?:left|right|middle|[bB]igg?[lrm]?){END}", ""),
        (rf"\\(?:{_SIZES}){END}", ""),
        (r"(?<!\\)\\+$", ""),
        (rf"{_ALONE}\d{{1,3}}(?:\s\d{{3}})+(?![\d/^!(]|\s\d|\.\d{{4}})", _joined),
        (rf"\\(?:bf|rm|it){END}", ""),
        (r"\\(?:(?:text)?color|colorbox)\s*\{[^{}]*\}|\\fcolorbox\s*\{[^{}]*\}\s*\{[^{}]*\}", ""),
        (r"\\bbox\s*(?:\[[^\[\]]*\])?(?=\s*\{)", ""),
        (r"\\(?:bm|boldsymbol|pmb|underline|ensuremath)(?=\s*\{)", ""),
        (rf"{_SET}\{{\s*({_SET}\{{[^{{}}]*\}})\s*\}}", r"\1"),
        (rf"({_SET}\{{)\s*\{{([^{{}}]*)\}}\s*\}}", r"\1\2}"),
        (r"\{([pbv]?matrix)\*\}(?:\[[clr]\])?", r"{\1}"),
        # What ends a sentence, or a proof.
        (rf"(?<=\S)\s*{_SET}\{{\s*[.,;]\s*\}}\s*\Z", ""),
        (rf"(?<=\S)\s*\\(?:checkmark|blacksquare|qed|qedsymbol){END}\s*\Z", ""),
    )
)  # fmt: skip
_EMPHASIS = re.compile(r"(\*{1,3}|_{1,2}|`{1,3})(?=[^\s*_`])(?P<text>[^*_`\n]+)(?<=\S)\1")

_QUOTED = re.compile(r"[“\"‘`]{1,2}(?P<text>[^“”\"‘’'`]+)[”\"’']{1,2}")

_WHOLE = re.compile(r"\\(?:mathbf|mathit|mathsf|mathrm|boldsymbol|bm)\s*\{")
_BRACE = re.compile(r"\\.|([{}])", re.DOTALL)


def without_layout(text: str) -> str:
    """Take off what sets type, size, colour and space.

    Also Markdown's emphasis and quotes, where they are around the whole. Digits in groups of three
    come together: what stands between them is space.
    """
    for pattern, new in _REWRITES:
        text = pattern.sub(new, text)
    text = _without_type(text.strip())
    match = _EMPHASIS.fullmatch(text) or _QUOTED.fullmatch(text)
    return match["text"] if match else text


def _without_type(text: str) -> str:
    """Take off a type that a whole formula is set in."""
    match = _WHOLE.match(text)
    if match is None or not text.endswith("}"):
        return text
    depth = 1
    for brace in _BRACE.finditer(text, match.end()):
        depth += {"{": 1, "}": -1}.get(brace[1], 0)
        if depth == 0:
            return text[match.end() : -1] if brace.end() == len(text) else text
    return text
