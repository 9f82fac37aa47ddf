"""The business health score of row A2: 0 to 100, *low is bad*; a P1 at 70 or below.

    health = 100 * sum(weight_i * factor_i) / sum(weight_i)
    factor_i = success_i * (1 - volume_weight_i * fall_i)        fall_i = 1 - min(1, volume now / baseline)

`success_i` is the share of a flow's calls that succeed (0..1, clamped: rates of two counters can pass 1 by a hair).
A flow without calls enough to judge their success (none at all, say) counts by its volume alone, so that a loss of all
its calls leaves 1 - volume_weight of its share; calls above the baseline never raise the score.
Weights are configuration (thresholds and weights of policy and services); every factor is in the result's reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from firebreak.domain.condition import Absence, ScoreFlow

Reading = Callable[[str], float | None]
"""Value of an expression at one time; None = no value."""


@dataclass(frozen=True, slots=True)
class Score:
    """`value` is None when it cannot be said; then `why` says what is missing. `applies` is False when every flow was
    left out. `factors` has one sentence a flow."""

    value: float | None
    factors: tuple[str, ...] = ()
    why: str = ""
    applies: bool = True


def health_score(flows: tuple[ScoreFlow, ...], read: Reading) -> Score:
    """The score at the time that `read` reads at. NaN is never a factor."""
    total = weights = 0.0
    factors: list[str] = []
    for flow in flows:
        success, fall, judged, why = _factors(flow, read)
        if why:
            return Score(None, tuple(factors), why)
        if success is None:
            factors.append(f"{flow.name}: too few calls, left out")
            continue
        share = success * (1 - flow.volume_weight * (fall or 0.0))
        total += flow.weight * share
        weights += flow.weight
        drop = "no baseline for its volume" if fall is None else f"volume down {fall:.0%}"
        told = f"success {success:.1%}" if judged else "too few calls to judge their success"
        factors.append(f"{flow.name}: {told}, {drop}, weight {flow.weight:g}")
    if weights <= 0:
        return Score(None, tuple(factors), "no flow has calls enough", applies=False)
    # What is 70 by hand is 70: a part in 10^16 too much, as floats have it, would be another verdict.
    return Score(round(100 * total / weights, 9), tuple(factors))


def _factors(flow: ScoreFlow, read: Reading) -> tuple[float | None, float | None, bool, str]:
    """(success, fall of volume, whether success was measured, why not): None, where the flow's absence rule says that
    it does not apply."""
    values: list[float | None] = []
    for what, query in (("success", flow.success_query), ("volume", flow.volume_ratio_query)):
        value = read(query)
        if value is None and flow.absence is Absence.ZERO:
            value = 0.0
        if value is None and flow.absence is Absence.INCONCLUSIVE:
            return None, None, False, f"{flow.name} has no {what}"
        if value is not None and math.isnan(value):
            return None, None, False, f"{what} of {flow.name} is NaN"
        values.append(value)
    success, ratio = values
    judged = success is not None
    if success is None and ratio is not None and ratio < 1:
        success = 1.0  # too few calls to say how they end: its volume says what is missing
    if success is not None:
        success = min(1.0, max(0.0, success))
    return success, None if ratio is None else 1 - min(1.0, max(0.0, ratio)), judged, ""
