"""Standard input and output, where whoever starts us has closed them, or nothing can be written to them."""

from __future__ import annotations

import os
import sys


def open_streams() -> None:
    """First of all: a program that is started with one closed would get a socket or a file of its own as standard
    output, and libuv ends a process that closes such a one. Children inherit them as any other."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for as long as we live
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def drop_output() -> None:
    """What is still in the buffer of standard output cannot be written, either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
