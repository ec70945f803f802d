"""Numbers with units, as Minerva's questions have them: spelled as models spell them."""

from __future__ import annotations

import random

from items import Item, Maker

__all__ = ["MAKERS"]

_UNITS: tuple[tuple[str, ...], ...] = (
    (r"\text{ eV}", " eV", r"\,\mathrm{eV}", r"\ \mathrm{eV}"),
    (r"\text{ nm}", " nm", r"\,\text{nm}", " nanometers"),
    (r"\text{ Å}", " Å", r"\,\mathrm{\AA}", r"\,\text{\AA}", r" \AA", " angstroms"),
    (r"\,\mu\text{m}", r"\,\mu m", " µm", r"\text{ μm}", r"\,\mathrm{\mu m}", " microns"),
    (r"\text{ erg/s}", " erg/s", r"\,\mathrm{erg\,s^{-1}}", r"\text{ erg s}^{-1}", " ergs/s"),
    (r"\text{ pc}", " pc", r"\,\mathrm{pc}", " parsecs"),
    (r"\text{ AU}", " AU", r"\,\mathrm{AU}"),
    (r"\text{ kJ/mol}", " kJ/mol", r"\,\mathrm{kJ\,mol^{-1}}", r"\text{ kJ}\cdot\text{mol}^{-1}"),
    (r"\text{ MPa}", " MPa", r"\,\mathrm{MPa}", " megapascals"),
    (r"\,\Omega", r" \Omega", r"\ \Omega", " ohms", r"\text{ }\Omega"),
    (r"\text{ atm}", " atm", r"\,\mathrm{atm}"),
    (r"\text{ kHz}", " kHz", r"\,\mathrm{kHz}"),
    (r"\text{ ms}", " ms", r"\,\mathrm{ms}", " milliseconds"),
    (r"\text{ °C}", r"^\circ\text{C}", r"^{\circ}\mathrm{C}", " °C", r"\,^\circ C"),
    (r"\text{ m/s}^2", " m/s^2", r"\,\mathrm{m\,s^{-2}}", r"\,\mathrm{m/s^2}",
     r"\ \frac{\text{m}}{\text{s}^2}"),
    (r" L_\odot", r"\,L_{\odot}", r"\,\mathrm{L}_\odot"),
    (r" M_\odot", r"\,M_{\odot}", r"\ M_{\text{sun}}"),
    (r"\text{ kg m/s}", " kg m/s", r"\text{ kg}\cdot\text{m/s}",
     r"\,\mathrm{kg\cdot m\cdot s^{-1}}"),
    (r"\text{ g/cm}^3", " g/cm^3", r"\,\mathrm{g\,cm^{-3}}", r"\text{ g cm}^{-3}"),
    (r"\text{ V/m}", " V/m", r"\,\mathrm{V\,m^{-1}}"),
    (r"\text{ rad/s}", " rad/s", r"\,\mathrm{rad\,s^{-1}}"),
    (r"\text{ K}", " K", r"\,\mathrm{K}", " kelvin"),
    (r"\text{ Gauss}", " gauss", r"\,\mathrm{G}"),
    (r"\text{ J}\cdot\text{s}", " J s", r"\,\mathrm{J\cdot s}"),
    (r"\text{ W/m}^2", " W/m^2", r"\,\mathrm{W\,m^{-2}}", r"\text{ watts per square meter}"),
    (r"\text{ cm}^{-3}", " cm^{-3}", r"\,\mathrm{cm^{-3}}"),
    (r"\text{ N/C}", " N/C", r"\,\mathrm{N\,C^{-1}}", " newtons per coulomb"),
    (r"\text{ km s}^{-1}\text{ Mpc}^{-1}", " km/s/Mpc", r"\,\mathrm{km\,s^{-1}\,Mpc^{-1}}"),
    (r"\text{ light-years}", " light years", r"\,\mathrm{ly}"),
    (r"\text{ Torr}", " Torr", r"\,\mathrm{Torr}"),
    (r"\text{ mL/min}", " mL/min", r"\,\mathrm{mL\,min^{-1}}"),
    (r"\text{ mol/L}", " mol/L", r"\,\mathrm{mol\,L^{-1}}", " M"),
    (r"\text{ kcal/mol}", " kcal/mol", r"\,\mathrm{kcal\,mol^{-1}}"),
    (r"\text{ MeV}/c^2", r"\,\mathrm{MeV}/c^2", " MeV/c^2"),
    (r"\text{ arcseconds}", r"\,\mathrm{arcsec}", " arcsec"),
    (r"\text{ days}", " d", r"\,\mathrm{days}"),
    (r"\text{ dex}", " dex"),
    (r"\text{ bits}", " bits", r"\,\mathrm{bits}"),
    (r"\,R_\odot", r"\ R_{\odot}", r"\,R_{\oplus}"),
    (r"\text{ J/(kg·K)}", r"\,\mathrm{J/(kg\cdot K)}", r"\text{ J kg}^{-1}\text{ K}^{-1}"),
    (r"\text{ kWh}", " kWh", r"\,\mathrm{kWh}"),
    (r"\text{ hPa}", " hPa", r"\,\mathrm{hPa}"),
    (r"\,\mu\text{s}", " µs", r"\,\mathrm{\mu s}", " microseconds"),
    (r"\text{ N·s/m}", " N s/m", r"\,\mathrm{N\cdot s\cdot m^{-1}}"),
    (r"\text{ cal/(g·°C)}", r"\,\mathrm{cal\,g^{-1}\,^{\circ}C^{-1}}"),
    (r"\text{ rev/min}", " rev/min", r"\text{ revolutions per minute}"),
    (r"\text{ mg/dL}", " mg/dL", r"\,\mathrm{mg\,dL^{-1}}"),
    (r"\text{ lb/ft}^3", " lb/ft^3", r"\text{ pounds per cubic foot}"),
    (r"\text{ GeV}", " GeV", r"\,\mathrm{GeV}", " gigaelectronvolts"),
    (r"\text{ h}^{-1}", " h^{-1}", r"\text{ per hour}", r"\,\mathrm{hr^{-1}}"),
    (r"\text{ degrees Celsius}", " degrees Celsius"),
    (r"\text{ solar masses}", " solar masses"),
    (r"\text{ mas}", " mas", r"\,\mathrm{mas}"),
    (r"\text{ m}^2\text{/s}", " m^2/s", r"\ \text{m}^2\,\text{s}^{-1}"),
    (r"\text{ S/m}", " S/m", r"\,\mathrm{S\,m^{-1}}"),
    (r"\text{ T}\cdot\text{m}", " T m", r"\,\mathrm{T\cdot m}"),
    (r"\text{ photons/s}", " photons/s", r"\text{ photons per second}"),
    (r"\text{ cm}/\text{s}", " cm/s", r"\,\frac{\mathrm{cm}}{\mathrm{s}}"),
    (r"\text{ J}", " J", r"\,\mathrm{J}", " joules"),
    (r"\text{ mW}", " mW", r"\,\mathrm{mW}", " milliwatts"),
    (r"\text{ N·m}", " N m", r"\,\mathrm{N\,m}", r"\text{ newton-meters}"),
    (r"\text{ GHz}", " GHz", r"\,\mathrm{GHz}", " gigahertz"),
    (r"\text{ kg}", " kg", r"\,\mathrm{kg}", " kilograms"),
    (r"\text{ cm/s}^2", " cm/s^2", r"\,\mathrm{cm\,s^{-2}}", r"\text{ cm s}^{-2}"),
    (r"\text{ nF}", " nF", r"\,\mathrm{nF}", " nanofarads"),
    (r"\text{ C/m}^2", " C/m^2", r"\,\mathrm{C\,m^{-2}}", r"\text{ coulombs per square meter}"),
    (r"\text{ mol}", " mol", r"\,\mathrm{mol}", " moles"),
    (r"\text{ kV/m}", " kV/m", r"\,\mathrm{kV\,m^{-1}}", r"\text{ kilovolts per meter}"),
    (r"\text{ K/km}", " K/km", r"\,\mathrm{K\,km^{-1}}"),
    (r"\text{ mV}", " mV", r"\,\mathrm{mV}", " millivolts"),
    (r"\text{ L/s}", " L/s", r"\,\mathrm{L\,s^{-1}}", r"\text{ liters per second}"),
    (r"\text{ kcal}", " kcal", r"\,\mathrm{kcal}", " kilocalories"),
    (r"\text{ T}", " T", r"\,\mathrm{T}", " tesla"),
    (r"\text{ }\mu\text{C}", " µC", r"\,\mathrm{\mu C}", " microcoulombs"),
    (r"\text{ H}", " H", r"\,\mathrm{H}", " henries"),
    (r"\text{ Gpc}", " Gpc", r"\,\mathrm{Gpc}", " gigaparsecs"),
    (r"\text{ weeks}", " weeks", r"\,\mathrm{weeks}"),
    (r"\text{ kg}\cdot\text{m}^2", " kg m^2", r"\,\mathrm{kg\,m^2}", r"\,\mathrm{kg\cdot m^{2}}"),
    (r"\text{ J/K}", " J/K", r"\,\mathrm{J\,K^{-1}}", r"\text{ joules per kelvin}"),
    (r"\text{ N/m}", " N/m", r"\,\mathrm{N\cdot m^{-1}}", r"\ \text{N m}^{-1}"),
    (r"\text{ kW}", " kW", r"\,\mathrm{kW}", " kilowatts"),
    (r"\text{ cm}^2", " cm^2", r"\,\mathrm{cm^2}", r"\text{ square centimeters}"),
    (r"\text{ Pa}\cdot\text{s}", " Pa s", r"\,\mathrm{Pa\cdot s}"),
    (r"\text{ ft/s}", " ft/s", r"\,\mathrm{ft/s}", r"\text{ feet per second}"),
    (r"\text{ km/h}", " km/h", r"\,\mathrm{km\,h^{-1}}", r"\text{ kilometers per hour}"),
    (r"\text{ W/(m·K)}", r"\,\mathrm{W\,m^{-1}\,K^{-1}}", r"\,\mathrm{W/(m\cdot K)}"),
    (r"\text{ mA}", " mA", r"\,\mathrm{mA}", " milliamperes"),
    (r"\text{ pF}", " pF", r"\,\mathrm{pF}", " picofarads"),
    (r"\text{ g/mol}", " g/mol", r"\,\mathrm{g\,mol^{-1}}", r"\text{ grams per mole}"),
    (r"\text{ m}^3", " m^3", r"\,\mathrm{m^3}", r"\text{ cubic meters}"),
    (r"\text{ keV}", " keV", r"\,\mathrm{keV}"),
    (r"\text{ mm/s}", " mm/s", r"\ \mathrm{mm}/\mathrm{s}"),
    (r"\text{ years}", " yr", r"\,\mathrm{yr}", " years"),
    (r"\text{ Mpc}", " Mpc", r"\,\mathrm{Mpc}", " megaparsecs"),
    (r"\text{ μT}", r"\,\mu\text{T}", r"\,\mathrm{\mu T}", " microtesla"),
    (r"\text{ kg/m}^3", " kg/m^3", r"\,\mathrm{kg\,m^{-3}}", r"\ \mathrm{kg}/\mathrm{m}^3"),
)  # fmt: skip
"""Spellings of a unit."""

_HELD_OUT: tuple[tuple[str, ...], ...] = (
    (r"\text{ kN}", " kN", r"\,\mathrm{kN}", " kilonewtons"),
    (r"\text{ km}", " km", r"\,\mathrm{km}", " kilometers"),
    (r"\text{ m/s}", " m/s", r"\,\mathrm{m\,s^{-1}}", r"\text{ meters per second}",
     r"\ \text{m s}^{-1}"),
    (r"\text{ kPa}", " kPa", r"\,\mathrm{kPa}", " kilopascals"),
    (r"\text{ mm}", " mm", r"\,\mathrm{mm}", " millimeters"),
    (r"\text{ J/mol}", " J/mol", r"\,\mathrm{J\,mol^{-1}}", r"\text{ joules per mole}"),
    (r"\text{ GPa}", " GPa", r"\,\mathrm{GPa}", " gigapascals"),
    (r"\text{ W}", " W", r"\,\mathrm{W}", " watts"),
    (r"\text{ MHz}", " MHz", r"\,\mathrm{MHz}", " megahertz"),
    (r"\text{ kJ}", " kJ", r"\,\mathrm{kJ}", " kilojoules"),
    (r"\text{ m}^2", " m^2", r"\,\mathrm{m^2}", r"\text{ square meters}"),
    (r"\text{ hours}", " h", r"\,\mathrm{h}", " hours"),
    (r"\text{ g/mL}", " g/mL", r"\,\mathrm{g\,mL^{-1}}", r"\text{ grams per milliliter}"),
    (r"\text{ μA}", " µA", r"\,\mathrm{\mu A}", " microamperes"),
    (r"\text{ V}", " V", r"\,\mathrm{V}", " volts"),
)  # fmt: skip
"""Spellings of units that the verifier was not mended on."""


def measured(rng: random.Random) -> Item:
    """A number, or a formula, and the unit that the question asks for."""
    digits = rng.randint(100, 9999)
    value = digits / 100
    written = f"{value:g}"
    high = rng.choice((0, 0, 0, 5, 8, -7, -10, 33))
    if high:
        value *= 10.0**high
        gold, written = f"{written}e{high}", rf"{written}\times 10^{{{high}}}"
    else:
        gold = written
    item = Item("Minerva", "unit", gold, frozenset({(value,)}))
    for spellings, is_held_out in ((rng.choice(_UNITS), False), (rng.choice(_HELD_OUT), True)):
        family = "unit left out" + (" (other units)" if is_held_out else "")
        some = rng.sample(spellings, min(3, len(spellings)))
        item.same(family, *(written + unit for unit in some), held_out=is_held_out)
        unit = rng.choice(spellings)
        item.miss(
            "other number with unit",
            f"{(digits + 1) / 100:g}{unit}"
            if not high
            else rf"{(digits + 1) / 100:g}\times 10^{{{high}}}{unit}",
            held_out=is_held_out,
        )
        item.miss(
            "other power with unit",
            rf"{digits / 100:g}\times 10^{{{high + 1}}}{unit}",
            held_out=is_held_out,
        )
    return item


def compared(rng: random.Random) -> Item:
    """A number with its unit, which must be the same in another spelling."""
    is_held_out = rng.random() < 0.3
    units = _HELD_OUT if is_held_out else _UNITS
    at = rng.randrange(len(units))
    value = rng.randint(2, 999) / rng.choice((1, 10, 100))
    first, *others = rng.sample(units[at], len(units[at]))
    item = Item("Minerva", "unit in gold", f"{value:g}{first}", frozenset({(value, at + 7e5)}))
    family = "unit spelled" + (" (other units)" if is_held_out else "")
    if first != r"\,R_{\oplus}" and r"\,R_{\oplus}" not in others:
        item.same(family, *(f"{value:g}{unit}" for unit in others[:3]), held_out=is_held_out)
    item.same("gold's unit left out", f"{value:g}", held_out=is_held_out)
    item.miss("other number with unit", f"{value + 1:g}{rng.choice(others)}", held_out=is_held_out)
    wrong = rng.choice(
        [unit for index, unit in enumerate(_UNITS) if units is not _UNITS or index != at]
    )
    item.miss("other unit", *(f"{value:g}{unit}" for unit in wrong[:2]), held_out=is_held_out)
    return item


MAKERS: tuple[tuple[Maker, int], ...] = ((measured, 7), (compared, 5))
"""What makes items, and how often it is asked."""
