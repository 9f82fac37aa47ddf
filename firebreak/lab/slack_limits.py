"""What Slack refuses in a message's blocks, and how many calls it takes. Figures: docs.slack.dev, Block Kit reference
and "Rate limits"; the total of all text is undocumented, about 13,200 characters (slackapi/bolt-js#2509). Written down
here on purpose, not shared with the connector.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_BLOCKS = 50
MAX_ALL_TEXT = 13_200
_MAX_ID = 255

_PLAIN = ("plain_text",)
_BOTH = ("plain_text", "mrkdwn")


@dataclass(slots=True)
class Allowance:
    """Calls that may come at once: `burst` at most, and `rate` more a second. `left` = now."""

    burst: float
    rate: float
    left: float = field(init=False)
    counted_at: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.left = self.burst

    def spend(self) -> bool:
        """Take one call off; False when there is none left."""
        now = time.monotonic()
        self.left = min(self.burst, self.left + (now - self.counted_at) * self.rate)
        self.counted_at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


def block_errors(blocks: Any) -> list[str]:
    """What is wrong with `blocks`, in the style of Slack's response_metadata; empty = nothing."""
    if not isinstance(blocks, list):
        return ["[ERROR] must be an array [json-pointer:/blocks]"]
    errors = []
    if len(blocks) > MAX_BLOCKS:
        errors.append(f"[ERROR] no more than {MAX_BLOCKS} items allowed [json-pointer:/blocks]")
    ids: set[str] = set()
    for number, block in enumerate(blocks):
        where = f"/blocks/{number}"
        if not isinstance(block, dict):
            errors.append(f"[ERROR] must be an object [json-pointer:{where}]")
            continue
        check = _CHECKS.get(str(block.get("type")))
        if check is None:
            errors.append(f"[ERROR] unsupported type: {block.get('type')} [json-pointer:{where}/type]")
            continue
        errors += check(block, where)
        identity = block.get("block_id")
        if identity is not None:
            if not isinstance(identity, str) or len(identity) > _MAX_ID:
                errors.append(f"[ERROR] must be less than {_MAX_ID + 1} characters [json-pointer:{where}/block_id]")
            elif identity in ids:
                errors.append(f"[ERROR] `block_id` {identity} already exists [json-pointer:{where}/block_id]")
            else:
                ids.add(identity)
    return errors


def all_text(value: Any) -> int:
    """Characters in every `text` below `value`: what the undocumented total counts."""
    if isinstance(value, dict):
        own = len(value["text"]) if isinstance(value.get("text"), str) else 0
        return own + sum(all_text(item) for item in value.values())
    return sum(all_text(item) for item in value) if isinstance(value, list) else 0


def _text(value: Any, limit: int, kinds: tuple[str, ...], where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"[ERROR] must be a text object [json-pointer:{where}]"
        return
    if value.get("type") not in kinds:
        yield f"[ERROR] must be one of {', '.join(kinds)} [json-pointer:{where}/type]"
    text = value.get("text")
    if not isinstance(text, str) or not text:
        yield f"[ERROR] must be more than 0 characters [json-pointer:{where}/text]"
    elif len(text) > limit:
        yield f"[ERROR] must be less than {limit + 1} characters [json-pointer:{where}/text]"


def _array(value: Any, limit: int, where: str) -> list[str]:
    if not isinstance(value, list) or not value:
        return [f"[ERROR] must be a non-empty array [json-pointer:{where}]"]
    if len(value) > limit:
        return [f"[ERROR] no more than {limit} items allowed [json-pointer:{where}]"]
    return []


def _section(block: Mapping[str, Any], where: str) -> list[str]:
    errors: list[str] = []
    if "text" in block:
        errors += _text(block["text"], 3000, _BOTH, f"{where}/text")
    if "fields" in block:
        errors += _array(block["fields"], 10, f"{where}/fields")
        if not errors:
            for number, item in enumerate(block["fields"]):
                errors += _text(item, 2000, _BOTH, f"{where}/fields/{number}")
    if "text" not in block and "fields" not in block:
        errors.append(f"[ERROR] missing required field: text [json-pointer:{where}]")
    return errors


def _header(block: Mapping[str, Any], where: str) -> list[str]:
    return list(_text(block.get("text"), 150, _PLAIN, f"{where}/text"))


def _context(block: Mapping[str, Any], where: str) -> list[str]:
    errors = _array(block.get("elements"), 10, f"{where}/elements")
    if not errors:
        for number, item in enumerate(block["elements"]):
            if not (isinstance(item, dict) and item.get("type") == "image"):
                errors += _text(item, 3000, _BOTH, f"{where}/elements/{number}")
    return errors


def _actions(block: Mapping[str, Any], where: str) -> list[str]:
    errors = _array(block.get("elements"), 25, f"{where}/elements")
    if not errors:
        for number, item in enumerate(block["elements"]):
            at = f"{where}/elements/{number}"
            if not isinstance(item, dict) or item.get("type") != "button":
                errors.append(f"[ERROR] the lab knows buttons only [json-pointer:{at}/type]")
                continue
            errors += _text(item.get("text"), 75, _PLAIN, f"{at}/text")
            for name, limit in (("value", 2000), ("action_id", _MAX_ID), ("url", 3000)):
                if len(str(item.get(name, ""))) > limit:
                    errors.append(f"[ERROR] must be less than {limit + 1} characters [json-pointer:{at}/{name}]")
    return errors


def _markdown(block: Mapping[str, Any], where: str) -> list[str]:
    text = block.get("text")
    if not isinstance(text, str) or not text:
        return [f"[ERROR] must be more than 0 characters [json-pointer:{where}/text]"]
    return [f"[ERROR] must be less than 12001 characters [json-pointer:{where}/text]"] if len(text) > 12_000 else []


def _nothing(_: Mapping[str, Any], __: str) -> list[str]:
    return []


_CHECKS = {
    "section": _section,
    "header": _header,
    "context": _context,
    "actions": _actions,
    "markdown": _markdown,
    "divider": _nothing,
}
