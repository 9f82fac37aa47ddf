"""How a process of the engine loads its code: `python -m firebreak.engine.child MODULE [ARGUMENT…]` runs its `main`.

What an import makes stays for good. A collector that walks through it again and again while it grows costs a fifth of
the start, and a child that was killed is waited for.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection within; for imports."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def main() -> None:
    """MODULE sees its own arguments, as if it had been run itself."""
    with uncollected():
        module = importlib.import_module(sys.argv[1])
    sys.argv = sys.argv[1:]
    module.main()


if __name__ == "__main__":
    main()
