"""The rules of a runbook that need the actions: every step that writes says check, verify, and the way back.

`load_runbook` has seen the rest already. The specs are given by the caller: this room knows no action's code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from firebreak.documents.policy import Policy
from firebreak.documents.yaml_file import Finding
from firebreak.documents.yaml_nodes import NodePath
from firebreak.domain.action import ActionSpec
from firebreak.domain.errors import Problem
from firebreak.domain.plan import UndoRule
from firebreak.plans.model import FixedTarget, StepBlock
from firebreak.plans.parts import steps_of
from firebreak.plans.rules import hint
from firebreak.plans.runbook import Runbook
from firebreak.plans.times import timings


def lint_runbook(
    runbook: Runbook, specs: Mapping[str, ActionSpec], *, policy: Policy | None = None
) -> tuple[Problem, ...]:
    """Everything wrong with the steps, in order of the file; empty when the runbook may be used. With a `policy`, its
    times are judged as they will be in force."""
    findings = [f for path, step in steps_of(runbook.model) for f in _step(path, step, specs)]
    if policy is not None:
        findings += [
            replace(f, message=f"with the durations of policy {policy.source}, {f.message}")
            for f in timings(runbook.model, policy.durations)
        ]
    return runbook.document.problems(findings)


def _step(path: NodePath, step: StepBlock, specs: Mapping[str, ActionSpec]) -> Iterator[Finding]:
    spec = specs.get(step.action)
    if spec is None:
        yield Finding((*path, "action"), f"unknown action {step.action!r}{hint(step.action, specs)}")
        return
    for problem in spec.validate(step.params):
        where = (*path, "params", *problem.path)
        yield Finding(where, problem.message, on_key=len(problem.path) == 1 and problem.path[0] in step.params)
    if isinstance(step.target, FixedTarget) and spec.target_kinds:
        kinds = sorted(kind.kind for kind in spec.target_kinds)
        if step.target.kind not in kinds:
            told = f"{step.action} cannot be aimed at a {step.target.kind}: only at a {' or '.join(kinds)}"
            yield Finding((*path, "target", "kind"), told)
    yield from _mutating(path, step, spec) if spec.mutates else _harmless(path, step)


def _mutating(path: NodePath, step: StepBlock, spec: ActionSpec) -> Iterator[Finding]:
    if step.check is None:
        yield Finding(
            path, f"step {step.id!r} writes and has no `check`: name conditions, or `check: action` for its own alone"
        )
    if step.verify is None:
        yield Finding(path, f"step {step.id!r} writes and has no `verify`: nobody would know whether it healed")
    if step.undo is None:
        yield Finding(path, f"step {step.id!r} writes and has no `undo`: `action`, or `none` with an undo_reason")
    if step.undo is UndoRule.NONE and not step.undo_reason.strip():
        yield Finding((*path, "undo"), "`undo: none` needs an undo_reason: why is it fine that this stays?")
    if step.undo is UndoRule.BY_ACTION and step.undo_reason:
        yield Finding((*path, "undo_reason"), "undo_reason belongs to `undo: none`", on_key=True)
    if spec.reversible:
        if step.undo is UndoRule.BY_ACTION and step.restore is None:
            yield Finding(
                path,
                f"step {step.id!r} leaves a lasting change and has no `restore`: when is it taken back, by what "
                "evidence of the broken part itself?",
            )
        return
    if step.undo is UndoRule.BY_ACTION:
        yield Finding((*path, "undo"), f"{spec.name} cannot be undone ({spec.irreversible_reason}): write `undo: none`")
    if step.restore is not None:
        yield Finding(
            (*path, "restore"),
            f"{spec.name} cannot be taken back ({spec.irreversible_reason}): no restore",
            on_key=True,
        )


def _harmless(path: NodePath, step: StepBlock) -> Iterator[Finding]:
    given: dict[str, object] = {"check": step.check, "verify": step.verify, "undo": step.undo, "restore": step.restore}
    given |= {"undo_reason": step.undo_reason or None, "approval": step.approval or None}
    for key, value in given.items():
        if value is not None:
            yield Finding((*path, key), f"{step.action} writes nothing: it has no `{key}`", on_key=True)
