"""Find a server, or get it: setting, PATH (only the pinned version), cache, the vendor's release, Go build."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from firebreak.domain.errors import SettingsInvalid
from firebreak.domain.service_links import is_service_link
from firebreak.servers.build import build
from firebreak.servers.cache import Cache, size_of
from firebreak.servers.catalogue import CATALOGUE, ServerSpec, spec_of
from firebreak.servers.download import Downloads
from firebreak.servers.environment import named_path
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.progress import Reporter, Silent

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_VERSION_SECONDS = 20  # a 200 MB binary from a cold disk


class Origin(StrEnum):
    """Where a server was found, in the order of asking."""

    SETTING = "setting"
    PATH = "PATH"
    CACHE = "cache"
    RELEASE = "release"
    BUILD = "build"


@dataclass(frozen=True, slots=True)
class Found:
    """A server that can be started: `path` is the binary (for data sets the folder)."""

    spec: ServerSpec
    path: Path
    origin: Origin

    @property
    def size_bytes(self) -> int:
        """Bytes of the binary, or of all files of a data set."""
        return size_of(self.path)


def has_pinned_version(spec: ServerSpec, binary: Path) -> bool:
    """True when the binary says that it is exactly the pinned version. A binary that does not answer is not."""
    try:
        done = subprocess.run(
            [str(binary), *spec.version_args], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return False
    return re.search(spec.version_pattern, done.stdout + done.stderr, re.MULTILINE) is not None


def find(spec: ServerSpec, *, cache: Cache | None = None, environ: Mapping[str, str] | None = None) -> Found | None:
    """The server as it is on this machine now, without network or build; None when it must be got first.

    An explicit setting is taken as it is (its version is the person's business); raises SettingsInvalid when it names
    nothing that can be used, or no server of ours.
    """
    env = os.environ if environ is None else environ
    store = Cache.default() if cache is None else cache
    _refuse_unknown(env, {spec.setting, *(known.setting for known in CATALOGUE.values())})
    if explicit := env.get(spec.setting):
        path = named_path(spec.setting, explicit)
        usable = path.is_dir() if spec.is_data else path.is_file() and os.access(path, os.X_OK)
        if not usable:
            kind = "a folder" if spec.is_data else "a file that can be executed"
            raise SettingsInvalid(f"{spec.setting} must name {kind}; {path} is not one")
        return Found(spec, path, Origin.SETTING)
    if not spec.is_data:
        on_path = shutil.which(spec.name, path=env.get("PATH", ""))
        # A distribution's old etcd or Prometheus must not slip in.
        if on_path and has_pinned_version(spec, Path(on_path)):
            return Found(spec, Path(on_path).absolute(), Origin.PATH)
    return Found(spec, store.path(spec), Origin.CACHE) if store.has(spec) else None


def _refuse_unknown(env: Mapping[str, str], known: Collection[str]) -> None:
    """A typo would cost a build, and start another binary than the one that was named."""
    named = {n for n, value in env.items() if n.startswith("FIREBREAK_SERVER") and not is_service_link(n, value)}
    strange = sorted(named.difference(known))
    if strange:
        told = f"unknown settings: {', '.join(strange)}"
        raise SettingsInvalid(told, advice=f"Known are {', '.join(sorted(known))}.")


def require(name: str, *, cache: Cache | None = None) -> Path:
    """The path of server `name`, which must be installed already: starting one never begins a long build unasked.

    Raises ServerUnavailable saying how to install it.
    """
    spec = spec_of(name)
    found = find(spec, cache=cache)
    if found is None:
        raise ServerUnavailable(
            f"the server {name} {spec.version} is not on this machine",
            advice=f"Run `firebreak servers install {name}` (or name one by {spec.setting}).",
        )
    return found.path


def install(
    names: Sequence[str] = (),
    *,
    report: Reporter | None = None,
    cache: Cache | None = None,
    downloads: Downloads | None = None,
) -> list[Found]:
    """Find or get the named servers (all of them when none is named), one after the other, in the given order.

    Raises ServerUnavailable with what is missing and what to do; what was finished before stays in the cache.
    """
    out = Silent() if report is None else report
    store = Cache.default() if cache is None else cache
    net = Downloads() if downloads is None else downloads
    specs = [spec_of(name) for name in names] or list(CATALOGUE.values())
    return [_get(spec, store, net, out) for spec in specs]


def _get(spec: ServerSpec, cache: Cache, downloads: Downloads, report: Reporter) -> Found:
    found = find(spec, cache=cache)
    if found is not None:
        return found
    try:
        with cache.lock(spec, report.say):
            if cache.has(spec):  # made by the run that was waited for
                return Found(spec, cache.path(spec), Origin.CACHE)
            path = downloads.fetch(spec, cache, report)
            if path is not None:
                return Found(spec, path, Origin.RELEASE)
            return Found(spec, build(spec, cache, report), Origin.BUILD)
    except OSError as error:
        raise _not_kept(spec, cache, error) from error


def _not_kept(spec: ServerSpec, cache: Cache, error: OSError) -> ServerUnavailable:
    if error.errno in _NO_SPACE:
        advice = "Free disk space (about 6 GB while building), or set FIREBREAK_CACHE_DIR to a folder on another disk."
    else:
        advice = "Make that folder writable for this user, or set FIREBREAK_CACHE_DIR to one that is."
    told = f"{spec.name} {spec.version}: cannot be put into the cache {cache.root}: {error}"
    return ServerUnavailable(told, advice=advice)
