"""What can go wrong with a real server."""

from __future__ import annotations

from firebreak.domain.errors import PermanentError


class ServerUnavailable(PermanentError):
    """A real server cannot be had or does not start; the message says what is missing."""

    advice = "Run `firebreak servers install`; `firebreak servers list` shows what was found where."


class RegistryDamaged(ServerUnavailable):
    """What an earlier run left cannot be told: the list of its processes cannot be read."""

    advice = "Look with `ps` for servers left by an earlier run, end them, then delete that file."
