"""The parts of a runbook that its rules look at, each with its path in the document."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.yaml_nodes import NodePath
from firebreak.plans.model import RestoreBlock, RunbookModel, StepBlock, VerifyBlock


def steps_of(model: RunbookModel) -> Iterator[tuple[NodePath, StepBlock]]:
    """Every step with its path in the document."""
    for t, tier in enumerate(model.tiers):
        for s, step in enumerate(tier.steps):
            yield ("tiers", t, "steps", s), step


def queries_of(block: ConditionBlock) -> Iterator[tuple[NodePath, str]]:
    """Every query template of a condition with its path in the block."""
    if block.query is not None:
        yield ("query",), block.query
    for index, selector in enumerate(block.inputs):
        yield ("inputs", index), selector
    if block.volume is not None:
        yield ("volume", "query"), block.volume.query
    for name, flow in (block.score.flows if block.score else {}).items():
        yield ("score", "flows", name, "success"), flow.success
        yield ("score", "flows", name, "volume_ratio"), flow.volume_ratio


def watches(model: RunbookModel) -> Iterator[tuple[NodePath, VerifyBlock | RestoreBlock, timedelta | str]]:
    """Every verification and restore, with its settling time."""
    for path, step in steps_of(model):
        if step.verify is not None:
            yield (*path, "verify"), step.verify, step.verify.settle
        if step.restore is not None:
            yield (*path, "restore"), step.restore, timedelta(0)
