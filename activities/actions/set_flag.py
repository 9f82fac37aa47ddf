"""Set one key of a ConfigMap: turn an optional feature off, or any other switch that the application reads there.

Use when a dependency is dead that the service can do without. Useless where nobody reads the key; pods see it after the
kubelet's delay (about a minute when it is mounted). Undo puts the old value back, or removes the key that was created.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from activities.actions.base import Action
from activities.actions.proposal import ActionParams, Proposal, already_so, refused
from activities.fields import canonical, field_path
from firebreak.domain.access import rights
from firebreak.domain.action import CheckResult, FieldChange, StepContext
from firebreak.domain.target import ResourceKind, TargetRef

LONGEST_VALUE = 16 * 1024  # characters; the value of before is kept in the timeline, so that it can be put back


class SetFlag(Action):
    name = "set_flag"
    rights = rights(ResourceKind.CONFIG_MAP, "get", "patch", named_by="config_map")

    class Params(ActionParams):
        """Which key of which ConfigMap, and its new value."""

        config_map: str = Field(min_length=1, max_length=253, description="Name of the ConfigMap.")
        key: str = Field(pattern=r"^[-._a-zA-Z0-9]{1,253}$", description="Key within its `data`.")
        value: str = Field(max_length=LONGEST_VALUE, description='New value; text, so write "false" with its quotes.')
        namespace: str | None = Field(
            default=None, min_length=1, max_length=63, description="Namespace of the ConfigMap. Unset: the target's."
        )
        allow_create: bool = Field(default=False, description="Create the key when it is not there.")

    async def propose(self, params: Any, context: StepContext) -> Proposal | CheckResult:
        ref = TargetRef(
            cluster=context.default_target.cluster,
            namespace=params.namespace or context.default_target.namespace,
            kind=ResourceKind.CONFIG_MAP,
            name=params.config_map,
        )
        obj = await self.cluster.get(ref, timeout=self.call_timeout)
        before = (obj.get("data") or {}).get(params.key)
        if obj.get("immutable"):
            return refused(f"{ref.text} is immutable", ref=ref, obj=obj)
        if params.key in (obj.get("binaryData") or {}):
            return refused(f"key {params.key} of {ref.text} is binary", ref=ref, obj=obj)
        if before is None and not params.allow_create:
            return refused(f"{ref.text} has no key {params.key} (and allow_create is off)", ref=ref, obj=obj)
        if before == params.value:
            return already_so(f"key {params.key} of {ref.text} has that value already", ref, obj)
        if before is not None and len(before) > LONGEST_VALUE:
            reason = f"key {params.key} of {ref.text} is a whole file of {len(before)} characters, and no flag"
            return refused(reason, ref=ref, obj=obj)
        path = field_path("data", params.key)
        return Proposal(
            ref=ref,
            obj=obj,
            changes=(FieldChange(path=path, before=canonical(before), after=canonical(params.value)),),
            reason=f"{params.key} of {ref.text} becomes {params.value!r}",
        )
