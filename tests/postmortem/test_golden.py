"""Post-mortems of the stories, byte by byte. `FIREBREAK_WRITE_GOLDEN=1 pytest tests/postmortem` writes them anew."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import rfc8785

from firebreak.domain.timeline import TimelineEntry
from firebreak.postmortem.json_export import json_bytes
from firebreak.postmortem.markdown import markdown
from firebreak.postmortem.model import Report
from firebreak.postmortem.report import build
from firebreak.timeline.phases import phases_of

GOLDEN = Path(__file__).parent / "golden"
STORIES = ("healed", "paged", "nothing_done", "observe", "undone", "by_hand", "restored", "elsewhere")

Tell = Callable[..., tuple[TimelineEntry, ...]]


def report_of(entries: tuple[TimelineEntry, ...]) -> Report:
    return build(entries, phases=phases_of(entries))


def _compare(name: str, made: bytes) -> None:
    path = GOLDEN / name
    if os.environ.get("FIREBREAK_WRITE_GOLDEN") == "1":
        path.write_bytes(made)
    assert made.decode() == path.read_bytes().decode()


@pytest.mark.parametrize("story", STORIES)
def test_the_markdown_of_a_story_is_the_golden_file(tell: Tell, story: str) -> None:
    """What a person reads does not change unseen."""
    _compare(f"{story}.md", markdown(report_of(tell(story))).encode())


@pytest.mark.parametrize("story", STORIES)
def test_the_json_of_a_story_is_the_golden_file(tell: Tell, story: str) -> None:
    """What programs read does not change unseen."""
    _compare(f"{story}.json", json_bytes(report_of(tell(story))))


@pytest.mark.parametrize("story", STORIES)
def test_the_same_entries_give_the_same_bytes(tell: Tell, story: str) -> None:
    """Built twice from equal entries, nothing differs; JSON is canonical and names its schema."""
    first, second = report_of(tell(story)), report_of(tell(story))
    assert markdown(first) == markdown(second)
    assert json_bytes(first) == json_bytes(second)
    data = json.loads(json_bytes(first))
    assert data["schema"] == 1
    assert rfc8785.dumps(data) + b"\n" == json_bytes(first)
