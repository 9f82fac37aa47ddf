"""What Kubernetes puts into the environment of every container for each Service beside it (`enableServiceLinks`, on by
default): a Service called `firebreak` gives `FIREBREAK_SERVICE_HOST`, `FIREBREAK_PORT=tcp://10.0.0.1:9093` and more."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+")


def is_service_link(name: str, value: str) -> bool:
    """Whether the variable is such a one. `<NAME>_PORT` is told by its value: settings may be called so, too."""
    return bool(_NAME.fullmatch(name)) or (name.endswith("_PORT") and bool(_ADDRESS.fullmatch(value)))
