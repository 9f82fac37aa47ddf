"""The cache of servers, outside any checkout, so that a second clone starts at once.

One directory per entry, `<cache>/servers/<name>-<version>-<key>`, that appears by one rename: what is there is whole,
unless somebody damaged it later, and then it counts as absent.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from firebreak.domain.errors import SettingsInvalid
from firebreak.locator import tools_dir
from firebreak.servers.catalogue import ServerSpec, platform_key
from firebreak.servers.environment import named_path
from firebreak.servers.errors import ServerUnavailable

BUILD_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")
"""Flags of every Go build; with CGO_ENABLED=0 they make the binary independent of this machine's paths and libc."""

_NOTE = "entry.json"  # in each entry: what it is, where from, and its size


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Where servers are kept: FIREBREAK_CACHE_DIR, else XDG_CACHE_HOME/firebreak, else ~/.cache/firebreak.
    SettingsInvalid when the home that this needs is not there."""
    env = os.environ if environ is None else environ
    if explicit := env.get("FIREBREAK_CACHE_DIR"):
        return named_path("FIREBREAK_CACHE_DIR", explicit)
    if xdg := env.get("XDG_CACHE_HOME"):
        return Path(xdg).absolute() / "firebreak"
    try:
        return Path.home() / ".cache" / "firebreak"
    except RuntimeError:  # a container's account that has no home
        raise SettingsInvalid("this account has no home directory: set FIREBREAK_CACHE_DIR") from None


def entry_key(spec: ServerSpec, module_dir: Path) -> str:
    """16 hex digits over everything that decides the result: module files, package, flags and platform.

    The Go toolchain is left out on purpose: an update of Go does not make the pinned source another server.
    """
    digest = hashlib.sha256()

    def add(*parts: str | bytes) -> None:
        for part in parts:
            raw = part if isinstance(part, bytes) else part.encode()
            digest.update(len(raw).to_bytes(8, "big") + raw)  # lengths, so that no two lists look alike

    add("firebreak-server-1", platform_key(), *BUILD_FLAGS)
    add(spec.name, spec.version, spec.module, spec.package or "", spec.ldflags, ",".join(spec.tags), *spec.files)
    files = sorted(path for path in module_dir.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise ServerUnavailable(f"the module folder of {spec.name} is empty: tools/{spec.tool}")
    for path in files:
        add(path.name, path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache at `root`; `tools` is the folder with the Go modules that give the keys."""

    root: Path
    tools: Path

    @classmethod
    def default(cls) -> Cache:
        """The user's cache with the modules of this installation."""
        return cls(cache_dir(), tools_dir())

    def module_dir(self, spec: ServerSpec) -> Path:
        """The folder of the Go module that pins `spec`."""
        return self.tools / spec.tool

    def entry(self, spec: ServerSpec) -> Path:
        """The directory that this version of `spec` has, whether it exists or not."""
        key = entry_key(spec, self.module_dir(spec))
        return self.root / "servers" / f"{spec.name}-{spec.version}-{key}"

    def path(self, spec: ServerSpec) -> Path:
        """The binary's path inside the entry; for data sets the entry itself."""
        return self.entry(spec) if spec.is_data else self.entry(spec) / spec.name

    def has(self, spec: ServerSpec) -> bool:
        """True when the entry is there and whole: as many bytes as were published, and a binary that can be executed.

        The bytes are not read: this runs at every start of a server.
        """
        entry, path = self.entry(spec), self.path(spec)
        try:
            published = json.loads((entry / _NOTE).read_bytes())["size_bytes"]
            size = size_of(entry) - (entry / _NOTE).stat().st_size
        except (OSError, ValueError, KeyError, TypeError):  # the note is gone, or damaged like the rest
            return False
        return size == published and (spec.is_data or (path.is_file() and os.access(path, os.X_OK)))

    @contextmanager
    def lock(self, spec: ServerSpec, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the right to make `spec`'s entry. A second run waits here, and says so, instead of building twice."""
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with open(locks / f"{self.entry(spec).name}.lock", "a+b") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{spec.name}: another run is getting it already; waiting for that one")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield  # closing the file gives the lock back, a kill -9 does, too

    @contextmanager
    def staging(self, spec: ServerSpec) -> Iterator[Path]:
        """An empty directory on the cache's own file system, removed at the end unless it was published.

        Call under `lock`: what an earlier kill -9 left of the same entry is removed first.
        """
        entry = self.entry(spec)
        entry.parent.mkdir(parents=True, exist_ok=True)
        for stale in entry.parent.glob(f".making-{entry.name}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        place = entry.parent / f".making-{entry.name}-{os.getpid()}"
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def publish(self, spec: ServerSpec, staged: Path, facts: Mapping[str, object]) -> Path:
        """Make `staged` the entry, whole or not at all; `facts` are written to its note. Returns `path(spec)`."""
        entry = self.entry(spec)
        note = {"name": spec.name, "version": spec.version, "size_bytes": size_of(staged), **facts}
        (staged / _NOTE).write_text(json.dumps(note, indent=1, sort_keys=True) + "\n")
        for path in staged.iterdir():
            _fsync(path)
        _fsync(staged)
        if entry.exists():  # it was not whole (see `has`)
            shutil.rmtree(entry)
        os.rename(staged, entry)
        _fsync(entry.parent)
        return self.path(spec)


def size_of(path: Path) -> int:
    """Bytes in a file, or in all files directly below a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(item.stat().st_size for item in path.iterdir() if item.is_file())


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
