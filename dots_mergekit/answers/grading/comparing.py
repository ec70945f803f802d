"""Answers compared part by part; what remains, formulas, is left to algebra."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from dots_mergekit.answers.equivalence import MathEquivalence
from dots_mergekit.answers.grading.arithmetic import NoNumberError, number
from dots_mergekit.answers.grading.names import unknowns
from dots_mergekit.answers.grading.parsing import Grid, Named, Parsed, Rounded, Several, Value
from dots_mergekit.answers.grading.units import is_known
from dots_mergekit.answers.grading.vocabulary import END, FUNCTIONS, LONG_WORD

__all__ = ["Comparison"]

_LONGEST_FORMULA = 256
"""Characters in a formula that algebra is asked about."""

_MOST_ITEMS = 64
"""Items in a list of which each is looked for in the other list."""

_MOST_SPELLINGS = 3
"""Spellings of one value side by side, as in `3/4 or 0.75`."""

_MOST_BARS = 8
"""Absolute values in a formula that algebra is asked about, times two."""

_DECIMAL = re.compile(r"(-?\d{1,20}(?:\.(\d{1,20}))?)(?:\\cdot\s?10\^(-?\d{1,2}|\{-?\d{1,2}\}))?")
"""A number as a rounding is written, perhaps with a power of ten."""

_LARGEST_EXPONENT = 1000
"""The largest exponent in a formula that algebra is asked about: it may multiply it out."""


class Comparison:
    """Compares two answers; asks no more of algebra once its time is up."""

    def __init__(self, equal: MathEquivalence) -> None:
        self._equal = equal
        self._end = equal.spent + equal.seconds

    def same(self, a: Parsed, b: Parsed) -> bool:
        """Compare two parsed answers of whatever kind."""
        if isinstance(a, Named) or isinstance(b, Named):
            return self._same_named(a, b)
        if isinstance(a, Rounded) or isinstance(b, Rounded):
            return self._same_rounded(a, b)
        if isinstance(a, Several) and isinstance(b, Several):
            return self._same_several(a, b)
        if isinstance(a, Grid) and isinstance(b, Grid):
            return len(a.rows) == len(b.rows) and all(map(self._in_order, a.rows, b.rows))
        if isinstance(a, Value) and isinstance(b, Value):
            return self._same_value(a, b)
        for one, other in ((a, b), (b, a)):
            if isinstance(one, Several) and one.brackets in ("", "{}"):
                return self._is_each(one, other)
        return False

    def _is_each(self, several: Several, one: Parsed) -> bool:
        """Compare what is alone with the only item, or with one in several spellings."""
        items = several.items
        if (several.brackets == "{}" and len(items) > 1) or len(items) > _MOST_SPELLINGS:
            return False
        return bool(items) and all(self.same(item, one) for item in items)

    def _same_named(self, a: Parsed, b: Parsed) -> bool:
        if isinstance(a, Named) and isinstance(b, Named):
            if _are_one_name(a.name, b.name) and self.same(a.what, b.what):
                return True
            return self._same_formula(a.equation, b.equation)
        named, other = (a, b) if isinstance(a, Named) else (b, a)
        assert isinstance(named, Named)
        if isinstance(other, Value) and "=" in other.text:
            return self._same_formula(named.equation, other.text)
        return self.same(named.what, other)

    def _same_rounded(self, a: Parsed, b: Parsed) -> bool:
        """Compare a number that has its rounding beside it by either; not if that is another's."""
        for each in (a, b):
            if isinstance(each, Rounded) and not all(
                self._is_rounding(decimal, each.exact) for decimal in each.decimals
            ):
                return False
        ways = [
            (each.exact, *each.decimals) if isinstance(each, Rounded) else (each,)
            for each in (a, b)
        ]
        if isinstance(a, Rounded) and isinstance(b, Rounded):
            return self.same(a.exact, b.exact)
        return any(self.same(first, second) for first in ways[0] for second in ways[1])

    def _is_rounding(self, decimal: Parsed, exact: Parsed) -> bool:
        """Say whether a decimal is at most half of its last place from what it is to be."""
        if not (isinstance(decimal, Value) and isinstance(exact, Value)):
            return False
        match = _DECIMAL.fullmatch(decimal.text)
        if match is None or exact.words or self._equal.spent > self._end:
            return False
        value = Fraction(match[1])
        half = Fraction(1, 2 * 10 ** len(match[2] or ""))
        if match[3]:
            power = Fraction(10) ** int(match[3].strip("{}"))
            value, half = value * power, half * power
        try:
            known = number(exact.text)
        except NoNumberError:
            return False
        if known is not None:
            return abs(known - value) <= half
        if not _is_algebra(exact.text) or unknowns(exact.text):
            return False
        return self._equal.within(
            _for_algebra(exact.text), str(value), float(half * Fraction(101, 100))
        )

    def _same_several(self, a: Several, b: Several) -> bool:
        brackets = {a.brackets, b.brackets}
        for one, other in ((a, b), (b, a)):
            if one.brackets == "{}" and other.brackets == "()" and len(one.items) == 1:
                return self.same(one.items[0], other)
        if brackets == {"", "()"}:
            return self._in_order(_by_name(a.items), _by_name(b.items))
        if brackets <= {"", "{}"}:
            return self._in_any_order(a.items, b.items, once="{}" in brackets)
        return len(brackets) == 1 and self._in_order(a.items, b.items)

    def _in_order(self, a: Sequence[Parsed], b: Sequence[Parsed]) -> bool:
        return len(a) == len(b) and all(map(self.same, a, b))

    def _in_any_order(self, a: Sequence[Parsed], b: Sequence[Parsed], *, once: bool) -> bool:
        """Look for each item of one list in the other.

        Args:
            a: One list.
            b: The other.
            once: An item that is there twice counts once.
        """
        if max(len(a), len(b)) > _MOST_ITEMS:
            return self._in_order(a, b)
        if once:
            return all(
                any(self.same(item, other) for other in others)
                for items, others in ((a, b), (b, a))
                for item in items
            )
        left = list(b)
        for item in a:
            found = next((at for at, other in enumerate(left) if self.same(item, other)), None)
            if found is None:
                return False
            del left[found]
        return not left

    def _same_value(self, a: Value, b: Value) -> bool:
        if a.words or b.words:
            return _folded(a.text) == _folded(b.text)
        if a.unit and b.unit:
            if {a.unit, b.unit} == {"degree", "rad"}:
                return self._same_formula(_worth(a)[-1], _worth(b)[-1])
            if a.unit != b.unit and (is_known(a.unit) or is_known(b.unit)):
                return False
            return self._same_formula(a.text, b.text)
        if any(self._same_formula(first, second) for first in _worth(a) for second in _worth(b)):
            return True
        product = a.product or b.product
        return bool(product) and self._same_formula(product, b.text if a.product else a.text)

    def _same_formula(self, a: str, b: str) -> bool:
        if a == b or (a.isalpha() and a.casefold() == b.casefold()):
            return True
        if ("=" in a) != ("=" in b):
            return False
        try:
            first, second = number(a), number(b)
        except NoNumberError:
            return False
        if first is not None and second is not None:
            return first == second
        if not (_is_algebra(a) and _is_algebra(b)) or _unknown_to_one(a, b):
            return False
        if self._equal.spent > self._end:
            return False
        # Algebra takes the e of a power of ten for Euler's number.
        a, b = str(a if first is None else first), str(b if second is None else second)
        return self._equal.formulas(_for_algebra(a), _for_algebra(b))


def _are_one_name(a: str, b: str) -> bool:
    """Say whether two names are the same, `y(x)` and `y` or `f(x)` and `y` among them."""
    if a == b:
        return True
    return {_FUNCTION_OF.sub("y", a), _FUNCTION_OF.sub("y", b)} == {"y"}


_FUNCTION_OF = re.compile(r"[fy]\(x\)")


def _by_name(items: Sequence[Parsed]) -> Sequence[Parsed]:
    """Order `y=2, x=1` as a point has its coordinates."""
    names = [item.name for item in items if isinstance(item, Named)]
    if (
        len(names) < len(items)
        or len(set(names)) < len(names)
        or not set(names) <= set("xyzuvwabc")
    ):
        return items
    return sorted(items, key=lambda item: item.name if isinstance(item, Named) else "")


def _folded(words: str) -> str:
    """Write words without capitals, white space and punctuation, but for that in numbers."""
    return re.sub(r"[\s\"“”'‘’`!?{}$]|(?<!\d)[.,;]|[.,;](?!\d)", "", words.casefold())


def _worth(value: Value) -> list[str]:
    """Give what a number with a unit may be compared with: itself, or what the unit makes of it."""
    if value.unit == "%":
        return [value.text, rf"({value.text})\cdot \frac{{1}}{{100}}"]
    if value.unit == "degree":
        return [value.text, rf"({value.text})\cdot \frac{{\pi}}{{180}}"]
    return [value.text]


def _is_algebra(formula: str) -> bool:
    """Say whether algebra may be asked about a formula.

    Not about words and ratios, numbers in other bases (`101_2`) and side by side (`5 5`), which
    it would misread; nor about what it might not come to an end with: huge exponents, powers of
    powers of powers, and bars, which do not say whether they open or close.
    """
    if len(formula) > _LONGEST_FORMULA or formula.count("|") > _MOST_BARS:
        return False
    if LONG_WORD.search(formula) or re.search(r":|\d_|(?<!\w)\d+ \d|\d{4,}\)?!|!!", formula):
        return False
    if re.search(r"\^\{[^{}]*\^\{[^{}]*\^", formula):
        return False
    for match in re.finditer(r"\^(?:(-?\d+)|(?=(\{)))", formula):
        exponent = match[1] or _group_at(formula, match.end())
        try:
            value = number(exponent)
        except NoNumberError:
            return False
        if value is not None and abs(value) > _LARGEST_EXPONENT:
            return False
    return True


def _unknown_to_one(a: str, b: str) -> bool:
    """Say whether one of two formulas has an unknown that the other lacks.

    Then they are not the same, though algebra might make it vanish, as in `x-x`. Not said of
    sums, which bind letters, and of functions, for which there are identities.
    """
    return not (_FUNCTION.search(a) or _FUNCTION.search(b)) and unknowns(a) != unknowns(b)


_FUNCTION = re.compile(rf"\\(?:sum|prod|int|lim|(?!sqrt|pi)(?:{FUNCTIONS})){END}")


_ANGLE = re.compile(r"(\d+(?:\.\d+)?|\{[^{}]*\}|\([^()]*\))\^\\circ(?![A-Za-z])")
_LETTER = re.compile(
    r"\\(?:mathbb|mathcal|begin|end|text|mathrm|operatorname)\s?\{[^{}]*\}"
    rf"|(?P<letter>\\(?:Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega){END}\s?|(?<!\\)[A-Za-z])"
    r"(?:_(?:(?P<index>[A-Za-z\d])|\{(?P<indices>\w+)\}))?(?P<primes>'*)"
    r"|\\[A-Za-z]+"
)


def _for_algebra(formula: str) -> str:
    r"""Write a formula so that math-verify reads what it says.

    It knows angles only without the sign for degrees, and takes capitals for small letters, `I_0`
    for the imaginary unit, `x'` for `x` and `d` for part of a differential: such letters become
    unknowns of their own.
    """
    formula = _ANGLE.sub(r"(\1\\cdot\\frac{\\pi}{180})", formula)
    is_integral = "\\int" in formula
    return _LETTER.sub(lambda letter: _renamed(letter, is_integral), formula)


def _renamed(match: re.Match[str], is_integral: bool) -> str:
    letter, index, primes = (
        match["letter"],
        match["index"] or match["indices"] or "",
        match["primes"],
    )
    if letter is None:
        return match[0]
    name = letter.strip() + (f"_{index}" if index else "") + primes
    is_differential = letter == "d" and not is_integral
    if name.islower() and not primes and not is_differential and not index:
        return match[0]
    renamed = "x_{9" + "".join(f"{ord(character):03d}" for character in name) + "}"
    is_script = match.start() > 0 and match.string[match.start() - 1] in "_^"
    return f"{{{renamed}}}" if is_script else renamed


def _group_at(text: str, start: int) -> str:
    """Give what is in the braces that open at a position; brackets balance."""
    depth = 0
    for match in re.finditer(r"(\{)|(\})", text[start:]):
        depth += 1 if match[1] else -1
        if depth == 0:
            return text[start + 1 : start + match.start()]
    return ""
