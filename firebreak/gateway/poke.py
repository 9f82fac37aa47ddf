"""Wake the dispatchers: one byte to `<data_dir>/dispatch-<class>.sock` means "look into the inbox now"."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from firebreak.domain.alert import IntakeClass
from firebreak.processes import dispatch_socket, socket_address


class Poke:
    """Call it after each accepted delivery. A poke that fails (no dispatcher yet, its queue is full, a path too long
    for a socket) is ignored by design: the dispatchers look by themselves every second, a poke only makes it sooner."""

    def __init__(self, data_dir: Path) -> None:
        self._paths = tuple(socket_address(dispatch_socket(data_dir, intake_class)) for intake_class in IntakeClass)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def __call__(self) -> None:
        for path in self._paths:
            with contextlib.suppress(OSError):
                self._socket.sendto(b".", path)

    def close(self) -> None:
        self._socket.close()
