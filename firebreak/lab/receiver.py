"""What both stand-ins share: they keep what they got (in memory and as JSON lines), fail on command, and show all of it
on a page: what was taken, and what was refused and why."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from html import escape
from pathlib import Path
from typing import Any

from aiohttp import web


class Mode(StrEnum):
    """How a stand-in answers API calls. DOWN: 503 and nothing is kept but the attempt. SLOW: after `seconds`."""

    OK = "ok"
    DOWN = "down"
    RATELIMITED = "ratelimited"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: HTTP status, JSON data (or plain text), headers. `accepted` = the call had its effect."""

    status: int
    body: Mapping[str, Any] | str
    accepted: bool
    headers: Mapping[str, str] = field(default_factory=dict)


_MAX_DEPTH = 100
_SHOWN_CALLS = 50  # refused ones on the page; /log has all
_SHOWN_CHARACTERS = 1000


def parsed(text: str | bytes) -> Any:
    """JSON data. ValueError when it is none, or nested deeper than the page and the checks could follow it."""
    try:
        level = [data := json.loads(text)]
    except RecursionError:
        raise ValueError("nested too deep") from None
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return data
    raise ValueError("nested too deep")


def _reason(response: Mapping[str, Any] | str) -> str:
    """Why a call was refused, in the words of its answer."""
    if isinstance(response, str):
        return response
    word = response.get("error") or response.get("message") or "refused"
    needed = [f"needed: {response['needed']}"] if "needed" in response else []
    return "; ".join([str(word), *needed, *map(str, response.get("errors", ()))])


class Receiver(ABC):
    """One stand-in. `log_file` gets one JSON object a line: at, method, request, status, response, accepted."""

    title = ""
    retry_after = 30  # seconds, told with 429 unless the control call says otherwise

    def __init__(self, log_file: Path) -> None:
        self._log_file = log_file
        self._log: list[dict[str, Any]] = []
        self.mode = Mode.OK
        self.seconds = 30.0
        self.app = web.Application(client_max_size=8 * 1024 * 1024)
        self.app.router.add_get("/", self._page)
        self.app.router.add_get("/log", self._get_log)
        self.app.router.add_get("/healthz", self._healthz)
        self.app.router.add_post("/control", self._control)

    @property
    def log(self) -> tuple[Mapping[str, Any], ...]:
        """Every API call so far, oldest first; accepted or not."""
        return tuple(self._log)

    @abstractmethod
    def ratelimited(self, retry_after: int) -> Reply:
        """The real one's 429."""

    @abstractmethod
    def body_html(self) -> str:
        """The page's content; everything that came from outside escaped."""

    async def answered(self, method: str, request: Mapping[str, Any], reply: Reply) -> web.Response:
        """Keep one call and turn its reply into a response. What the mode says goes before `reply`."""
        self._log.append(
            {
                "at": datetime.now(UTC).isoformat(),
                "method": method,
                "request": request,
                "status": reply.status,
                "response": reply.body,
                "accepted": reply.accepted,
            }
        )
        with self._log_file.open("a") as handle:
            handle.write(json.dumps(self._log[-1], ensure_ascii=True) + "\n")
        if isinstance(reply.body, str):
            return web.Response(text=reply.body, status=reply.status, headers=reply.headers)
        return web.json_response(reply.body, status=reply.status, headers=reply.headers)

    async def disturbed(self) -> Reply | None:
        """The answer that the mode forces on an API call; None = answer as usual."""
        if self.mode is Mode.DOWN:
            return Reply(503, "Service Unavailable", accepted=False)
        if self.mode is Mode.RATELIMITED:
            return self.ratelimited(self.retry_after)
        if self.mode is Mode.SLOW:
            await asyncio.sleep(self.seconds)
        return None

    async def _page(self, _: web.Request) -> web.Response:
        text = _PAGE.format(title=escape(self.title), body=self.body_html() + self._refused_html())
        # JSON may carry half a surrogate pair, which UTF-8 cannot.
        body = text.encode(errors="replace")
        return web.Response(body=body, content_type="text/html", charset="utf-8")

    def _refused_html(self) -> str:
        refused = [call for call in self._log if not call["accepted"]]
        if not refused:
            return ""
        cards = "".join(
            f'<article class="refused"><b>{escape(_reason(call["response"]))}</b><br>'
            f"<small>{call['at'][11:19]} UTC · {escape(call['method'])} · HTTP {call['status']}</small>"
            f"<pre>{escape(json.dumps(call['request'], ensure_ascii=False)[:_SHOWN_CHARACTERS])}</pre></article>"
            for call in refused[: -_SHOWN_CALLS - 1 : -1]
        )
        some = f", the newest {_SHOWN_CALLS}" if len(refused) > _SHOWN_CALLS else ""
        return f"<h2>Refused calls: {len(refused)}{some}</h2>{cards}"

    async def _get_log(self, _: web.Request) -> web.Response:
        return web.json_response({"mode": self.mode, "calls": self._log})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"mode": self.mode, "calls": len(self._log)})

    async def _control(self, request: web.Request) -> web.Response:
        try:
            body = parsed(await request.text())
            self.mode = Mode(body["mode"])
            self.seconds = float(body.get("seconds", self.seconds))
            self.retry_after = int(body.get("retry_after", self.retry_after))
        except (ValueError, KeyError, TypeError) as error:
            modes = ", ".join(Mode)
            return web.json_response({"error": f"{error!r}; mode is one of {modes}"}, status=400)
        return web.json_response({"mode": self.mode})


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2"><title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1d1c1d; }}
h1 {{ font-size: 1.3rem }} h2 {{ font-size: 1.05rem; border-bottom: 1px solid #ddd; margin-top: 2rem }}
article {{ border: 1px solid #ddd; border-radius: 6px; padding: .6rem .9rem; margin: .8rem 0 }}
article article {{ border-width: 0 0 0 3px; border-radius: 0; margin: .4rem 0 .4rem .6rem }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; margin: .2rem 0 }}
small {{ color: #616061 }} .high {{ border-left: 5px solid #c01343 }} .low {{ border-left: 5px solid #d9a300 }}
.refused {{ border-left: 5px solid #8a8a8a }} .resolved {{ opacity: .65; border-left-color: #2e8b57 }}
</style></head><body><h1>{title}</h1>
{body}
</body></html>
"""
