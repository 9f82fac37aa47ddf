"""Take a server out of its vendor's release archive: only with a pinned checksum, and if that host answers soon."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import socket
import tarfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from firebreak.servers.cache import Cache
from firebreak.servers.catalogue import Release, ServerSpec, platform_key
from firebreak.servers.progress import Reporter

CONNECT_SECONDS = 3.0  # one attempt, so that a machine without internet does not wait for every server
_READ_SECONDS = 30.0
_CHUNK = 1 << 18


def _connects(host: str, port: int, seconds: float) -> str | None:
    """None when a TCP connection came about in time, else why not. Name resolution counts, so it runs aside."""
    outcome: list[str | None] = []

    def attempt() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"no connection within {seconds:.0f} s"


class Downloads:
    """The vendor downloads of one run. A host that did not answer once is not asked again."""

    def __init__(self, connects: Callable[[str, int, float], str | None] = _connects) -> None:
        self._connects = connects
        self.unavailable: dict[str, str] = {}
        """Hosts that could not be reached in this run, with the reason."""

    def fetch(self, spec: ServerSpec, cache: Cache, report: Reporter) -> Path | None:
        """Put `spec`'s release into the cache and return its path; None, having said why, when that cannot be.

        Call under `cache.lock(spec)`. Bytes with another SHA-256 than the pinned one are thrown away.
        """
        release = spec.releases.get(platform_key())
        if release is None:
            return None
        if (why := self._reachable(release)) is not None:
            report.say(f"{spec.name} {spec.version}: release download unavailable ({why})")
            return None
        started = time.monotonic()
        with cache.staging(spec) as staged:
            archive = staged / "archive"
            try:
                self._download(spec, release, archive, report)
                if why := _take_out(release, archive, staged / spec.name):
                    report.say(f"{spec.name} {spec.version}: release refused ({why})")
                    return None
            except (OSError, http.client.HTTPException, ValueError, tarfile.TarError) as error:
                # URLError is an OSError; a proxy may answer anything, also headers that are no numbers
                report.say(f"{spec.name} {spec.version}: release download failed ({_words(error)})")
                return None
            archive.unlink()
            seconds = round(time.monotonic() - started, 1)
            facts = {"origin": "release", "url": release.url, "sha256": release.sha256, "seconds": seconds}
            path = cache.publish(spec, staged, facts)
        report.say(f"{spec.name} {spec.version}: downloaded in {seconds:.0f} s, checksum right")
        return path

    def _reachable(self, release: Release) -> str | None:
        parts = urllib.parse.urlsplit(release.url)
        proxy = urllib.request.getproxies().get(parts.scheme)
        try:
            asked = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else parts
            port = asked.port or (443 if asked.scheme == "https" else 80)
            host = asked.hostname or ""
        except ValueError:
            host = ""
        if not host:  # its text may hold a password
            return f"{parts.scheme.upper()}_PROXY is no address of a proxy, as http://proxy.example:3128"
        if host not in self.unavailable:
            why = self._connects(host, port, CONNECT_SECONDS)
            if why is None:
                return None
            self.unavailable[host] = f"{host}: {why}"
        return self.unavailable[host]

    def _download(self, spec: ServerSpec, release: Release, archive: Path, report: Reporter) -> None:
        source: IO[bytes]
        with urllib.request.urlopen(release.url, timeout=_READ_SECONDS) as source, open(archive, "wb") as target:  # noqa: S310 # pinned https URLs of the catalogue
            length = int(getattr(source, "headers", {}).get("Content-Length") or 0)
            report.begin(f"{spec.name} {spec.version}", length // 1024)
            try:
                done = 0
                while chunk := source.read(_CHUNK):
                    target.write(chunk)
                    done += len(chunk)
                    report.advance(done // 1024, "kB")
                if length and done != length:  # as another SHA-256 it would look like other bytes, not like fewer
                    raise ConnectionError(f"it ended after {done} of {length} bytes")
            finally:
                report.end()


def _words(error: Exception) -> str:
    said = str(error)[:200]  # it may quote what came in place of an answer
    return f"{type(error).__name__}: {said}" if isinstance(error, http.client.HTTPException) else said


def _take_out(release: Release, archive: Path, target: Path) -> str | None:
    """Check the archive and copy its one member out; a sentence when it is not the pinned archive."""
    digest = hashlib.sha256()
    with open(archive, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != release.sha256:
        return f"SHA-256 is {digest.hexdigest()}, pinned is {release.sha256}"
    with tarfile.open(archive) as tar:
        try:
            member = tar.extractfile(release.member)
        except KeyError:
            member = None
        if member is None:
            return f"the archive has no file {release.member}"
        with member, open(target, "wb") as out:
            shutil.copyfileobj(member, out)
    target.chmod(0o755)
    return None
