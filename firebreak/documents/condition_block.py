"""The condition block of severity trees, steps and recoveries, as it is written. What it must keep beyond its shape,
and what it becomes: `firebreak.documents.conditions`.

    errors_ratio:
      title: share of calls that fail
      dimension: errors                 # latency | errors | business | health
      query: sum(rate(http_requests_total{service=$service,code=~"5.."}[$window])) / ...
      op: ">="                          # > >= < <= == !=
      threshold: $errors_ratio          # a number, or $name of the thresholds
      for: $errors_for                  # a duration, or $name of the durations; default 0s
      inputs: ['http_requests_total{service=$service}']
      volume: {query: ..., at_least: 20}
      absent: zero                      # zero | not_applicable | inconclusive (default)
      stale_after: $stale_after

A block with `label` and `in` is a label condition, one with `score` the health score of row A2.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from firebreak.documents.fields import Block, Name, NumberOrName, Query, SpanOrName
from firebreak.domain.condition import Absence, Comparison, ConditionKind, Dimension


class VolumeBlock(Block):
    """Calls in the window; below `at_least` the condition does not apply (row A1: 20)."""

    query: Query = Field(description="PromQL: number of calls in the window, one value.")
    at_least: NumberOrName = Field(
        description="Calls below which the condition says nothing: a number, or $name of a threshold. With a `for` "
        "time, at each of its steps."
    )


class FlowBlock(Block):
    """One flow of the health score: share of success 0..1, and volume now / baseline. Each query should give nothing
    over too few calls (`... / (sum(increase(attempts[$window])) >= $min_calls)`), and `absent` say what that means."""

    weight: NumberOrName = Field(description="Share of this flow in the score, against the other flows' weights; >= 0.")
    success: Query = Field(description="PromQL: share of the flow's calls that succeed, 0 to 1, one value.")
    volume_ratio: Query = Field(
        description="PromQL: the flow's calls now / at the baseline, one value; 1 = as many as usual."
    )
    volume_weight: NumberOrName = Field(
        default=0.0,
        description="How much of the flow's share a total loss of its calls takes, 0 to 1; 0 = volume does not count.",
    )
    absent: Absence = Field(
        default=Absence.INCONCLUSIVE,
        description="What no value of one of the two queries means: `zero`, `not_applicable` (that query is left out) "
        "or `inconclusive` (the score cannot be said).",
    )


class ScoreBlock(Block):
    """The health score 0 to 100, low is bad: the flows' success and volume, by their weights."""

    flows: Annotated[dict[Name, FlowBlock], Field(min_length=1, max_length=50)] = Field(
        description="Flows by name; the score is the mean of their shares, by weight."
    )


class ConditionBlock(Block):
    """One condition as it is written. Exactly one of `query`, `label` and `score`."""

    dimension: Dimension = Field(
        description="What it measures. `health` (a part's own) is for runbooks: it never counts for a severity."
    )
    title: str = Field(default="", max_length=200, description="What it measures, in words for people.")
    unit: str = Field(default="", max_length=20, description="Unit of value and threshold, for people: ms, ratio.")
    query: Query | None = Field(
        default=None, description="PromQL that gives one value, which is compared with `threshold`."
    )
    op: Comparison | None = Field(
        default=None, description="The condition is true where value (of `query` or `score`), `op`, `threshold` is."
    )
    threshold: NumberOrName | None = Field(
        default=None, description="In `unit` (a score: points, 0 to 100): a number, or $name of a threshold."
    )
    for_: SpanOrName = Field(
        default=timedelta(0),
        alias="for",
        description="How long it must have compared without a break before it is true, read in steps of the duration "
        "`step`; a duration, or $name of one.",
    )
    inputs: tuple[Query, ...] = Field(
        default=(),
        description="Selectors whose newest sample's age is asked for, each by itself. A `query` needs one at least; a "
        "score without any takes those of its queries.",
    )
    volume: VolumeBlock | None = Field(default=None, description="Below how many calls it says nothing.")
    absent: Absence = Field(
        default=Absence.INCONCLUSIVE,
        description="What no value means, while the inputs report: `zero`, `not_applicable` or `inconclusive`.",
    )
    stale_after: SpanOrName = Field(
        default="$stale_after",
        description="A newest sample older than this is no evidence: inconclusive. A duration, or $name of one.",
    )
    label: str | None = Field(
        default=None, description="A label of the alert, in place of a query; in a runbook for `check` alone."
    )
    in_: tuple[str, ...] = Field(
        default=(), alias="in", description="Values of `label` with which the condition is true."
    )
    score: ScoreBlock | None = Field(
        default=None, description="The health score, 0 to 100, in place of a query; low is bad."
    )

    @property
    def kind(self) -> ConditionKind:
        if self.label is not None:
            return ConditionKind.LABEL
        return ConditionKind.SCORE if self.score is not None else ConditionKind.METRIC

    @model_validator(mode="after")
    def _one_kind(self) -> ConditionBlock:
        if sum(part is not None for part in (self.query, self.label, self.score)) != 1:
            raise ValueError("a condition has exactly one of `query`, `label` and `score`")
        given = self.model_fields_set
        if self.kind is ConditionKind.LABEL:
            unfit = given - {"dimension", "title", "label", "in_"}
            if unfit:
                raise ValueError(f"a label condition has no {', '.join(sorted(n.rstrip('_') for n in unfit))}")
            if not self.label or not self.in_:
                raise ValueError("a label condition needs `label` and at least one value `in`")
            return self
        if "in_" in given:
            raise ValueError("`in` belongs to label conditions")
        if self.op is None or self.threshold is None:
            raise ValueError("`op` and `threshold` are needed")
        if self.kind is ConditionKind.METRIC and not self.inputs:
            raise ValueError("`inputs` needs at least one selector whose newest sample's age is asked for")
        if self.kind is ConditionKind.SCORE and self.volume is not None:
            raise ValueError("a score has no `volume`: a flow's queries ask for calls enough (`>= $min_calls`)")
        return self
