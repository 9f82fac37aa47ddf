"""The webhook's bearer token: from the settings, or made once and kept in the data directory."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from firebreak.domain.errors import SettingsInvalid
from firebreak.processes import make_data_dir
from firebreak.secret_files import is_one_line

TOKEN_FILE = "webhook-token"  # noqa: S105 - a file's name


def webhook_token(configured: str, data_dir: Path) -> str:
    """`configured`, or the content of `<data_dir>/webhook-token`, which is made (mode 0600) when it is not there. Two
    processes that make it at once end with the same one. Raises SettingsInvalid for a file that is
    empty, unreadable or of several lines."""
    if configured:
        return configured
    path = data_dir / TOKEN_FILE
    make_data_dir(data_dir)
    try:
        if not path.exists():
            _make(path)
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"the webhook token {path} cannot be read or made: {error}") from None
    if not token:
        raise SettingsInvalid(f"the webhook token file {path} is empty: write a token into it or remove it")
    if not is_one_line(token):  # no header can carry it: every webhook would be refused, and its alerts dropped
        raise SettingsInvalid(f"the webhook token file {path} holds more than one line: leave the token alone in it")
    return token


def _make(path: Path) -> None:
    """Written whole under another name first: a reader never sees half a token."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was first: its token counts
    finally:
        draft.unlink()


def is_bearer(header: str | None, token: str) -> bool:
    """Whether an Authorization header carries `token` (RFC 6750); how long it takes says nothing about the token."""
    scheme, _, given = (header or "").partition(" ")
    # The server decodes headers as Latin-1: this gives back the bytes that were sent. Blanks are HTTP's own: to Python
    # the last byte of an "à" is one, too.
    same = hmac.compare_digest(given.strip(" \t").encode("latin-1", "replace"), token.encode())
    return same and scheme.lower() == "bearer"
