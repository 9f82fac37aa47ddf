"""Statistics and tables of the benchmark. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def quantile(values: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` (0..1) of all values do not exceed. No interpolation, so
    a tail is never told smaller than a value that was seen. ValueError without values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, quartiles and extremes of one figure over the rounds."""

    median: float
    low_quarter: float
    high_quarter: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """ValueError without values."""
        if not values:
            raise ValueError("no values")
        return cls(
            statistics.median(values),
            quantile(values, 0.25),
            quantile(values, 0.75),
            min(values),
            max(values),
            len(values),
        )

    def told(self, digits: int = 1) -> str:
        """`12.3 (11.9-12.8; 11.2-14.0)`: median, quartiles, extremes."""
        texts = [f"{v:.{digits}f}" for v in (self.low_quarter, self.high_quarter, self.least, self.most)]
        return f"{self.median:.{digits}f} ({texts[0]}-{texts[1]}; {texts[2]}-{texts[3]})"


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Round by round: what a noisy minute does to both sides cancels out. ValueError for different lengths."""
    return [a / b for a, b in zip(of, to, strict=True)]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, readable in a terminal, too."""
    widths = [max(len(str(row[i])) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *(line(row) for row in rows)])


def replaced(text: str, block: str, content: str) -> str:
    """`text` with what stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` replaced. ValueError when the
    marks are not there exactly once."""
    begin, end = f"<!-- bench:{block} -->", f"<!-- /bench:{block} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the marks of block {block} are not there exactly once")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content.strip()}\n{end}{rest.split(end)[1]}"
