"""What a control plane is given on disk before any of it starts: users with their tokens, a key, the audit policy."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from firebreak.domain.errors import ContractError

ADMIN = "firebreak-admin"
_COMPONENTS = "firebreak:components"
_COMPONENT_USERS = ("system:kube-controller-manager", "system:kube-scheduler", "system:kwok")

# Reads and the components' own traffic (leases, pod status) would bury what is looked for: they are left out or short.
_AUDIT_POLICY = f"""apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  verbs: [get, list, watch]
- level: None
  userGroups: ["{_COMPONENTS}"]
  resources:
  - group: ""
    resources: [events]
  - group: events.k8s.io
    resources: [events]
  - group: coordination.k8s.io
    resources: [leases]
- level: Metadata
  resources:
  - group: authorization.k8s.io
  - group: authentication.k8s.io
- level: Metadata
  userGroups: ["{_COMPONENTS}"]
- level: Metadata
  users: ["system:apiserver"]
- level: RequestResponse
  verbs: [create, update, patch, delete, deletecollection]
- level: Metadata
"""


@dataclass(frozen=True, slots=True)
class KubeUser:
    """A user that the API server knows by token. Rights come from RBAC objects, or from the group `system:masters`."""

    name: str
    groups: tuple[str, ...] = ()
    token: str = ""  # made when empty


@dataclass(frozen=True, slots=True)
class ClusterFiles:
    """Where each file is; `token_of` every user by name."""

    root: Path
    ca_file: Path
    signing_key: Path
    tokens: Path
    policy: Path
    audit_log: Path
    kubeconfigs: Mapping[str, Path]
    token_of: Mapping[str, str]


def write_files(root: Path, url: str, users: Sequence[KubeUser]) -> ClusterFiles:
    """Make them below `root`. ContractError for a name or token that the file of tokens cannot hold."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "users").mkdir(exist_ok=True)
    everybody = [KubeUser(ADMIN, ("system:masters",)), *users]
    everybody += [KubeUser(name, ("system:masters", _COMPONENTS)) for name in _COMPONENT_USERS]
    tokens_file = root / "tokens.csv"
    # A second start on the same directory keeps the tokens, so that kubeconfigs given away stay good.
    kept = {}
    if tokens_file.exists():
        kept = {line.split(",")[1]: line.split(",")[0] for line in tokens_file.read_text().splitlines()}
    token_of = {user.name: user.token or kept.get(user.name) or secrets.token_hex(16) for user in everybody}
    if any(mark in user.name + user.token + "".join(user.groups) for user in everybody for mark in ',"\n'):
        raise ContractError("names, groups and tokens of users may hold no comma, quote or line break")
    rows = (f'{token_of[user.name]},{user.name},{user.name},"{",".join(user.groups)}"\n' for user in everybody)
    _secret(tokens_file, "".join(rows))
    ca_file = root / "certs" / "apiserver.crt"
    kubeconfigs = {
        name: _secret(root / "users" / f"{name.replace(':', '_').replace('/', '_')}.yaml", text)
        for name, text in ((name, _kubeconfig(url, ca_file, name, token)) for name, token in token_of.items())
    }
    key = root / "service-account.key"
    if not key.exists():
        _secret(key, _signing_key_pem())
    policy = root / "audit-policy.yaml"
    policy.write_text(_AUDIT_POLICY)
    return ClusterFiles(root, ca_file, key, tokens_file, policy, root / "audit.log", kubeconfigs, token_of)


def _signing_key_pem() -> str:
    """A fresh P-256 private key (RFC 5915, without the optional public part, which Go computes itself)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    scalar = (secrets.randbelow(order - 1) + 1).to_bytes(32, "big")
    # SEQUENCE { INTEGER 1, OCTET STRING scalar, [0] { OID prime256v1 } }
    der = bytes.fromhex("30310201010420") + scalar + bytes.fromhex("a00a06082a8648ce3d030107")
    text = base64.b64encode(der).decode()
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN EC PRIVATE KEY-----", *lines, "-----END EC PRIVATE KEY-----", ""])


def _kubeconfig(url: str, ca_file: Path, user: str, token: str) -> str:
    # JSON is YAML, and quotes every name by itself.
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {"server": url, "certificate-authority": str(ca_file)}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        "current-context": "lab",
    }
    return json.dumps(document, indent=1) + "\n"


def _secret(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path
