"""Formulas and equations as answers: of letters, of physics, of sequences and functions."""

from __future__ import annotations

import math
import random

import sympy
from items import Item, Maker, pick
from sympy import Symbol, latex

__all__ = ["MAKERS"]

_POINT = {name: 0.37 + 0.211 * at for at, name in enumerate("abcdghjklmnpqrstuvwxyz")}


def _value(formula: sympy.Expr) -> float:
    at = {symbol: _POINT.get(symbol.name, 1.7) for symbol in formula.free_symbols}
    return float(formula.subs(at).evalf())


def _values(formula: sympy.Expr) -> frozenset[tuple[float, ...]]:
    return frozenset({(_value(formula),)})


def _plain(formula: sympy.Expr) -> str:
    return str(formula).replace(" ", "")


def polynomial(rng: random.Random) -> Item:
    """A polynomial, expanded or factored."""
    x = Symbol(rng.choice("xntk"))
    roots = [rng.randint(-6, 6) or 7 for _ in range(rng.choice((2, 2, 3)))]
    factors = [x - root for root in roots]
    product = rng.choice((1, 1, 2, 3)) * sympy.prod(factors)
    expanded = sympy.expand(product)
    gold = latex(expanded)
    item = Item(rng.choice(("MATH500", "OlympiadBench")), "polynomial", gold, _values(expanded))
    item.same("factored", latex(product), latex(sympy.factor(expanded)))
    terms = sympy.Add.make_args(expanded)
    item.same(
        "order", "+".join(latex(term) for term in sorted(terms, key=latex)).replace("+-", "-")
    )
    item.same("typed", _plain(expanded), _plain(expanded).replace("**", "^"), _plain(product))
    item.same(
        "function", f"f({x}) = {gold}", f"P({x})={gold}", f"y={gold}", f"a_{x}={latex(product)}"
    )
    item.same("Horner", latex(sympy.horner(expanded)))
    item.same("middle dots", latex(expanded, mul_symbol="dot"))
    item.same("times", latex(expanded, mul_symbol="times"), rf"\left({gold}\right)")
    item.same("times", latex(product, mul_symbol="times"), f"{{{gold}}}")
    other = sympy.expand(product + rng.choice((1, -1, x, -x, x**2)))
    item.same(
        "big brackets",
        rf"\big({gold}\big)",
        rf"\displaystyle {gold}",
        latex(product).replace(r"\left(", "(").replace(r"\right)", ")"),
    )
    item.same(
        "brackets",
        rf"\left[{gold}\right]",
        rf"q({x}) = {gold}",
        gold.replace(" ", r"\,"),
        f"{gold}+0",
    )
    item.same(
        "set",
        rf"\mathbf{{{gold}}}",
        rf"h({x}) = {gold}",
        rf"\text{{The polynomial is }}{gold}",
        rf"\bigl({gold}\bigr)",
        held_out=True,
    )
    item.miss("set", rf"\text{{The polynomial is }}{latex(other)}", held_out=True)
    item.miss("other term", latex(other), latex(sympy.factor(other)), f"f({x}) = {latex(other)}")
    item.miss(
        "other sign", latex(expanded.subs(x, -x)) if expanded.subs(x, -x) != expanded else "0"
    )
    item.miss("derivative", latex(sympy.diff(expanded, x)))
    item.miss("other unknown", latex(expanded.subs(x, Symbol("w"))))
    item.miss("equation of two", f"w+{x}={gold}")
    return item


def rational(rng: random.Random) -> Item:
    """A fraction of polynomials."""
    x = Symbol(rng.choice("xnsk"))
    a, b, c = rng.randint(1, 6), rng.randint(1, 6), rng.randint(1, 5)
    formula = (a * x + b) / (x + c) if a * c != b else (a * x + b + 1) / (x + c)
    gold = latex(formula)
    item = Item(
        rng.choice(("MATH500", "Minerva", "OlympiadBench")), "rational", gold, _values(formula)
    )
    top, bottom = sympy.fraction(formula)
    item.same("typed", f"({_plain(top)})/({_plain(bottom)})", rf"({latex(top)})/({latex(bottom)})")
    item.same("apart", latex(sympy.apart(formula, x)))
    item.same(
        "times", rf"\frac{{{latex(sympy.expand(top * (x + 7)))}}}{{({latex(bottom)})({x}+7)}}"
    )
    item.same("power", rf"({latex(top)})({latex(bottom)})^{{-1}}")
    item.same(
        "over",
        rf"{{{latex(top)} \over {latex(bottom)}}}",
        rf"\dfrac{{{latex(top)}}}{{{latex(bottom)}}}",
    )
    item.same("signs", rf"-\frac{{{latex(top)}}}{{{latex(-bottom)}}}")
    item.same("function", f"X({x})={gold}", f"f({x})={gold}")
    item.same("signs", rf"\frac{{-({latex(top)})}}{{-({latex(bottom)})}}")
    item.same(
        "power",
        rf"\left(\frac{{{latex(bottom)}}}{{{latex(top)}}}\right)^{{-1}}",
    )
    item.same(
        "turned",
        rf"\frac{{1}}{{{latex(bottom)}}}\left({latex(top)}\right)",
        rf"\frac{{({latex(top)})}}{{({latex(bottom)})}}",
    )
    item.same(
        "division",
        rf"({latex(top)})\div({latex(bottom)})",
        rf"\cfrac{{{latex(top)}}}{{{latex(bottom)}}}",
        rf"H({x}) = {gold}",
        rf"\left.({latex(top)})\middle/({latex(bottom)})\right.",
    )
    item.same(
        "set",
        rf"\displaystyle{gold}",
        rf"G({x})={gold}",
        rf"\left({gold}\right)",
        rf"\frac{{{latex(top)}}}{{\,{latex(bottom)}\,}}",
        rf"{gold}, \quad {x} \neq {-c}",
        held_out=True,
    )
    item.miss(
        "other term", latex((top + 1) / bottom), latex(top / (bottom + 1)), latex(bottom / top)
    )
    item.miss("not over all", rf"{latex(top)}/{latex(bottom)}" if top.is_Add else "0")
    item.miss("sign", latex(-formula))
    return item


def physics(rng: random.Random) -> Item:
    """A product of powers of physical quantities."""
    letters = [
        "m",
        "v",
        "k",
        "g",
        "L",
        "r",
        "h",
        r"\omega",
        r"\rho",
        r"\lambda",
        r"\gamma",
        r"\mu",
        r"\sigma",
        r"\epsilon",
        r"\theta",
        "q",
        "T",
        "V_0",
        "m_e",
        "R_1",
    ]
    chosen = rng.sample(letters, 3)
    number = rng.choice((1, 2, 3, 4))
    powers = [rng.choice((1, 1, 2)) for _ in chosen]
    top = [
        f"{letter}^{power}" if power > 1 else letter
        for letter, power in zip(chosen, powers, strict=True)
    ]
    head = str(number) if number > 1 else ""
    below = top.pop()
    gold = rf"\frac{{{head}{' '.join(top)}}}{{{below}}}"
    values = [math.log(number + 1.5)]
    values += [(letters.index(c) + 3) * 10.0 + p for c, p in zip(chosen, powers, strict=True)]
    item = Item("Minerva", "physics", gold, frozenset({tuple(values)}))
    item.same("order", rf"\frac{{{head}{' '.join(top[::-1])}}}{{{below}}}")
    item.same(
        "one line",
        rf"{head}{' '.join(top)}/{below}",
        rf"\frac{{{head or 1}}}{{{below}}}{' '.join(top)}",
    )
    item.same("dots", rf"\frac{{{head or 1}\cdot {top[0]}\cdot {top[1]}}}{{{below}}}")
    base, _, high = below.partition("^")
    item.same("power", rf"{head}{' '.join(top)} {base}^{{-{high or 1}}}")
    item.same("named", rf"E={gold}", rf"\Delta E = {gold}", rf"F_{{net}}={gold}")
    item.same("named 2", rf"E_{{\text{{kin}}}} = {gold}", rf"\mathcal{{E}}={gold}")
    item.same("doubled", rf"\frac{{{2 * number}{' '.join(top)}}}{{2{below}}}")
    item.same("thin spaces", rf"\frac{{{head}\,{top[0]}\,{top[1]}}}{{{below}}}")
    item.same(
        "brackets",
        rf"\left({gold}\right)",
        rf"\displaystyle {gold}",
        gold.replace(r"\frac", r"\dfrac"),
    )
    item.same("product", " ".join((head, *top)) + rf" \cdot \frac{{1}}{{{below}}}")
    item.same(
        "turned",
        rf"\dfrac{{{head or 1}}}{{{below}}}\,{top[0]}\,{top[1]}",
        rf"\frac{{{head or 1}\,{top[1]}\cdot {top[0]}}}{{{below}}}",
    )
    item.same(
        "product 2",
        rf"\frac{{{head}{top[1]}}}{{{below}}}\,{top[0]}"
        if number > 1
        else rf"\frac{{{top[1]}}}{{{below}}}\,{top[0]}",
        rf"W = {gold}",
        rf"\frac{{{head or 1}}}{{{below}}} \cdot {top[1]} \cdot {top[0]}",
        f"{{{gold}}}",
    )
    item.same(
        "set",
        rf"\mathbf{{{gold}}}",
        rf"P = {gold}",
        rf"\text{{The energy is }}{gold}",
        rf"{gold}.",
        held_out=True,
    )
    item.miss("other number", rf"\frac{{{number + 1}{' '.join(top)}}}{{{below}}}")
    item.miss("missing", rf"\frac{{{head}{top[0]}}}{{{below}}}", rf"{head}{' '.join(top)}")
    item.miss("upside down", rf"\frac{{{below}}}{{{head}{' '.join(top)}}}")
    item.miss("added", rf"{gold}+1", rf"\gamma+{gold}", rf"{gold}\cdot\gamma^3")
    item.miss(
        "other letter", rf"\frac{{{head}{top[0]} B}}{{{below}}}", gold.replace(top[0], r"\beta", 1)
    )
    return item


def signal(rng: random.Random) -> Item:
    """A function of time: exponentials, sines, a wave."""
    a, b, c = rng.randint(1, 6), rng.randint(2, 9), rng.randint(2, 9)
    if rng.random() < 0.4:
        gold = f"{b}e^{{{c}it}}"
        item = Item("Minerva", "wave", gold, frozenset({(b, c + 50.0)}))
        item.same(
            "exponent",
            f"{b}e^{{{c} i t}}",
            f"{b}e^{{i {c}t}}",
            f"{b} e^{{it\\cdot {c}}}",
            f"{b}\\exp({c}it)",
        )
        item.same("exponent", rf"{b}(e^{{it}})^{{{c}}}", rf"{b}e^{{{c}ti}}")
        item.same(
            "Euler",
            rf"{b}\cos({c}t)+{b}i\sin({c}t)",
            rf"{b}(\cos {c}t + i\sin {c}t)",
        )
        item.miss(
            "exponent",
            f"{b}e^{{-{c}it}}",
            f"{b}e^{{{c + 1}it}}",
            f"{b}e^{{{c}t}}",
            f"{b + 1}e^{{{c}it}}",
        )
        item.miss("part", rf"{b}\cos({c}t)", rf"{b}\cos({c}t)-{b}i\sin({c}t)")
        return item
    t = Symbol("t")
    formula = b * sympy.exp(-a * t) * sympy.cos(c * t)
    power = f"-{a}t" if a > 1 else "-t"
    gold = rf"{b}e^{{{power}}}\cos({c}t)"
    item = Item("Minerva", "signal", gold, _values(formula))
    item.same("order", rf"{b}\cos({c}t)e^{{{power}}}", rf"{b} e^{{{power}}} \cos {c}t")
    item.same(
        "exp", rf"{b}\exp({power})\cos({c}t)", rf"\frac{{{b}\cos({c}t)}}{{e^{{{power[1:]}}}}}"
    )
    item.same("named", f"y(t)={gold}", f"y={gold}", f"x(t) = {gold}")
    item.same(
        "identity",
        rf"{b}e^{{{power}}}\sin({c}t+\frac{{\pi}}{{2}})",
        rf"{b}e^{{{power}}}\cos(-{c}t)",
    )
    item.same(
        "left and right",
        rf"{b}e^{{{power}}}\cos\left({c}t\right)",
        rf"{b}\mathrm{{e}}^{{{power}}}\cos({c}t)",
    )
    item.same(
        "spaces",
        rf"{b}\,e^{{{power}}}\,\cos({c}\,t)",
        rf"{b}e^{{{power}}}\cos{{({c}t)}}",
    )
    item.same(
        "turned",
        rf"\cos({c}t)\cdot {b}e^{{{power}}}",
        rf"{b}\cdot\exp\left({power}\right)\cdot\cos\left({c}t\right)",
    )
    item.same(
        "typed e",
        rf"{b}\,{{\rm e}}^{{{power}}}\cos({c}t)",
        rf"y(t) = {b}e^{{{power}}}\cos\!\left({c}t\right)",
        rf"{b}e^{{{power}}}\cos[{c}t]",
        rf"{b}\,\mathrm{{e}}^{{{power}}}\,\mathrm{{cos}}({c}t)",
    )
    item.same(
        "set",
        rf"f(t)={gold}",
        rf"\text{{The solution is }}{gold}",
        rf"{b}\times e^{{{power}}}\times\cos({c}t)",
        rf"\left({gold}\right)",
        held_out=True,
    )
    item.miss(
        "other number", rf"{b + 1}e^{{{power}}}\cos({c}t)", rf"{b}e^{{{power}}}\cos({c + 1}t)"
    )
    item.miss("other function", rf"{b}e^{{{power}}}\sin({c}t)", rf"{b}e^{{{power[1:]}}}\cos({c}t)")
    item.miss("missing", rf"{b}\cos({c}t)", rf"{b}e^{{{power}}}", rf"e^{{{power}}}\cos({c}t)")
    return item


def sequence(rng: random.Random) -> Item:
    """What depends on n: powers, binomials, factorials, roots."""
    n = Symbol("n")
    a, b = rng.randint(2, 5), rng.randint(1, 6)
    kind = rng.choice(("power", "triangle", "binomial", "root"))
    forms: tuple[str, ...]
    wrong: tuple[str, ...]
    if kind == "power":
        gold, formula = f"{a}^{{n+1}}-{b}", a ** (n + 1) - b
        forms = (f"{a}\\cdot {a}^n-{b}", f"-{b}+{a}^{{n+1}}", f"{a}^{{1+n}}-{b}", f"{a}**(n+1)-{b}")
        wrong = (f"{a}^{{n}}-{b}", f"{a}^{{n+1}}-{b + 1}", f"{a}^{{n-1}}-{b}", f"{a}^n+1-{b}")
    elif kind == "triangle":
        gold, formula = rf"\frac{{n(n+{b})}}{{{a}}}", n * (n + b) / a
        forms = (
            rf"\frac{{n^2+{b}n}}{{{a}}}",
            rf"\frac{{n}}{{{a}}}(n+{b})",
            f"n(n+{b})/{a}",
            rf"\frac{{1}}{{{a}}}n^2+\frac{{{b}}}{{{a}}}n",
        )
        wrong = (
            rf"\frac{{n(n-{b})}}{{{a}}}",
            rf"\frac{{n(n+{b})}}{{{a + 1}}}",
            f"n(n+{b})",
            rf"\frac{{n+{b}}}{{{a}}}",
        )
    elif kind == "binomial":
        gold, formula = r"\binom{n}{2}", n * (n - 1) / 2
        forms = (
            r"{n \choose 2}",
            r"\frac{n(n-1)}{2}",
            r"\dbinom{n}{2}",
            r"n\choose 2",
            r"\frac{n^2-n}{2}",
        )
        wrong = (r"\binom{n+1}{2}", r"{2 \choose n}", r"\frac{n(n+1)}{2}", r"\binom{n}{3}")
    else:
        gold, formula = rf"\sqrt{{n^2+{b}}}-n", sympy.sqrt(n**2 + b) - n
        forms = (
            rf"-n+\sqrt{{{b}+n^2}}",
            rf"(n^2+{b})^{{1/2}}-n",
            f"√(n^2+{b})-n",
            rf"\frac{{{b}}}{{\sqrt{{n^2+{b}}}+n}}",
        )
        wrong = (
            rf"\sqrt{{n^2+{b}}}+n",
            rf"\sqrt{{n^2-{b}}}-n",
            rf"\sqrt{{n^2+{b}-n}}",
            rf"\sqrt{{{b}}}",
        )
    item = Item("OlympiadBench", "sequence", gold, _values(formula))
    item.same(kind, *forms)
    item.same("named", f"a_n={gold}", f"f(n) = {gold}", f"S_{{n}}={gold}")
    item.same("for all", rf"{gold}\text{{ for all }}n\ge 1", rf"{gold} \quad (n \geq 1)")
    item.same(
        "brackets",
        rf"\left({gold}\right)",
        rf"{{{gold}}}",
        gold.replace("{n+1}", "{(n+1)}"),
    )
    item.same(
        "named 2",
        f"u_n = {gold}",
        rf"T(n)={gold}",
        rf"{gold}\text{{ for every positive integer }}n",
        rf"\text{{General term: }}{gold}",
    )
    item.same(
        "named 3",
        f"b_n = {gold}",
        rf"g(n)={gold}",
        rf"{gold}, \quad n \ge 1",
        rf"{gold}\text{{ for }}n \in \mathbb{{N}}",
        rf"\text{{The answer is }}{gold}",
        held_out=True,
    )
    item.miss(kind, *wrong)
    return item


def equation(rng: random.Random) -> Item:
    """A line, a circle, a differential equation."""
    a, b, c = rng.randint(2, 9), rng.randint(2, 9), rng.randint(1, 12)
    kind = rng.choice(("line", "circle", "derivative", "slope"))
    forms: tuple[str, ...]
    wrong: tuple[str, ...]
    values: tuple[float, ...] = (a, b * 100.0, c * 10000.0, float(len(kind)))
    if kind == "line":
        gold = f"{a}x+{b}y={c}"
        forms = (
            f"{b}y+{a}x={c}",
            f"{a}x+{b}y-{c}=0",
            f"{2 * a}x+{2 * b}y={2 * c}",
            f"{c}={a}x+{b}y",
            rf"y=\frac{{{c}-{a}x}}{{{b}}}",
            f"{a}x={c}-{b}y",
        )
        wrong = (
            f"{a}x-{b}y={c}",
            f"{a}x+{b}y={c + 1}",
            str(c),
            f"{a}x+{b}y",
            f"{a + 1}x+{b}y={c}",
            f"{a}x+{b}y+{c}=0",
        )
        values = (a / b, c / b)
    elif kind == "circle":
        gold = f"(x-{a})^2+(y+{b})^2={c * c}"
        forms = (
            f"(y+{b})^2+(x-{a})^2={c * c}",
            f"(x-{a})^2+(y+{b})^2-{c * c}=0",
            f"({a}-x)^2+(y+{b})^2={c}^2",
            f"x^2-{2 * a}x+y^2+{2 * b}y+{a * a + b * b - c * c}=0".replace("+-", "-"),
        )
        wrong = (
            f"(x+{a})^2+(y+{b})^2={c * c}",
            f"(x-{a})^2+(y-{b})^2={c * c}",
            f"(x-{a})^2+(y+{b})^2={c * c + 1}",
            str(c * c),
        )
    elif kind == "derivative":
        gold = f"y'+{a}y={b}x"
        forms = (f"{a}y+y'={b}x", f"y'={b}x-{a}y", rf"y^{{\prime}}+{a}y={b}x", f"y′+{a}y={b}x")
        wrong = (f"y'-{a}y={b}x", f"y+{a}y={b}x", f"y''+{a}y={b}x", f"y'+{a}y={b + 1}x", f"{b}x")
    else:
        gold = f"y={a}x+{c}"
        forms = (f"{a}x+{c}", f"y={c}+{a}x", f"y-{c}={a}x", f"{a}x-y+{c}=0")
        wrong = (f"y={a}x-{c}", f"y={a + 1}x+{c}", f"x={a}y+{c}", str(c), f"y={a}x")
        values = (a, c + 7777.0)
    item = Item(
        pick(rng, ("MATH500", "OlympiadBench")), f"equation: {kind}", gold, frozenset({values})
    )
    item.same(f"equation: {kind}", *forms)
    item.same(
        "set apart",
        f"{{{gold}}}",
        gold.replace("=", r"\;=\;"),
        rf"\text{{The equation is }}{gold}",
        rf"\displaystyle {gold}",
    )
    item.same(
        "set",
        rf"\mathbf{{{gold}}}",
        rf"\bigl({gold}\bigr)",
        gold.replace("+", r"\,+\,"),
        f"{gold}.",
        held_out=True,
    )
    if kind == "derivative":
        item.same("dots over", rf"\frac{{dy}}{{dx}}+{a}y={b}x")
    if kind == "line":
        item.same("intercepts", rf"\frac{{{a}x}}{{{c}}}+\frac{{{b}y}}{{{c}}}=1")
    item.miss(f"equation: {kind}", *wrong)
    return item


MAKERS: tuple[tuple[Maker, int], ...] = (
    (polynomial, 5),
    (rational, 4),
    (physics, 5),
    (signal, 4),
    (sequence, 3),
    (equation, 4),
)
"""What makes items, and how often it is asked."""
