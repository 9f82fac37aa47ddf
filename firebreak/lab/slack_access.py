"""What a Slack app may do: by the scopes of its token, and channel by channel.

A missing scope is told with `needed` and `provided` (slack-samples/javascript-announcement-bot#13); a channel that is
archived takes no message (`is_archived`) and lets none be edited (`is_inactive`), one that the app is no member of
neither takes nor shows any (`not_in_channel`). docs.slack.dev, each method's table of errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from firebreak.lab.slack_request import Refused

_SCOPES: Mapping[str, str] = {
    "chat.postMessage": "chat:write",
    "chat.update": "chat:write",
    "conversations.history": "channels:history",
    "conversations.replies": "channels:history",
}
_WHEN_ARCHIVED: Mapping[str, str] = {"chat.postMessage": "is_archived", "chat.update": "is_inactive"}
_MEMBERS_ONLY = ("chat.postMessage", "conversations.history", "conversations.replies")


@dataclass(slots=True)
class Access:
    """`scopes` of the token; ids of the channels that are `archived`, and of those that the app is `outside` of."""

    scopes: frozenset[str] = frozenset(_SCOPES.values())
    archived: frozenset[str] = field(default_factory=frozenset)
    outside: frozenset[str] = field(default_factory=frozenset)

    def check_scope(self, method: str) -> None:
        """Refused when the token lacks the scope that `method` needs."""
        needed = _SCOPES.get(method)
        if needed is not None and needed not in self.scopes:
            raise Refused("missing_scope", needed=needed, provided=",".join(sorted(self.scopes)))

    def check_channel(self, method: str, channel: str) -> None:
        """Refused when `method` may not be used on the channel with that id."""
        if channel in self.archived and method in _WHEN_ARCHIVED:
            raise Refused(_WHEN_ARCHIVED[method])
        if channel in self.outside and method in _MEMBERS_ONLY:
            raise Refused("not_in_channel")

    def change(self, wanted: Any, channels: frozenset[str]) -> None:
        """Set what `wanted` names: lists under `scopes`, `archived`, `outside`. ValueError for anything else."""
        known = {"scopes": frozenset(_SCOPES.values()), "archived": channels, "outside": channels}
        if not isinstance(wanted, dict) or not wanted.keys() <= known.keys():
            raise ValueError(f"an object with {', '.join(known)}")
        for name, values in wanted.items():
            if not isinstance(values, list) or not set(map(str, values)) <= known[name]:
                raise ValueError(f"{name} is a list of {', '.join(sorted(known[name]))}")
        for name, values in wanted.items():
            setattr(self, name, frozenset(values))
