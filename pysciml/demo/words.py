"""What was found, in words and tables."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

import torch

from pysciml.demo.findings import Findings
from pysciml.demo.fitting import FIT_YEARS, NAMES, SIDES
from pysciml.demo.models import DTYPE

SIGNS = (1.0, -1.0)  # hares grow, lynx die
MODELS = ("Lotka-Volterra", "network", "recovered law")
_CAVEATS = (
    "The formula holds where the curve has been. No year was without lynx or without hares, so what the two rates are "
    "is extrapolation, and they trade with the terms beside them.",
    "Weight decay prefers simple networks, and the simplest interaction is H L. So H L is enough for these 32 numbers; "
    "that nothing else could be is not shown.",
    "Percentages and intervals know the scatter of the data about the fit. They do not know what pelts leave out: "
    "trappers, prices, other food.",
)


def report(found: Findings) -> str:
    """The result in words and numbers."""
    parts = [error_table(found), "\n".join(_formulas(found)), "\n".join(_coefficients(found))]
    return "\n\n".join(
        [*parts, "What to make of it:", *map(_bullet, [_of_the_product(found), *_of_the_forecast(found), *_CAVEATS])]
    )


def error_table(found: Findings) -> str:
    """Root mean square errors of all forecasts, in pelts and as factors."""
    rows = [
        f"{'Root mean square error':<22}  {'thousand pelts':^20}  {'typical factor':^20}",
        f"{'':<22}" + f"  {'1900-15':>9}  {'1916-20':>9}" * 2,
    ]
    for name, (past, future, log_past, log_future) in found.errors().items():
        fitted = (f"{past:.1f}", f"{math.exp(log_past):.2f}") if name in MODELS else ("-", "-")
        cells = (fitted[0], f"{future:.1f}", fitted[1], f"{math.exp(log_future):.2f}")
        rows.append(f"{name:<22}  " + "  ".join(f"{cell:>9}" for cell in cells))
    return "\n".join(rows)


def _formulas(found: Findings) -> Iterator[str]:
    yield "What the network has learned, as a formula:"
    for i, (name, rate) in enumerate(zip(NAMES, found.network.model.rates.tolist(), strict=True)):
        right = found.law.equations[i].split(" = ")[1]
        signed = f"- {right[1:]}" if right.startswith("-") else f"+ {right}"
        formula = f"d{name}/dt = {SIGNS[i] * rate:.3g} {name} {signed}"
        yield f"    {formula:<44}  R² of the interaction {float(found.law.r2[i]):.3f}"


def _coefficients(found: Findings) -> Iterator[str]:
    """The table of all terms that are in a formula, or in a tenth of the refits."""
    yield f"{'':<15}{'by the network':>14}  {'kept in':>8}  {'by the data':>12}  95% interval, the formula given"
    fitted, refits = found.law_fit.model, [one.model for one in found.law_again]
    coefficients = torch.stack([model.coefficients for model in refits])
    for i, side in enumerate(SIDES):
        rates = SIGNS[i] * torch.stack([model.rates[i] for model in refits])
        by_data = SIGNS[i] * float(fitted.rates[i])
        yield _row(side, NAMES[i], SIGNS[i] * float(found.network.model.rates[i]), "(known)", by_data, rates)
        for j, term in enumerate(found.law.terms):
            value, _, _, inclusion = found.law.coefficient(i, term)
            if value or inclusion >= 0.1:
                by_data = float(fitted.coefficients[i, j])
                yield _row(side, term, value, f"{inclusion:.0%}", by_data, coefficients[:, i, j])


def _row(side: str, term: str, by_network: float, kept: str, by_data: float, refits: torch.Tensor) -> str:
    shown = [f"{x:.4f}" if x else "-" for x in (by_network, by_data)]
    low, high = refits.quantile(torch.tensor([0.025, 0.975], dtype=DTYPE)).tolist()
    spread = f"[{low:.4f}, {high:.4f}]" if by_data else ""
    return f"{side:<8}{term:<7}{shown[0]:>14}  {kept:>8}  {shown[1]:>12}  {spread}".rstrip()


def _of_the_product(found: Findings) -> str:
    law = found.law
    product = [law.coefficient(i, "H L") for i in range(2)]
    if not all(p[0] for p in product):
        return "H L is not in both formulas: the network did not learn that gains and losses go with encounters."
    expected = product[0][0] < 0 < product[1][0]
    text = f"H L is in both formulas, {'' if expected else 'not '}with the signs of a predator and its prey, and in "
    kept = min(p[3] for p in product)
    text += "every refit." if kept == 1 else f"at least {kept:.0%} of the refits."
    others = [
        f"{term} for the {side} ({law.coefficient(i, term)[3]:.0%})"
        for i, side in enumerate(SIDES)
        for term in law.terms
        if term != "H L" and law.coefficient(i, term)[3] >= 0.1
    ]
    return text + (f" Less sure: {', '.join(others)}." if others else " No other term is in a tenth of them.")


def _of_the_forecast(found: Findings) -> Iterator[str]:
    errors = found.errors()
    (past, future, *_), (past_lv, future_lv, *_) = errors["network"], errors["Lotka-Volterra"]
    better = ["better" if a < b else "worse" for a, b in ((past, past_lv), (future, future_lv))]
    yield (
        f"The network fits the known years {better[0]} than Lotka-Volterra ({past:.1f} against {past_lv:.1f} thousand "
        f"pelts), and forecasts the held-out ones {better[1]} ({future:.1f} against {future_lv:.1f}; "
        f"{errors['as ten years before'][1]:.1f} for the years ten years before)."
    )
    low, high = found.network_band(found.data.t)
    inside = ((found.data.source.pelts >= low) & (found.data.source.pelts <= high))[FIT_YEARS:]
    yield (
        f"Of the {inside.numel()} held-out numbers {int(inside.sum())} lie within the 90% band of the refits: it says "
        "how unsure the curve is if the model is right, and knows neither the scatter of single years nor the "
        "model's error."
    )


def _bullet(text: str) -> str:
    return textwrap.fill(text, 110, initial_indent="  * ", subsequent_indent="    ")
