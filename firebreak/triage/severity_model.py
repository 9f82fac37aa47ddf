"""The severity document as it is written. What it must keep beyond its shape: `firebreak.triage.tree`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from firebreak.documents.condition_block import ConditionBlock
from firebreak.documents.fields import Block, Name, Number, Span


def _shape(value: Any) -> str:
    return "name" if isinstance(value, str) else "node"


class NodeBlock(Block):
    """`{all: [...]}`, `{any: [...]}` or `{at_least: n, of: [...]}`."""

    all: tuple[NodeRef, ...] | None = Field(default=None, min_length=1)
    any: tuple[NodeRef, ...] | None = Field(default=None, min_length=1)
    at_least: int | None = Field(default=None, ge=1)
    of: tuple[NodeRef, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_operator(self) -> NodeBlock:
        if sum(part is not None for part in (self.all, self.any, self.at_least)) != 1:
            raise ValueError("a node has exactly one of `all`, `any` and `at_least`")
        if (self.at_least is None) != (self.of is None):
            raise ValueError("`at_least` and `of` go together")
        if self.of is not None and (self.at_least or 0) > len(self.of):
            raise ValueError(f"at_least {self.at_least} of {len(self.of)} can never be true")
        return self


NodeRef = Annotated[Annotated[Name, Tag("name")] | Annotated[NodeBlock, Tag("node")], Discriminator(_shape)]


class MayActBlock(Block):
    """How many independent dimensions must hold before the engine acts without a person (row A1: 2)."""

    dimensions: int = Field(default=2, ge=1, le=3)


class SeverityModel(Block):
    """A severity document as it is written. `params` are service parameters that its queries use as `$name`."""

    kind: Literal["severity"]
    name: Name
    summary: str = ""
    params: tuple[Name, ...] = ()
    durations: dict[Name, Span]
    thresholds: dict[Name, Number] = Field(default_factory=dict)
    conditions: dict[Name, ConditionBlock] = Field(min_length=1)
    tree: NodeRef
    may_act: MayActBlock = MayActBlock()


NodeBlock.model_rebuild()
SeverityModel.model_rebuild()
