"""The policy document: what a house sets for all its severity trees and runbooks.

kind: policy
name: default
durations: {window: 2m}             # override those of severity documents and runbooks
thresholds: {p99_ms: 3000}
baseline: {offset: 7d}              # or {at: 2026-11-21T08:00:00Z}
trusted_labels: [{label: business_impact, in: [blocked]}]
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from firebreak.documents.durations import promql_duration
from firebreak.documents.fields import Block, Name, Number, Span
from firebreak.documents.yaml_file import Finding, YamlDocument, load_yaml, refuse, validate
from firebreak.domain.codec import parse_time
from firebreak.domain.errors import PolicyInvalid, Problem


def _time(value: Any) -> Any:
    if isinstance(value, str):
        return parse_time(value)
    raise ValueError(f"{value!r} is not a time: write it like 2026-11-21T08:00:00Z")


Time = Annotated[datetime, BeforeValidator(_time), WithJsonSchema({"type": "string", "format": "date-time"})]


class BaselineBlock(Block):
    """What `$baseline` compares with: the same time some days ago, or one fixed time. Exactly one."""

    offset: Span | None = None
    at: Time | None = None

    @model_validator(mode="after")
    def _one(self) -> BaselineBlock:
        if (self.offset is None) == (self.at is None):
            raise ValueError("a baseline has exactly one of `offset` and `at`")
        if self.offset is not None and self.offset <= timedelta(0):
            raise ValueError("a baseline's offset must be longer than nothing")
        return self

    @property
    def promql(self) -> str:
        """` offset 7d`, or ` @ 1763712000` in whole milliseconds of Unix time."""
        if self.at is not None:
            return f" @ {self.at.timestamp():.3f}".removesuffix(".000")
        return f" offset {promql_duration(self.offset or timedelta(days=7))}"


class TrustedLabelBlock(Block):
    label: str = Field(min_length=1)
    in_: tuple[str, ...] = Field(alias="in", min_length=1)


class PolicyModel(Block):
    """A policy document as it is written."""

    kind: Literal["policy"]
    name: Name
    summary: str = ""
    durations: dict[Name, Span] = Field(default_factory=dict)
    thresholds: dict[Name, Number] = Field(default_factory=dict)
    baseline: BaselineBlock = BaselineBlock(offset=timedelta(days=7))
    trusted_labels: tuple[TrustedLabelBlock, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedLabel:
    """An alert label whose word is enough to act on a P1 without a second dimension (row A1)."""

    label: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy ready for use. `baseline` is PromQL; `digest` the SHA-256 (hex) of the file's bytes."""

    name: str
    source: str
    digest: str
    durations: Mapping[str, timedelta]
    thresholds: Mapping[str, float]
    baseline: str
    trusted_labels: tuple[TrustedLabel, ...]
    document: YamlDocument = field(repr=False, compare=False)


def load_policy(data: bytes, source: str) -> Policy:
    """PolicyInvalid with file, line and column of everything wrong."""
    document = load_yaml(data, source, error=PolicyInvalid)
    model = validate(document, PolicyModel, error=PolicyInvalid)
    findings = [
        Finding(("durations", name), "a duration must be longer than nothing")
        for name, span in model.durations.items()
        if span <= timedelta(0)
    ]
    if findings:
        raise refuse(document.problems(findings), PolicyInvalid)
    return Policy(
        name=model.name,
        source=source,
        digest=document.digest,
        durations=dict(model.durations),
        thresholds=dict(model.thresholds),
        baseline=model.baseline.promql,
        trusted_labels=tuple(TrustedLabel(label=t.label, values=t.in_) for t in model.trusted_labels),
        document=document,
    )


def unused_overrides(policy: Policy, *, durations: Collection[str], thresholds: Collection[str]) -> tuple[Problem, ...]:
    """Names that the policy sets and no document of the house uses: most often a slip of the pen. For the linter, which
    knows all documents."""
    findings = [
        Finding((kind, name), f"no severity document and no runbook has a {kind[:-1]} {name!r}", on_key=True)
        for kind, given, known in (
            ("durations", policy.durations, durations),
            ("thresholds", policy.thresholds, thresholds),
        )
        for name in given
        if name not in known
    ]
    return policy.document.problems(findings)
