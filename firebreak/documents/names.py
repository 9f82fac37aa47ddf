"""Kubernetes names as documents and labels may say them (RFC 1123; Kubernetes, "Object Names and IDs")."""

from __future__ import annotations

import re

from firebreak.domain.target import SYSTEM_NAMESPACES

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def is_label_name(text: str) -> bool:
    """A DNS-1123 label: namespaces and Services, at most 63 characters."""
    return _LABEL.fullmatch(text) is not None


def is_object_name(text: str) -> bool:
    """A DNS-1123 subdomain: most objects, at most 253 characters."""
    return len(text) <= 253 and all(_LABEL.fullmatch(part) for part in text.split("."))


def refuse_namespace(text: str) -> str:
    """Why nothing may be aimed at a namespace, or empty. `kube-` is reserved for the system."""
    if text in SYSTEM_NAMESPACES or text.startswith("kube-"):
        return f"namespace {text!r} belongs to the system: nothing is ever aimed there" if text else "no namespace"
    if not is_label_name(text):
        return f"{text!r} is not the name of a namespace (DNS-1123)"
    return ""
