"""Bad alerts, from the HTTP body to the person who is called. What the gateway alone refuses: tests/gateway."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from firebreak.postmortem.markdown import markdown
from firebreak.postmortem.report import build
from firebreak.timeline.phases import phases_of

pytestmark = pytest.mark.servers

FALLBACK = "nobodysnobodysnobodysnobodysnobo"

HOSTILE = {
    "promql": '"}) or vector(1) #',
    "slack": "<!channel> <@U0BOSS> <https://evil.example|click>",
    "yaml": "a: [1\n- &x *x !!python/object:os.system",
    "template": "{{ 7777 * 7 }} ${HOME} {% for x in y %} $service %s",
    "markdown": "</td><script>alert(1)</script> | # Heading\n```\n[x](javascript:alert(1))",
    "control": "\x1b[31mred\x07\u202e\u2066",
    "surrogate": "half \ud800 pair",
}


async def test_an_alert_without_labels_ends_as_a_page(chain: Any) -> None:
    """Accepted, so nothing is lost: nobody's service, so the fallback is called; nothing is written."""
    await chain.start()
    assert (await chain.post({})).status_code == 200
    page = await chain.paged(FALLBACK)
    assert page.status == "triggered"
    incident = await chain.store.incident(await chain.incident())
    assert "no label service" in incident.refusal
    assert not await chain.wrote()


async def test_ten_thousand_labels_are_refused_and_call_somebody_and_the_next_alert_is_taken(chain: Any) -> None:
    """A sentence with the limit and what to do; no incident, but a page, since that alert ends nowhere else."""
    await chain.start()
    refused = await chain.post({**chain.labels, **{f"l{n}": "x" for n in range(10_000)}})
    assert refused.status_code == 422
    assert "at most 256 labels" in refused.json()["error"]
    assert refused.json()["next_step"]
    page = await chain.paged(FALLBACK)
    assert "can never be taken" in page.summary
    assert chain.rows("SELECT id FROM incidents") == []
    assert (await chain.post(chain.labels)).status_code == 200
    await chain.incident()


async def test_a_call_about_a_refused_alert_is_shown_and_ended_by_the_commands_that_it_names(chain: Any) -> None:
    """It is no incident: `firebreak show` reads its record all the same, and `firebreak close` resolves its page."""
    await chain.start()
    assert (await chain.post({**chain.labels, "": "x"})).status_code == 422
    page = await chain.paged(FALLBACK)
    told = str(page.details["what"])
    fault = re.findall(r"firebreak show (\S+)", told)[0]
    assert f"firebreak close {fault} --reason" in told
    assert "is no label name" in await _typed(chain, "show", fault)
    await _typed(chain, "close", fault, "--reason", "the rule is corrected")

    async def resolved() -> bool:
        return [each.status for each in chain.pages(FALLBACK)] == ["resolved"]

    await chain.until(resolved)


async def _typed(chain: Any, verb: str, *words: str) -> str:
    """What the command says, in a process of its own."""
    command = (sys.executable, "-P", "-m", "firebreak", verb, *words, "--data-dir", str(chain.folder))
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


async def test_a_body_over_the_limit_calls_somebody(chain: Any) -> None:
    """Alertmanager does not send it again: 413, and a page that says what to look for."""
    await chain.start(max_body_bytes=2_000)
    answer = await chain.post({**chain.labels, "note": "x" * 3_000})
    assert answer.status_code == 413
    page = await chain.paged(FALLBACK)
    assert "too large" in page.summary
    assert chain.rows("SELECT id FROM incidents") == []


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b'{"version": "4", "alerts": [', 400, "JSON"),
        (b'{"version": "4", "alerts": ["\xff\xfe"]}', 400, "UTF-8"),
        (b'{"version": "3", "status": "firing", "alerts": []}', 422, "version"),
        (b"[1, 2]", 422, "object"),
    ],
    ids=["malformed JSON", "invalid UTF-8", "wrong version", "no object"],
)
async def test_what_can_never_be_right_changes_nothing(chain: Any, body: bytes, status: int, says: str) -> None:
    """A sentence, and no incident, no page: whoever sent it has to correct it."""
    await chain.start()
    answer = await chain.client.post("/v1/alerts/alertmanager", content=body)
    assert answer.status_code == status
    assert says.lower() in answer.json()["error"].lower()
    assert (await chain.post(chain.labels)).status_code == 200
    await chain.incident()
    assert len(chain.rows("SELECT id FROM incidents")) == 1
    assert chain.pages(FALLBACK) == []


READING_LABELS = """\
  slow:
    dimension: latency
    query: app_latency{service=$service, namespace=$namespace, deployment=$workload}
    op: ">"
    threshold: $seconds
    for: $held
    inputs: ['app_latency{deployment=$workload}']
  anything:
    dimension: business
    query: max(app_errors)
    op: ">"
    threshold: $errors
    inputs: ['app_errors']
tree: {any: [failing, slow, anything]}
"""
"""In place of the tree's `slow`: three values that an alert's labels say, and a query that no label is in."""


@pytest.mark.parametrize(
    ("where", "asked"),
    [
        ("an extra label", {"service": "pay", "namespace": "shop", "deployment": "pay-v1"}),
        ("the deployment", {"service": "pay"}),
        ("the namespace", {"service": "pay"}),
        ("the service", {}),
    ],
)
async def test_hostile_label_values_stay_values(
    chain: Any, documents: Path, where: str, asked: Mapping[str, str]
) -> None:
    """Through query, verdict, page, thread and post-mortem: a name that the services lead to is asked for as a quoted
    string, whatever else a label says reaches no query, is shown as text, and is run by nobody."""
    tree = documents / "severity.yaml"
    head, _, tail = tree.read_text().partition("  slow:\n")
    tree.write_text(head + READING_LABELS + tail.partition("tree: {any: [failing, slow]}\n")[2])
    chain.exporter.lines |= {'app_latency{service="pay",namespace="shop",deployment="pay-v1"}': "3"}
    await chain.start()
    labels = {**chain.labels, **{f"h_{k}": v for k, v in HOSTILE.items() if k != "surrogate"}}
    nasty = HOSTILE["promql"] + HOSTILE["slack"] + HOSTILE["template"]
    if where != "an extra label":
        labels[where.removeprefix("the ")] = nasty
    annotations = {"summary": nasty, "description": HOSTILE["markdown"] + HOSTILE["control"]}
    assert (await chain.post(labels, annotations=annotations)).status_code == 200
    page = await chain.paged(FALLBACK if where == "the service" else "paypaypaypaypaypaypaypaypaypaypa")
    assert "\u202e" not in page.summary
    if where != "an extra label":  # it leads to no target: nothing may be written
        assert not await chain.wrote()
    looks = [body["facts"]["answers"] for kind, body in await chain.timeline() if kind == "facts.gathered"]
    assert looks
    for answers in looks:
        keys = [answer["key"] for answer in answers]
        assert "max(app_errors)" in keys
        assert {answer["status"] for answer in answers} == {"ok"}, "a label broke a query"
        assert set(re.findall(r'(\w+)="([^"]*)"', " ".join(keys))) == set(asked.items())
        assert not [key for key in keys if "vector(1)" in key or "evil" in key or "7777" in key]
    await _told(chain)
    await _written(chain)


async def _told(chain: Any) -> None:
    """No call to Slack or the pager was refused, and no mention or link came to life."""
    assert all(call["accepted"] for call in chain.people.log)
    for call in chain.chat.log:
        assert call["response"].get("ok"), call
        text = json.dumps(call["request"])
        assert not re.search(r"<(!|@|https://evil)", text)
        assert "54439" not in text, "template text was run"


async def _written(chain: Any) -> None:
    """The post-mortem of what is known so far: no HTML, no link to evil, no forged heading."""
    entries = await chain.store.entries(await chain.incident())
    text = markdown(build(entries, phases=phases_of(entries)))
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    flat = [t for token in tokens for t in (token, *(token.children or []))]
    assert not [t for t in flat if t.type in ("html_block", "html_inline", "image")]
    links = [str(t.attrs.get("href", "")) for t in flat if t.type == "link_open"]
    assert not [href for href in links if "evil" in href or href.startswith("javascript")]
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert "Heading" not in headings
    assert "54439" not in text
