"""How the stand-in for Slack reads a call: arguments, token, and its word for what cannot be read."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from firebreak.lab.receiver import parsed


class Refused(Exception):
    """`ok: false` with Slack's word for it, `messages` about the places, and `more` fields of the answer."""

    def __init__(self, error: str, *messages: str, **more: str) -> None:
        super().__init__(error)
        self.error = error
        self.messages = messages
        self.more = more


def token_of(request: web.Request) -> str:
    """The bearer token of the Authorization header; empty when there is none. Without the word Bearer it is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def arguments_of(request: web.Request) -> dict[str, Any]:
    """The call's arguments, with `token` where it is a parameter. Refused when the body is not what its type says."""
    if request.method == "GET":
        return dict(request.query)
    kind = request.content_type
    if kind == "application/json":
        try:
            body = parsed(await request.text())
        except LookupError:
            raise Refused("invalid_charset") from None
        except ValueError:
            raise Refused("invalid_json") from None
        if not isinstance(body, dict):
            raise Refused("json_not_object")
        body.pop("token", None)  # in a JSON body Slack does not look for it
        return body
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        try:
            return {name: str(value) for name, value in (await request.post()).items()}
        except LookupError:
            raise Refused("invalid_charset") from None
        except ValueError:
            raise Refused("invalid_form_data") from None
    if kind == "application/octet-stream" and not await request.read():
        return dict(request.query)  # no body at all
    raise Refused("invalid_post_type")


def decoded(value: Any, error: str) -> Any:
    """A form carries JSON as text, a JSON body carries it as it is. Refused with `error` when the text is no JSON."""
    if not isinstance(value, str):
        return value
    try:
        return parsed(value)
    except ValueError:
        raise Refused(error) from None


def number(value: Any, default: int) -> int:
    """A whole number, or `default` where it is left out. Refused when it is something else."""
    try:
        return int(value) if value not in (None, "") else default
    except (TypeError, ValueError):
        raise Refused("invalid_arguments") from None
