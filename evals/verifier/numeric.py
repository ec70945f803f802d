"""Numbers as answers: of AIME and AMC, fractions, roots, powers, angles, percentages."""

from __future__ import annotations

import math
import random
from fractions import Fraction

from items import Item, Maker, pick

__all__ = ["MAKERS"]


def _values(*values: float | Fraction) -> frozenset[tuple[float, ...]]:
    return frozenset((float(value),) for value in values)


def _frac(value: Fraction, command: str = r"\frac") -> str:
    sign = "-" if value < 0 else ""
    return rf"{sign}{command}{{{abs(value.numerator)}}}{{{value.denominator}}}"


def aime(rng: random.Random) -> Item:
    """A whole number from 0 to 999."""
    n = rng.randint(0, 999)
    gold = f"{n:03d}" if rng.random() < 0.3 else str(n)
    item = Item("AIME", "integer", gold, _values(n))
    item.same("zeros", f"{n:03d}", str(n))
    item.same("decimal", f"{n}.0", f"{n}.")
    letters = rng.sample("abcdkmnpqrs", 3)
    asked = (f"{letters[0]}+{letters[1]}", "+".join(letters), f"{letters[0]} + {letters[1]}")
    item.same("asked", f"{pick(rng, asked)} = {n}", f"{letters[0]}{letters[1]}={n}")
    item.same("name", f"N = {n}", f"x={n}", rf"\text{{Answer}} = {n}")
    part, factor = rng.randint(0, n), rng.randint(2, 9)
    item.same("arithmetic", f"{part}+{n - part}", rf"{n // factor}\cdot {factor}+{n % factor}")
    item.same(
        "result", rf"{part}+{n - part}={n}", rf"{n // factor}\times {factor}+{n % factor} = {n}"
    )
    item.same("fraction", rf"\frac{{{factor * n}}}{{{factor}}}", f"{factor * n}/{factor}")
    item.same("markup", rf"\mathbf{{{n}}}", rf"\text{{{n}}}", f"${n}$", rf"\({n}\)", f"**{n}**")
    item.same("modulo", rf"{n}\pmod{{1000}}", rf"{n} \bmod 1000")
    item.same("markup 2", rf"\bm{{{n}}}", rf"\textcolor{{red}}{{{n}}}", rf"\;{n}\;")
    item.same("markup", rf"\underline{{{n}}}", rf"\left({n}\right)")
    item.same("words", rf"\text{{The answer is }}{n}")
    item.same("display", rf"{{\displaystyle {n}}}", rf"\large{{{n}}}", rf"\text{{N}} = {n}")
    item.same(
        "said before",
        rf"\text{{The remainder is }}{n}",
        rf"S_{{\max}} = {n}",
        rf"\textbf{{Answer: }}{n}",
        rf"\text{{Number of pairs}} = {n}",
    )
    item.same("decimal 2", f"{n}.00", rf"{n}.\overline{{0}}")
    item.miss(
        "said before",
        rf"\text{{The remainder is }}{n + 1}",
        rf"S_{{\max}} = {n + 2}",
        rf"\text{{The remainder is not }}{n}",
    )
    item.same(
        "said around",
        rf"\text{{Thus, the value is }}{n}",
        rf"\text{{total}} = {n}",
        rf"{n}\text{{ triangles}}",
        rf"f(0) = {n}",
        rf"{{\Large\mathbf{{{n}}}}}",
        held_out=True,
    )
    item.miss(
        "said around",
        rf"\text{{total}} = {n + 1}",
        rf"f(0) = {n + 3}",
        rf"{n + 1}\text{{ triangles}}",
        held_out=True,
    )
    item.miss("off by one", str(n + 1), str(n - 1), f"m+n={n + 1}", f"x = {n - 1}")
    item.miss("scale", str(10 * n + 10), rf"\frac{{{2 * n + 1}}}{{2}}", str(2 * n + 3))
    item.miss("sign", str(-n - 1))
    item.miss(
        "arithmetic", rf"{n // factor}\cdot {factor}+{n % factor + 1}", f"{part}+{n - part}+2"
    )
    item.miss("equation", f"{n}=11a+c", f"2x+1={n}", f"{n}=2x+1")
    item.miss("unknown", f"{n}k+1", f"n+{n}")
    return item


def amc(rng: random.Random) -> Item:
    """A number with few decimals."""
    value = Fraction(rng.randint(1, 4000), rng.choice((1, 1, 2, 4, 5, 10, 20, 25)))
    gold = str(float(value))
    item = Item("AMC", "decimal", gold, _values(value))
    item.same("decimal", f"{float(value):.4f}", gold.removesuffix(".0"))
    item.same("fraction", _frac(value), str(value), _frac(value, r"\dfrac"))
    whole, rest = divmod(value, 1)
    if rest and whole:
        item.same("mixed", rf"{whole}\frac{{{rest.numerator}}}{{{rest.denominator}}}")
        item.same("mixed", f"{whole} {rest}")
    item.same("price", rf"\${gold}", f"${gold}$ dollars")
    item.same("display", rf"\displaystyle {gold}", rf"\left({gold}\right)", rf"{gold}\,")
    item.same("zeros", f"{gold}00", rf"\mathrm{{{gold}}}", rf"\text{{{gold}}}")
    item.miss("zeros", f"{gold}01", f"0{gold}1")
    item.same(
        "said around",
        rf"\text{{The price is }}\${gold}",
        rf"\mathbf{{{gold}}}",
        rf"t = {gold}",
        held_out=True,
    )
    item.miss("said around", rf"t = {gold}7", held_out=True)
    item.miss("neighbour", str(float(value + Fraction(1, 10))), str(float(value) + 1))
    item.miss("scale", str(float(value) * 10), str(float(value) / 10))
    item.miss("reciprocal", str(1 / value) if value != 1 else "2")
    item.same("price", rf"\text{{\$}}{gold}", rf"\$\,{gold}")
    item.miss("rounded", f"{float(value) + 0.001:.3f}")
    return item


def thousands(rng: random.Random) -> Item:
    """A large whole number."""
    n = rng.randint(1000, 99_999_999)
    item = Item("MATH500", "thousands", str(n), _values(n))
    comma = f"{n:,}"
    for family, sign in (("comma", ","), ("comma", "{,}"), ("comma", r",\!"), ("space", r"\,"),
                         ("space", r"\ "), ("space", "~"), ("space", " ")):  # fmt: skip
        item.same(f"thousands: {family}", comma.replace(",", sign))
    item.same("thousands: other spaces", comma.replace(",", "\u202f"))
    item.same("thousands: other spaces", comma.replace(",", r"\;"))
    item.same("thousands with unit", rf"{comma}\text{{ people}}", f"${comma}$")
    swapped = n + rng.choice((9, 90, 900))
    item.same("comma in text", comma.replace(",", r"\text{,}"), comma.replace(",", r"{\,}"))
    item.same(
        "thousands: typed",
        comma.replace(",", r"\>"),
        rf"\underline{{{comma}}}",
        f"N = {comma}",
        rf"\mathbf{{{comma.replace(',', '{,}')}}}",
        f"{comma}.00",
    )
    item.miss("typed", f"{swapped:,}".replace(",", r"\>"), f"N = {swapped:,}")
    item.same(
        "thousands: said around",
        rf"\text{{approximately }}{comma}",
        rf"{comma}\text{{ ways}}",
        rf"\boldsymbol{{{comma}}}",
        rf"\${comma}\$",
        rf"{{\bf {comma}}}",
        held_out=True,
    )
    item.miss("said around", rf"{swapped:,}\text{{ ways}}", held_out=True)
    item.miss("other digits", f"{swapped:,}", f"{swapped:,}".replace(",", r"\,"), str(n // 10))
    item.miss("other digits", f"{swapped:,}".replace(",", " "), f"{swapped:,}".replace(",", "~"))
    item.miss("groups", comma.replace(",", ".", 1) + "5", f"{n // 1000}.{n % 1000:03d}1")
    return item


def fraction(rng: random.Random) -> Item:
    """A fraction in lowest terms."""
    value = Fraction(rng.randint(1, 99), rng.randint(2, 60)) * rng.choice((1, 1, -1))
    if value.denominator == 1:
        value += Fraction(1, 7)
    a, b, k = value.numerator, value.denominator, rng.randint(2, 6)
    gold = _frac(value)
    item = Item(rng.choice(("MATH500", "OlympiadBench")), "fraction", gold, _values(value))
    item.same("fraction", _frac(value, r"\dfrac"), _frac(value, r"\tfrac"), f"{a}/{b}")
    item.same("fraction", rf"\frac{{{a}}}{{{b}}}", rf"\frac{{{-a}}}{{{-b}}}")
    item.same("not reduced", rf"\frac{{{a * k}}}{{{b * k}}}", f"{a * k}/{b * k}")
    item.same("over", rf"{{{a} \over {b}}}", rf"{a}\over {b}")
    item.same("division", rf"{a}\div {b}", f"{a} ÷ {b}", rf"\left(\frac{{{a}}}{{{b}}}\right)")
    part = Fraction(rng.randint(1, 9), rng.randint(2, 9))
    rest = value - part
    if rest:
        item.same("sum", f"{_frac(part)}{'+' if rest > 0 else ''}{_frac(rest)}")
    whole, left = divmod(abs(value), 1)
    if whole and left:
        sign = "-" if value < 0 else ""
        item.same("mixed", rf"{sign}{whole}\frac{{{left.numerator}}}{{{left.denominator}}}")
    if (10**6) % b == 0:
        item.same("decimal", f"{float(value):.6f}".rstrip("0"))
    else:
        exact = f"{float(value):.3f}"
        item.same("rounding beside it", rf"{gold}\approx {exact}", f"{gold} ≈ {exact}")
        item.same("rounding beside it", rf"x = {gold} \approx {exact}")
        item.miss("rounded", exact, f"{float(value):.2f}")
        item.miss("rounding of another", rf"{gold}\approx {float(value) + 0.2:.3f}")
    item.same("name", f"P(X=2)={gold}", rf"\mathbb{{P}}(A\mid B)={gold}", f"f(3)={gold}")
    item.same("name 2", rf"\Pr[X \ge 3] = {gold}", rf"\tan \angle BAC={gold}")
    if a > 0:
        item.same("power", rf"\left(\frac{{{b}}}{{{a}}}\right)^{{-1}}")
    item.same(
        "typed",
        rf"\displaystyle\frac{{{a}}}{{{b}}}",
        rf"\textstyle\frac{{{a}}}{{{b}}}",
    )
    item.same(
        "fraction",
        rf"\frac{{{a}}}{b}" if b < 10 else rf"\frac{{\,{a}\,}}{{\,{b}\,}}",
    )
    item.same(
        "fraction",
        rf"\frac{{\frac{{{a}}}{{2}}}}{{\frac{{{b}}}{{2}}}}",
        rf"\nicefrac{{{a}}}{{{b}}}",
    )
    item.same(
        "spaced",
        rf"\frac{{\,{a}}}{{{b}}}",
        rf"\left(\dfrac{{{a}}}{{{b}}}\right)",
        rf"\frac {{{a}}} {{{b}}}",
    )
    item.same(
        "slanted",
        rf"{a}\big/{b}",
        rf"\left.{a}\middle/{b}\right.",
        rf"{a}\cdot\frac{{1}}{{{b}}}",
        rf"{a}/({b})",
        rf"\dfrac{{\displaystyle {a}}}{{\displaystyle {b}}}",
    )
    item.same("name 3", rf"\Pr = {gold}", rf"k = {gold}", rf"\frac{{m}}{{n}} = {gold}")
    item.miss("slanted", rf"{b}\big/{a}" if abs(a) != b else "7", rf"k = {_frac(-value)}")
    item.same(
        "steps",
        rf"\frac{{{3 * a}}}{{{3 * b}}} = {gold}",
        rf"\frac{{{a}}}{{{b}}}\cdot 1",
        rf"\frac{{{a}\cdot 2}}{{{b}\cdot 2}}",
        rf"\text{{the fraction }}{gold}",
        rf"\mathbf{{{gold}}}",
        held_out=True,
    )
    item.miss(
        "steps", rf"\frac{{{a}}}{{{b}}}\cdot 2", rf"{gold} = {_frac(value + 1)}", held_out=True
    )
    item.miss("upside down", _frac(1 / value) if abs(a) != b else "7")
    item.miss("sign", _frac(-value), f"{-a}/{b}")
    item.miss("neighbour", _frac(value + Fraction(1, b)), f"{a + 1}/{b}", f"P(X=2)={a + 1}/{b}")
    item.miss("neighbour", rf"\frac{{{a}}}{{{b + 1}}}", rf"{{{a} \over {b + 1}}}")
    return item


def surd(rng: random.Random) -> Item:
    """A sum of a whole number and a root, perhaps over a denominator."""
    a, b, c = (
        rng.randint(0, 12),
        rng.randint(1, 9),
        rng.choice((2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17)),
    )
    d = rng.choice((1, 1, 2, 3, 4, 7))
    if math.gcd(a, b, d) > 1:
        d = 1
    root = rf"\sqrt{{{c}}}"
    times = f"{b}{root}" if b > 1 else root
    top = f"{a}+{times}" if a else times
    gold = rf"\frac{{{top}}}{{{d}}}" if d > 1 else top
    value = (a + b * math.sqrt(c)) / d
    item = Item(rng.choice(("MATH500", "OlympiadBench")), "root", gold, _values(value))

    def over(text: str) -> str:
        return rf"\frac{{{text}}}{{{d}}}" if d > 1 else text

    head = f"{a}+" if a else ""
    item.same("root", over(rf"{head}\sqrt{{{b * b * c}}}"), over(rf"{head}{root}\cdot {b}"))
    item.same(
        "root sign", over(f"{head}{b}√{c}"), over(f"{head}√{b * b * c}"), over(f"{head}{b}√({c})")
    )
    item.same("calculator", f"({head}{b}*sqrt({c}))/{d}", f"({head}sqrt({b * b * c}))/{d}")
    item.same(
        "power",
        over(f"{head}{b}\\cdot {c}^{{1/2}}"),
        over(rf"{head}{b}\cdot {c}^{{\frac{{1}}{{2}}}}"),
    )
    item.same("power", over(f"{head}{b}\\cdot {c}^{{0.5}}"))
    item.same("root of two", over(rf"{head}{b}\sqrt[2]{{{c}}}"))
    if a:
        item.same("order", over(f"{times}+{a}"))
        norm = a * a - b * b * c
        item.same("rationalized", rf"\frac{{{norm}}}{{{d}({a}-{times})}}")
    item.same("split", rf"\frac{{{a}}}{{{d}}}+\frac{{{b}}}{{{d}}}{root}")
    item.same("rounding beside it", rf"{gold} \approx {value:.3f}", f"x = {gold} ≈ {value:.2f}")
    item.same(
        "root",
        over(rf"{head}{b}\,\sqrt{{\,{c}\,}}"),
        over(rf"{head}{b}\cdot {c}^{{\tfrac12}}"),
    )
    item.same(
        "turned",
        over(rf"{root}\,\cdot\,{b}" + (f" + {a}" if a else "")),
        over(f"{head}{b}*{c}**(1/2)"),
    )
    item.same(
        "braces",
        over(rf"{head}{{{b}}}{{\sqrt{{{c}}}}}"),
        over(rf"{head}{b}\sqrt{{\mathstrut {c}}}"),
        f"{{{gold}}}",
        rf"{gold}\text{{ units}}",
        rf"\displaystyle{{{gold}}}",
    )
    item.miss("braces", over(rf"{head}{{{b}}}{{\sqrt{{{c + 1}}}}}"))
    item.same(
        "steps",
        rf"\sqrt{{{c}}}^2\cdot 0+{gold}",
        rf"AB = {gold}",
        rf"{gold}\text{{ cm}}",
        rf"r = {gold}",
        rf"\text{{The distance is }}{gold}",
        held_out=True,
    )
    item.miss("steps", f"AB = {gold}+1", rf"\text{{The distance is }}{gold}-1", held_out=True)
    item.miss("rounded", f"{value:.3f}", f"{value:.6f}")
    item.miss("rounding of another", rf"{gold} \approx {value + 0.1:.3f}")
    item.miss("other root", over(f"{head}{b}√{c + 1}"), over(rf"{head}{b}\sqrt{{{c + 1}}}"))
    item.miss(
        "other factor", over(rf"{head}{b + 1}{root}"), over(rf"{head}\sqrt{{{b * c * b * c}}}")
    )
    item.miss("sign", over(rf"{a or 1}-{times}"), f"-{gold}" if d > 1 or not a else f"{a}-{times}")
    item.miss(
        "split root", over(f"{head}{b}√1{c}" if c < 10 else rf"{head}{b}\sqrt{{{c // 10}}}{c % 10}")
    )
    return item


def constant(rng: random.Random) -> Item:
    r"""A multiple of \pi, a logarithm, a power of e."""
    part = Fraction(rng.randint(1, 12), rng.choice((1, 2, 3, 4, 5, 6)))
    n, d = part.numerator, part.denominator
    kind = rng.choice(("pi", "log", "exp"))
    if kind == "pi":
        times = rf"{n}\pi" if n > 1 else r"\pi"
        gold, value = (rf"\frac{{{times}}}{{{d}}}" if d > 1 else times), float(part) * math.pi
        item = Item("MATH500", "pi", gold, _values(value))
        item.same("pi", f"{n}π/{d}", rf"\frac{{{n}}}{{{d}}}\pi", rf"\pi\cdot\frac{{{n}}}{{{d}}}")
        item.same(
            "radians", rf"{gold}\text{{ radians}}", rf"{gold}\text{{ rad}}", f"{gold} radians"
        )
        item.same("radians", rf"{gold}\,\mathrm{{rad}}")
        item.same("area", rf"{gold}\text{{ cm}}^2", rf"{gold}\text{{ square units}}")
        if (180 * part).denominator == 1:
            item.same("degrees", rf"{180 * part}^\circ", rf"{180 * part}^{{\text{{o}}}}")
            item.miss("degrees", rf"{180 * part + 5}^\circ", str(180 * part))
        item.same(
            "pi",
            rf"\tfrac{{{n}}}{{{d}}}\,\pi",
            rf"{n}\cdot\pi/{d}",
            rf"{n}\,\pi / {d}",
        )
        item.same(
            "turned",
            rf"\pi\,\frac{{{n}}}{{{d}}}",
            rf"\frac{{{n}}}{{{d}}}\times\pi",
            f"{n}*pi/{d}",
        )
        item.same(
            "pi in braces",
            rf"\frac{{{n}}}{{{d}}}{{\pi}}",
            f"({n}/{d})pi",
            rf"{{{n}\pi}}/{{{d}}}",
            rf"\left(\frac{{{n}}}{{{d}}}\right)\pi",
        )
        item.same(
            "pi set",
            rf"\frac{{{n}\,\pi}}{{{d}}}",
            rf"V = {gold}",
            rf"{gold}\text{{ square centimeters}}",
            rf"\frac{{{n}}}{{{d}}}\cdot\pi",
            held_out=True,
        )
        item.miss("no pi", str(part), rf"\frac{{{n}}}{{{d}}}")
        item.miss("neighbour", rf"\frac{{{n + 1}\pi}}{{{d}}}", f"{n + d}π/{d}")
    elif kind == "log":
        base = rng.choice((2, 3, 5))
        gold, value = rf"{n + 1}\ln {base}", (n + 1) * math.log(base)
        item = Item("Minerva", "logarithm", gold, _values(value))
        item.same(
            "log", rf"\ln {base ** (n + 1)}", rf"\ln({base ** (n + 1)})", rf"{n + 1}\ln({base})"
        )
        item.same(
            "log",
            rf"\ln\left({base}^{{{n + 1}}}\right)",
            rf"\log_{{e}} {base ** (n + 1)}",
        )
        item.same(
            "log 2",
            rf"{n + 1}\cdot\ln({base})",
            rf"\ln {{{base}}}^{{{n + 1}}}",
            rf"\ln({base})\cdot {n + 1}",
        )
        item.same(
            "log 3",
            rf"{n + 1}\,\ln\,{base}",
            rf"{{{n + 1}}}\ln{{{base}}}",
            rf"\ln\!\left({base}^{{{n + 1}}}\right)",
            held_out=True,
        )
        item.miss(
            "neighbour", rf"{n + 2}\ln {base}", rf"{n + 1}\ln {base + 1}", rf"{n + 1}\log_{{2}} 7"
        )
    else:
        n += 1
        gold, value = rf"{n}e^{{{d + 1}}}", n * math.exp(d + 1)
        item = Item("Minerva", "exponential", gold, _values(value))
        item.same("exp", rf"{n}\exp({d + 1})", rf"{n}\cdot e^{{{d + 1}}}", rf"{n}e^{{{d}}}e")
        item.same("upright e", rf"{n}\mathrm{{e}}^{{{d + 1}}}")
        item.same(
            "exp 2",
            rf"{n}\,\mathrm{{exp}}({d + 1})",
            rf"\frac{{{n}}}{{e^{{-{d + 1}}}}}",
            rf"{n}\,{{e}}^{{{d + 1}}}",
        )
        item.same(
            "exp 3",
            rf"{n}\times e^{{{d + 1}}}",
            rf"{n}\exp\left({d + 1}\right)",
            rf"e^{{{d + 1}}}\cdot {n}",
            held_out=True,
        )
        item.miss(
            "neighbour", rf"{n}e^{{{d + 2}}}", rf"{n + 1}e^{{{d + 1}}}", rf"{n}e^{{-{d + 1}}}"
        )
    item.same("rounding beside it", rf"{gold}\approx {value:.2f}")
    item.miss("rounded", f"{value:.3f}")
    return item


def power(rng: random.Random) -> Item:
    """A power that nobody writes out, or a binomial."""
    if rng.random() < 0.5:
        base, high = rng.randint(2, 9), rng.randint(20, 900)
        gold = f"{base}^{{{high}}}-1"
        item = Item("OlympiadBench", "power", gold, _values(high * math.log(base)))
        item.same("order", f"-1+{base}^{{{high}}}", f"{base}**{high}-1", f"{base}^{high}-1")
        item.same("power", rf"{base}\cdot {base}^{{{high - 1}}}-1")
        item.same(
            "brackets",
            rf"\left({base}\right)^{{{high}}} - 1",
            rf"{{{base}}}^{{{high}}}-1",
        )
        item.same(
            "power 2",
            f"({base})^{{{high}}}-1",
            f"{base}^{{{high}}}+(-1)",
            rf"{base}^{{\,{high}}}-1",
        )
        item.same(
            "power 3",
            rf"{base}^{{{high}}} - 1\text{{ ways}}",
            rf"N = {base}^{{{high}}}-1",
            rf"\left({base}^{{{high}}}-1\right)",
            held_out=True,
        )
        item.miss(
            "neighbour", f"{base}^{{{high}}}+1", f"{base}^{{{high + 1}}}-1", f"{base}^{{{high}}}"
        )
        item.miss(
            "neighbour", f"{base + 1}^{{{high}}}-1", f"{base}**{high - 1}-1", f"{base * high}-1"
        )
        return item
    n, k = rng.randint(5, 15), rng.randint(2, 4)
    value = math.comb(n, k)
    gold = rng.choice((str(value), rf"\binom{{{n}}}{{{k}}}"))
    item = Item("OlympiadBench", "binomial", gold, _values(value))
    item.same("binomial", rf"\binom{{{n}}}{{{k}}}", rf"{{{n} \choose {k}}}", str(value))
    item.same("binomial", rf"\dbinom{{{n}}}{{{n - k}}}", rf"{n} \choose {k}")
    item.same("factorials", rf"\frac{{{n}!}}{{{k}!\cdot {n - k}!}}")
    item.same(
        "binomial 2",
        rf"\tbinom{{{n}}}{{{k}}}",
        rf"\frac{{{n}!}}{{{k}!({n}-{k})!}}",
        rf"\binom{{{n}}}{{{n}-{k}}}",
    )
    item.same(
        "binomial 3",
        rf"\binom{{{n}}}{{{k}}}={value}",
        rf"\frac{{{n}!}}{{({n}-{k})!\,{k}!}}",
        rf"\left({{{n} \choose {k}}}\right)",
        held_out=True,
    )
    item.miss("neighbour", rf"\binom{{{n}}}{{{k + 5}}}" if 2 * k + 5 != n else "1", str(value + 1))
    item.miss(
        "neighbour", rf"{{{n} \choose {k - 1 if n != 2 * k - 1 else 1}}}", rf"\frac{{{n}}}{{{k}}}"
    )
    return item


def percent(rng: random.Random) -> Item:
    """A percentage, or an angle in degrees."""
    n = rng.randint(1, 179)
    if rng.random() < 0.5:
        item = Item("MATH500", "percentage", rf"{n}\%", _values(n, n / 100))
        item.same("percent", f"{n}%", str(n), rf"{n}\text{{ percent}}", rf"{n}\,\%")
        item.same("hundredths", _frac(Fraction(n, 100)), str(n / 100))
        item.same("display", rf"{n} \%", rf"{n}\text{{\%}}", rf"\displaystyle {n}\%")
        item.same(
            "percent 2",
            rf"{n}.0\%",
            rf"p = {n}\%",
            rf"\frac{{{n}}}{{100}} = {n}\%",
            rf"{n}\!\%",
        )
        item.same(
            "percent 3",
            rf"\text{{{n} percent}}",
            rf"\mathbf{{{n}\%}}",
            rf"{n}\%\,",
            rf"\approx {n}\%",
            held_out=True,
        )
        item.miss("neighbour", rf"{n + 1}\%", str(n / 10 + 0.01), _frac(Fraction(n + 1, 100)))
        return item
    gold = rng.choice((rf"{n}^\circ", str(n)))
    item = Item("MATH500", "degrees", gold, _values(n, math.radians(n)))
    item.same("degrees", rf"{n}^{{\circ}}", f"{n}°", rf"{n}^\text{{o}}", rf"{n}^{{\text{{o}}}}")
    item.same("degrees", f"{n} degrees", rf"{n}\text{{ degrees}}", f"{n}º", rf"{n}^{{o}}")
    item.same(
        "degrees 2",
        rf"{n}^{{\mathrm{{o}}}}",
        rf"{n}\,^{{\circ}}",
        rf"{n}{{}}^{{\circ}}",
    )
    item.same("degrees", rf"{n}\text{{°}}", rf"{n}\text{{ deg}}", rf"({n})^{{\circ}}")
    item.same("angle", rf"\angle ABC = {n}^\circ", rf"\theta = {n}°", rf"m\angle A={n}^{{\circ}}")
    item.same(
        "degrees 3",
        rf"\alpha = {n}^{{\circ}}",
        rf"{n}^{{\,\circ}}",
        rf"\text{{{n}}}^\circ",
        rf"{n}\,\text{{degrees}}",
    )
    item.same(
        "degrees 4",
        rf"\mathbf{{{n}^\circ}}",
        rf"\angle BAC = {n}^{{\circ}}",
        rf"\angle P={n}",
        rf"{n}^{{\circ}}\text{{.}}",
        held_out=True,
    )
    item.miss("neighbour", rf"{n + 1}^\circ", rf"{180 - n if n != 90 else 45}^\circ", f"{n + 2}º")
    item.miss("other unit", rf"{n}\pi", rf"\frac{{{n + 1}\pi}}{{180}}")
    return item


def scientific(rng: random.Random) -> Item:
    """A number with a power of ten."""
    digits, high = rng.randint(100, 999), rng.choice([*range(-34, -4), *range(5, 40)])
    m = f"{digits / 100:.2f}".rstrip("0").rstrip(".")
    gold = rng.choice((f"{m}e{high}", rf"{m}\times 10^{{{high}}}"))
    item = Item("Minerva", "scientific", gold, _values(float(f"{m}e{high}")))
    item.same("scientific", rf"{m} \times 10^{{{high}}}", rf"{m}\cdot10^{{{high}}}", f"{m}E{high}")
    item.same("typed", f"{m} x 10^{{{high}}}", f"{m}*10**{high}", f"{m}x10^{high}")
    item.same("typed", f"{m} × 10^({high})", f"{m} · 10^{{{high}}}")
    item.same(
        "shifted", rf"{digits}\times 10^{{{high - 2}}}", rf"0.{digits}\times10^{{{high + 1}}}"
    )
    item.same(
        "scientific",
        rf"{m} \times {{10}}^{{{high}}}",
        rf"10^{{{high}}}\times {m}",
    )
    item.same(
        "scientific",
        rf"{m}\;\times\;10^{{{high}}}",
        rf"{m}\cdot10^{{{high:+d}}}",
    )
    item.same(
        "spaced",
        rf"{m}\,\cdot\,10^{{{high}}}",
        rf"{m}\times10^{{\,{high}}}",
        rf"\left({m}\right)\times 10^{{{high}}}",
    )
    item.same(
        "scientific 2",
        rf"{m}\times \mathrm{{10}}^{{{high}}}",
        f"{m}e{high:+d}",
        rf"{m}\times\left(10^{{{high}}}\right)",
        f"{m}*10^({high})",
        rf"{m}\times10^{{({high})}}",
    )
    item.miss(
        "scientific 2",
        f"{m}e{high + 1:+d}",
        rf"{m}\times\left(10^{{{high - 1}}}\right)",
    )
    item.same(
        "scientific 3",
        rf"\mathbf{{{m}\times 10^{{{high}}}}}",
        rf"\approx {m}\times 10^{{{high}}}",
        rf"F = {m}\times10^{{{high}}}",
        rf"{m} \times 10^{{{high}}}\ ",
        held_out=True,
    )
    item.miss("power", rf"{m}\times 10^{{{high + 1}}}", rf"{m}e{high - 1}", f"{m} x 10^{{{-high}}}")
    item.miss(
        "digits", rf"{(digits + 1) / 100}\times 10^{{{high}}}", f"{(digits + 10) / 100}e{high}"
    )
    item.miss("no power", m + "1", f"{m}0{high}")
    return item


def based(rng: random.Random) -> Item:
    """A number in another base."""
    base = rng.randint(3, 9)
    digits = "".join(str(rng.randrange(1, base)) for _ in range(rng.randint(2, 6)))
    item = Item("MATH500", "base", f"{digits}_{base}", frozenset({(float(digits), float(base))}))
    item.same("base", f"{digits}_{{{base}}}", f"({digits})_{base}", f"({digits})_{{{base}}}")
    item.same("base", rf"\text{{{digits}}}_{base}", rf"{{{digits}}}_{{{base}}}")
    item.same(
        "base",
        rf"{digits}_{{\text{{{base}}}}}",
        rf"{digits}\text{{ (base {base})}}",
    )
    item.same(
        "base 2",
        rf"{digits}_{{({base})}}",
        rf"({digits})_{{\mathrm{{{base}}}}}",
        rf"{digits}_{{\text{{base }}{base}}}",
    )
    item.miss(
        "base 2",
        rf"{digits}_{{({base + 1})}}",
        rf"{digits}_{{\text{{base }}{base + 1}}}",
    )
    item.same(
        "base 3",
        rf"\mathbf{{{digits}}}_{{{base}}}",
        rf"{digits}_{{{base}}}.",
        rf"N = {digits}_{{{base}}}",
        held_out=True,
    )
    item.miss("other base", f"{digits}_{base + 1}", f"({digits})_{{{base + 1}}}")
    item.miss("other digits", f"{digits[::-1]}1_{base}", f"({digits}1)_{base}")
    return item


def complex_number(rng: random.Random) -> Item:
    """A complex number."""
    a, b = rng.randint(1, 20), rng.choice([*range(-12, -1), *range(2, 13)])
    gold = f"{a}{b:+d}i"
    item = Item("MATH500", "complex", gold, frozenset({(a, b + 1000.0)}))
    item.same("complex", f"{a}{b:+d} i", f"{b}i+{a}", rf"{a}{b:+d}\cdot i", f"z = {gold}")
    item.same("complex", f"{a}+({b})i", rf"{a}{b:+d}\mathrm{{i}}")
    item.same("product", f"i({b}-{a}i)", rf"\frac{{{2 * a}{2 * b:+d}i}}{{2}}")
    item.same(
        "complex",
        rf"{a}{b:+d}\,i",
        rf"\left({a}{b:+d}i\right)",
        rf"{a}{b:+d}\mathit{{i}}",
    )
    item.same(
        "spaced",
        rf"{a} {'+' if b > 0 else '-'} {abs(b)}\cdot\mathrm{{i}}",
        rf"({a}) + ({b})i",
    )
    item.same(
        "complex 2",
        rf"z_1 = {gold}",
        rf"{b}\cdot i + {a}",
        rf"{{{a}}}{b:+d}{{i}}",
        rf"{a}{b:+d}\times i",
    )
    item.same(
        "complex 3",
        rf"\mathbf{{{gold}}}",
        rf"w = {gold}",
        rf"{{{a}}}+{{({b})}}i",
        rf"{a}{b:+d}\;i",
        held_out=True,
    )
    item.miss("conjugate", f"{a}{-b:+d}i", f"{-a}{b:+d}i")
    item.miss("parts", f"{b}{a:+d}i" if a != b else f"{a + 1}{b:+d}i", f"{a + b}i", f"{a}{b:+d}")
    return item


MAKERS: tuple[tuple[Maker, int], ...] = (
    (aime, 8),
    (amc, 3),
    (thousands, 2),
    (fraction, 5),
    (surd, 6),
    (constant, 4),
    (power, 2),
    (percent, 3),
    (scientific, 4),
    (based, 1),
    (complex_number, 2),
)
"""What makes items, and how often it is asked."""
