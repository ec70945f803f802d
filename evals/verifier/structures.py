"""Answers of several parts: points, lists, sets, intervals, matrices; and words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

from items import Item, Maker, pick

__all__ = ["MAKERS"]


def _number(rng: random.Random) -> tuple[Fraction, str, str]:
    """Give a number, and two ways to write it."""
    kind = rng.random()
    if kind < 0.6:
        n = rng.randint(-12, 12)
        return Fraction(n), str(n), f"{n}.0" if rng.random() < 0.2 else str(n)
    value = Fraction(rng.choice((-1, 1)) * rng.randint(1, 19), rng.choice((2, 3, 4, 5, 6, 8)))
    sign = "-" if value < 0 else ""
    top, bottom = abs(value.numerator), value.denominator
    if bottom == 1:
        return value, str(value), str(value)
    other = f"{value}" if bottom in (3, 6) else str(float(value))
    return value, rf"{sign}\frac{{{top}}}{{{bottom}}}", other


def _several(rng: random.Random, count: int) -> tuple[list[Fraction], list[str], list[str]]:
    """Give different numbers, and two ways to write each."""
    found: dict[Fraction, tuple[str, str]] = {}
    while len(found) < count:
        value, text, other = _number(rng)
        found.setdefault(value, (text, other))
    return list(found), [t for t, _ in found.values()], [o for _, o in found.values()]


def _values(values: Sequence[Fraction], more: float = 0.0) -> frozenset[tuple[float, ...]]:
    return frozenset({(*map(float, values), 1000.0 + more)})


def _changed(texts: Sequence[str]) -> list[str]:
    return [*texts[:-1], f"{texts[-1]}+1"]


def point(rng: random.Random) -> Item:
    """A point, a vector, or a pair of solutions in order."""
    count = rng.choice((2, 2, 3))
    values, texts, others = _several(rng, count)
    inside, other = ",".join(texts), ", ".join(others)
    item = Item("MATH500", "point", f"({inside})", _values(values, 1))
    item.same("tuple", rf"\left({other}\right)", f"( {other} )", rf"\left( {inside} \right)")
    item.same("named", f"P = ({other})", f"(x,y{',z' if count == 3 else ''})=({inside})")
    item.same("named parts", ", ".join(f"{n}={t}" for n, t in zip("xyz", texts, strict=False)))
    item.same("spaces", rf"(\,{inside}\,)", rf"({inside.replace(',', ',~')})")
    item.same("angle brackets", rf"\langle {inside} \rangle")
    item.same("big", rf"\bigl({inside}\bigr)", rf"\Big({inside}\Big)")
    item.same(
        "tuple",
        f"({'; '.join(texts)})",
        r"\left(" + r"\, , \,".join(texts) + r"\right)",
    )
    names = [f"{name}={text}" for name, text in zip("xyz", texts, strict=False)]
    item.same("named", r" \text{ and } ".join(names), r",\quad ".join(names))
    item.same("big", rf"\big({other}\big)", r"(" + r"\;,\;".join(texts) + r")")
    item.same("spaced names", r"\ \text{and}\ ".join(names), "; ".join(names))
    item.same(
        "vector",
        rf"\vec{{v}} = ({inside})",
        rf"\left\langle {inside} \right\rangle",
        rf"Q = \left({other}\right)",
        rf"\text{{The point is }}({inside})",
    )
    item.miss("vector", rf"\vec{{v}} = ({','.join(_changed(texts))})")
    item.same(
        "set",
        rf"\mathbf{{({inside})}}",
        rf"\text{{Coordinates: }}({inside})",
        rf"M({inside})",
        rf"\{{({inside})\}}",
        held_out=True,
    )
    item.miss("set", rf"M({','.join(_changed(texts))})", held_out=True)
    item.miss("order", f"({','.join(texts[::-1])})")
    item.miss("other part", f"({','.join(_changed(texts))})", f"({','.join(texts[:-1])})")
    item.miss("other part", f"({inside},0)", f"({inside},1)")
    item.miss("other brackets", f"[{inside}]" if count == 2 else rf"\{{{texts[0]}\}}")
    return item


def listed(rng: random.Random) -> Item:
    """Several solutions in any order."""
    values, texts, others = _several(rng, rng.choice((2, 2, 3, 4)))
    gold = rng.choice((",", ", ")).join(texts)
    if rng.random() < 0.25:
        gold = ", ".join(f"${text}$" for text in texts)
    item = Item(rng.choice(("MATH500", "OlympiadBench")), "list", gold, _values(values, 2))
    shuffled = rng.sample(others, len(others))
    item.same("order", ",".join(shuffled), ", ".join(texts[::-1]), "; ".join(shuffled))
    item.same("set", rf"\{{{', '.join(shuffled)}\}}", rf"\left\{{{','.join(texts)}\right\}}")
    item.same("member", rf"x\in\{{{', '.join(shuffled)}\}}")
    joined = ", ".join(others[:-1])
    item.same("and", rf"{joined} \text{{ and }} {others[-1]}", f"{joined} and {others[-1]}")
    item.same("or", rf"x = {joined} \text{{ or }} x = {others[-1]}", f"{joined} or {others[-1]}")
    item.same(
        "dollars", ", ".join(f"${text}$" for text in shuffled), f"${joined}$ and ${others[-1]}$"
    )
    item.same("indices", ", ".join(f"x_{at}={t}" for at, t in enumerate(shuffled, 1)))
    item.same("quads", r",\quad ".join(shuffled), r" \quad\text{or}\quad ".join(shuffled))
    item.same("logical or", r" \lor ".join(f"x={text}" for text in shuffled))
    item.same(
        "set",
        rf"S=\{{{', '.join(shuffled)}\}}",
        r"\cup".join(rf"\{{{t}\}}" for t in texts),
    )
    item.same(
        "either",
        rf"\text{{either }}{joined}\text{{ or }}{others[-1]}",
        rf"{joined},\text{{ and }}{others[-1]}",
    )
    boxes = [rf"$\boxed{{{text}}}$" for text in texts]
    named = ", ".join(rf"x = \boxed{{{text}}}" for text in shuffled)
    but_last = ", ".join(boxes[:-1])
    item.same("several boxes", f"They are {but_last} and {boxes[-1]}.", " or ".join(boxes))
    item.same("several boxes", rf"\[ {named} \]")
    item.same("several boxes", f"Hence {', or '.join(boxes)}")
    item.same(
        "spaced or",
        r" \quad \text{or} \quad ".join(f"x = {text}" for text in texts),
        "; ".join(f"x={t}" for t in shuffled),
    )
    item.same(
        "set of others",
        r"\{" + ";".join(shuffled) + r"\}",
        r"\lbrace " + ", ".join(texts) + r" \rbrace",
    )
    item.same(
        "listed 2",
        r"\,\text{or}\,".join(shuffled),
        rf"x \in \left\lbrace {', '.join(shuffled)} \right\rbrace",
        rf"x = {joined}\ \mathrm{{or}}\ {others[-1]}",
        rf"\text{{The solutions are }}{joined}\text{{ and }}{others[-1]}",
        r"\text{ and }".join(texts),
    )
    item.miss("listed 2", r"\,\text{or}\,".join(texts[:-1]) + r"\,\text{or}\,99")
    item.same(
        "set",
        rf"\mathbf{{{', '.join(shuffled)}}}",
        r" \text{ or } ".join(f"x = {text}" for text in texts),
        r"\,,\,".join(shuffled),
        rf"\text{{Roots: }}{', '.join(texts)}",
        held_out=True,
    )
    item.miss("set", rf"\text{{Roots: }}{', '.join(_changed(texts))}", held_out=True)
    item.miss("several boxes", " and ".join(boxes[:-1]), ", ".join([*boxes, r"$\boxed{99}$"]))
    item.miss("missing", ", ".join(texts[:-1]), rf"\{{{', '.join(texts[:-1])}\}}")
    item.miss("one more", ", ".join([*texts, "99"]))
    item.miss("other part", ", ".join(_changed(texts)), rf"\{{{','.join(_changed(texts))}\}}")
    item.miss("repeated", ", ".join([texts[0]] * len(texts)), f"{joined} and {others[-1]}1")
    return item


def both_signs(rng: random.Random) -> Item:
    r"""Two solutions by \\pm."""
    a, b = rng.randint(0, 9), rng.choice((2, 3, 5, 7))
    head = str(a) if a else ""
    gold = rf"{head}\pm\sqrt{{{b}}}"
    item = Item("OlympiadBench", "plus or minus", gold, frozenset({(a, b + 500.0)}))
    root = rf"\sqrt{{{b}}}"
    item.same("both", rf"{head}+{root}, {head}-{root}" if a else f"{root}, -{root}")
    item.same(
        "both", rf"x={head}\pm√{b}", rf"{head} ± {root}", rf"\{{{head}-{root},{head}+{root}\}}"
    )
    item.same("both", rf"{head}\mp{root}")
    item.same(
        "named",
        rf"x_{{1,2}} = {gold}",
        rf"x = {head} \pm \sqrt{{{b}}}",
        rf"{head}+{root}\text{{ or }}{head}-{root}",
    )
    item.same("set", rf"\mathbf{{{gold}}}", rf"t = {gold}", rf"{{{gold}}}", held_out=True)
    item.miss("one", f"{head}+{root}", f"{head}-{root}")
    item.miss("other", rf"{head}\pm\sqrt{{{b + 1}}}", rf"{a + 1}\pm{root}", rf"{head}\pm {b}")
    return item


def interval(rng: random.Random) -> Item:
    """An interval, or a union of two."""
    values, texts, others = _several(rng, 4)
    order = sorted(range(4), key=values.__getitem__)
    (a, b, c, _), (p, q, _, _) = ([texts[at] for at in order], [others[at] for at in order])
    opening, closing = rng.choice("(["), rng.choice(")]")
    low, high = ("<" if opening == "(" else r"\le"), ("<" if closing == ")" else r"\le")
    if rng.random() < 0.5:
        gold = f"{opening}{a},{b}{closing}"
        item = Item("MATH500", "interval", gold, _values([values[order[0]], values[order[1]]], 1))
        item.same(
            "interval",
            rf"\left{opening}{p}, {q}\right{closing}",
            rf"x\in {opening}{p},{q}{closing}",
        )
        item.same("inequality", f"{a} {low} x {high} {b}", f"{p} {low} t {high} {q}")
        sign = {"<": ">", r"\le": r"\ge"}
        item.same("inequality", f"{b} {sign[high]} x {sign[low]} {a}")
        item.same("inequality of signs", f"{a}{low}x{high}{b}".replace(r"\le", "≤"))
        item.same("set of", rf"\{{x \mid {a} {low} x {high} {b}\}}")
        item.same(
            "interval",
            rf"x \in \left{opening}{a}; {b}\right{closing}",
            rf"{a} {low} x\text{{ and }}x {high} {b}",
        )
        item.same(
            "big",
            rf"x \in \bigl{opening}{a}, {b}\bigr{closing}",
            f"{a} {low} y {high} {b}".replace(r"\le", r"\leqslant"),
        )
        item.same(
            "spaced",
            rf"\left{opening}\,{a},\,{b}\,\right{closing}",
            rf"m \in {opening}{a},{b}{closing}",
            rf"{a} {low} n {high} {b}",
            rf"\text{{The interval is }}{opening}{a},{b}{closing}",
        )
        item.same(
            "set",
            rf"\mathbf{{{opening}{a},{b}{closing}}}",
            rf"{opening}\,{a}\,,\,{b}\,{closing}",
            rf"I = {opening}{a}, {b}{closing}",
            rf"\text{{Domain: }}{opening}{a}, {b}{closing}",
            held_out=True,
        )
        item.miss("brackets", f"{'[' if opening == '(' else '('}{a},{b}{closing}")
        turned = r"\le" if low == "<" else "<"
        item.miss("brackets", f"{a} {turned} x {high} {b}")
        item.miss(
            "end", f"{opening}{a},{c}{closing}", f"{a}{low}x{high}{c}", rf"{opening}{a},\infty)"
        )
        item.miss("one side", f"x{high}{b}", f"x {sign[low]} {a}")
        return item
    gold = rf"(-\infty,{a}{closing}\cup {opening}{b},\infty)"
    item = Item("MATH500", "union", gold, _values([values[order[0]], values[order[1]]], 5))
    above = ">" if opening == "(" else r"\ge"
    item.same("union", rf"\left(-\infty, {p}\right{closing} \cup \left{opening}{q}, \infty\right)")
    item.same(
        "union",
        rf"{opening}{q},\infty)\cup(-\infty,{p}{closing}",
        f"(-∞,{p}{closing}∪{opening}{q},∞)",
    )
    item.same("or", rf"x {high} {a} \text{{ or }} x {above} {b}", f"x {high} {p} or x {above} {q}")
    item.same("plus infinity", rf"(-\infty,{a}{closing}\cup {opening}{b},+\infty)")
    item.same(
        "union",
        rf"x\in(-\infty,{a}{closing}\text{{ or }}x\in {opening}{b},\infty)",
    )
    item.same(
        "spaced",
        rf"\left(-\infty,{a}\right{closing}\;\cup\;\left{opening}{b},\infty\right)",
        rf"(-\infty,{a}{closing}\text{{ and }}{opening}{b},\infty)".replace(
            r"\text{ and }", r"\,\cup\,"
        ),
        rf"k \in (-\infty,{a}{closing}\cup {opening}{b},\infty)",
    )
    item.same(
        "set",
        rf"x \in \left(-\infty; {a}\right{closing} \cup \left{opening}{b}; +\infty\right)",
        rf"D = (-\infty,{a}{closing}\cup {opening}{b},\infty)",
        held_out=True,
    )
    item.miss("half", rf"(-\infty,{a}{closing}", rf"{opening}{b},\infty)")
    item.miss("end", rf"(-\infty,{a}{closing}\cup {opening}{c},\infty)", rf"({a},{b})")
    return item


def matrix(rng: random.Random) -> Item:
    """A matrix or a column."""
    rows, columns = rng.choice(((2, 2), (2, 1), (3, 1), (2, 3)))
    values, texts, others = _several(rng, rows * columns)

    def written(cells: Sequence[str], kind: str, joint: str = r" \\ ", space: str = " & ") -> str:
        lines = [space.join(cells[at * columns : (at + 1) * columns]) for at in range(rows)]
        return rf"\begin{{{kind}}}{joint.join(lines)}\end{{{kind}}}"

    gold = written(texts, "pmatrix")
    item = Item("MATH500", "matrix", gold, _values(values, rows * 10 + columns))
    item.same("brackets", written(others, "bmatrix"), written(texts, "pmatrix", r"\\", "&"))
    item.same(
        "spaces",
        written(texts, "pmatrix", r"\\[4pt] "),
        written(others, "bmatrix", "\\\\[0.5em]\n"),
    )
    array = written(texts, "array").replace("{array}", "{array}{" + "c" * columns + "}", 1)
    item.same("array", rf"\left[{array}\right]", rf"\left({array}\right)")
    item.same("named", f"A = {gold}", rf"\mathbf{{v}} = {gold}")
    item.same("named 2", rf"\vec{{v}} = {gold}", rf"A^{{-1}} = {gold}")
    item.same("spaces 2", written(texts, "pmatrix", "\\\\\n"))
    item.same(
        "matrix",
        rf"\left({written(texts, 'matrix')}\right)",
        rf"\left[{written(others, 'matrix')}\right]",
    )
    item.same("size", rf"\displaystyle {gold}", rf"\left({gold}\right)")
    item.same(
        "last row",
        gold.replace(r"\end{pmatrix}", r" \\ \end{pmatrix}"),
        rf"\displaystyle{{{gold}}}",
    )
    item.same(
        "spaced",
        written(texts, "pmatrix", r" \\ ", r" &\, "),
        f"M = {gold}",
        written(texts, "bmatrix", r" \\[6pt] "),
        rf"\text{{The matrix is }}{gold}",
    )
    item.same(
        "set",
        rf"\mathbf{{M}} = {gold}",
        written(texts, "pmatrix", r" \\ ", " & ").replace("{pmatrix}", "{bmatrix}"),
        f"{{{gold}}}",
        rf"\text{{Answer: }}{gold}",
        held_out=True,
    )
    item.miss(
        "other entry",
        written(_changed(texts), "pmatrix"),
        written(_changed(texts), "bmatrix", r"\\[4pt]"),
    )
    item.miss("order", written(texts[::-1], "pmatrix"))
    if columns > 1:
        item.miss("transposed", written([texts[0], *texts[2:], texts[1]], "pmatrix"))
    item.miss("shape", f"({','.join(texts)},0)", written(texts, "pmatrix", " & "))
    return item


def words(rng: random.Random) -> Item:
    """A word, or the letter of an option."""
    known = ["Evelyn", "ellipse", "hyperbola", "Navin", "east", "even", "odd", "Monday", "December",
             "isosceles", "circle", "neither", "all real numbers", "red and blue"]  # fmt: skip
    word = pick(rng, known)
    other = pick(rng, [each for each in known if each != word])
    if rng.random() < 0.4:
        letters = "ABCDEFGH"
        word, other = letters[rng.randrange(8)], "XYZW"[rng.randrange(4)]
        item = Item(
            "MATH500", "letter", rf"\text{{({word})}}", frozenset({(float(ord(word)), 0.5)})
        )
        item.same("letter", word, f"({word})", rf"\textbf{{({word})}}", rf"\textnormal{{({word})}}")
        item.same("letter", rf"\mathbf{{{word}}}", rf"\text{{{word}.}}")
        item.same("letter", rf"\text{{Option {word}}}", rf"\textbf{{{word}}}")
        item.miss("letter", other, f"({other})", rf"\text{{({other})}}", f"{word}{other}")
        return item
    gold = rf"\text{{{word}}}"
    item = Item(
        "MATH500", "words", gold, frozenset({(float(sum(word.encode())), float(len(word)))})
    )
    item.same(
        "typed",
        word,
        word.upper(),
        rf"\textbf{{{word}}}",
        rf"\textnormal{{{word}}}",
        rf"\mathrm{{{word}}}".replace(" ", "~"),
    )
    item.same("typed 2", rf"\textup{{{word}}}", rf"\texttt{{{word}}}", f"“{word}”")
    item.same(
        "typed",
        rf"\textsc{{{word}}}",
        rf"\mbox{{{word}}}",
        rf"\text{{{word}.}}",
    )
    item.same("spaced", rf"\text{{ {word} }}", rf"\textit{{{word}}}", rf"{word}.")
    item.same(
        "typed 3",
        rf"\text{{{word}}}\,",
        rf"\textsf{{{word}}}",
        rf"\text{{Answer: {word}}}",
        rf"\mathsf{{{word}}}".replace(" ", "~"),
    )
    item.same(
        "set",
        rf"\text{{\textbf{{{word}}}}}",
        rf"\boldsymbol{{\text{{{word}}}}}",
        rf"\text{{The answer is {word}}}",
        rf"\Large\text{{{word}}}",
        held_out=True,
    )
    item.miss(
        "other word", other, rf"\text{{{other}}}", f"not {word}", f"{word} {other}", word[:-1]
    )
    return item


MAKERS: tuple[tuple[Maker, int], ...] = (
    (point, 4),
    (listed, 5),
    (both_signs, 1),
    (interval, 5),
    (matrix, 4),
    (words, 2),
)
"""What makes items, and how often it is asked."""
