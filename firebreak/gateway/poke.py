"""Wake the dispatchers: one byte to `<data_dir>/dispatch-<class>.sock` means "look into the inbox now"."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path

from firebreak.domain.alert import IntakeClass
from firebreak.processes import dispatch_socket, socket_address


class Poke:
    """Call it after each accepted delivery, with the classes of its alerts. A poke that fails (no dispatcher yet, its
    queue is full, a path too long for a socket) is ignored by design: the dispatchers look by themselves every second,
    a poke only makes it sooner."""

    def __init__(self, data_dir: Path) -> None:
        self._paths = {one: socket_address(dispatch_socket(data_dir, one)) for one in IntakeClass}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def __call__(self, classes: Iterable[IntakeClass]) -> None:
        for one in classes:
            with contextlib.suppress(OSError):
                self._socket.sendto(b".", self._paths[one])

    def close(self) -> None:
        self._socket.close()
