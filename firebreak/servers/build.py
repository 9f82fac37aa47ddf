"""Build one server from its pinned Go module, or copy a data set out of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from firebreak.servers.cache import BUILD_FLAGS, Cache
from firebreak.servers.catalogue import ServerSpec
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.progress import Reporter
from firebreak.servers.toolchain import go_command

_NETWORK_SIGNS = ("dial tcp", "no such host", "i/o timeout", "connection refused", "TLS handshake", "403", "Forbidden")

# Each decides the result, which is kept under the key of this platform and of our own flags.
_DECIDING = (
    "GOROOT GOOS GOARCH GO386 GOAMD64 GOARM GOARM64 GOMIPS GOMIPS64 GOPPC64 GORISCV64 GOEXPERIMENT GOFIPS140 GOFLAGS "
    "GOTOOLCHAIN"
)
# What may come from `go env -w`: where modules come from, who vouches for them, and where they are kept.
_KEPT = "GOPROXY GONOPROXY GOPRIVATE GOSUMDB GONOSUMDB GOINSECURE GOAUTH GOVCS GOPATH GOMODCACHE GOCACHE GOTMPDIR"


def go_environment(go: str, spec: ServerSpec) -> dict[str, str]:
    """The user's environment and `go env -w` settings (proxy, module cache) without what would change the result.

    `go` is the Go command. Raises ServerUnavailable when it does not say its settings.
    """
    deciding = _DECIDING.split()
    kept = {name: value for name, value in os.environ.items() if name not in deciding}
    done = subprocess.run(
        [go, "env", "-json", *_KEPT.split()],
        cwd="/",  # outside of any module, and `local`: to answer this, no other Go is fetched
        env=kept | {"GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise _failure(spec, "asking Go for its settings", done.stderr)
    settings: dict[str, str] = json.loads(done.stdout)
    kept |= {name: value for name, value in settings.items() if value}
    # GOENV is off, or the rest of `go env -w` would come back; `auto` fetches a newer Go when our go.mod asks for one.
    ours = {"GOENV": "off", "GOTOOLCHAIN": "auto", "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    return kept | ours | {"GO111MODULE": "on"}


def _failure(spec: ServerSpec, what: str, output: str) -> ServerUnavailable:
    tail = "\n".join(output.strip().splitlines()[-8:])
    advice = "Read the last lines of the Go command above; `firebreak servers install` goes on where it stopped."
    if "no space left" in output:
        advice = "Free disk space (about 6 GB while building), or move FIREBREAK_CACHE_DIR, GOCACHE and GOMODCACHE."
    elif "checksum mismatch" in output or "SECURITY ERROR" in output:
        advice = "The module proxy served other bytes than the pinned ones: do not go on, and report it."
    elif any(sign in output for sign in _NETWORK_SIGNS):
        advice = f"Make the Go module proxy reachable (GOPROXY), or name a binary by {spec.setting}."
    return ServerUnavailable(f"{spec.name} {spec.version}: {what} failed:\n{tail}", advice=advice)


def _run(command: list[str], spec: ServerSpec, module_dir: Path, what: str) -> str:
    environment = go_environment(command[0], spec)
    done = subprocess.run(command, cwd=module_dir, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _failure(spec, what, done.stderr)
    return done.stdout


def _copy_files(spec: ServerSpec, go: str, module_dir: Path, staged: Path) -> None:
    # `download` checks the module against go.sum of this folder before it names its directory.
    said = _run([go, "mod", "download", "-json", spec.module], spec, module_dir, "downloading its Go module")
    source = Path(json.loads(said)["Dir"])
    for pattern in spec.files:
        found = sorted(source.glob(pattern))
        if not found:
            raise ServerUnavailable(f"{spec.name} {spec.version}: its module has no file {pattern}")
        for path in found:
            shutil.copyfile(path, staged / path.name)  # not copy2: the module cache is read-only


def _compile(spec: ServerSpec, go: str, module_dir: Path, target: Path, report: Reporter) -> None:
    tags = ["-tags", ",".join(spec.tags)] if spec.tags else []
    package = spec.package or ""
    report.say(f"{spec.name} {spec.version}: downloading Go modules")
    listed = _run([go, "list", "-mod=readonly", *tags, "-deps", package], spec, module_dir, "resolving its Go module")
    command = [go, "build", "-v", *BUILD_FLAGS, *tags, "-ldflags", spec.ldflags, "-o", str(target), package]
    report.begin(f"{spec.name} {spec.version}", len(listed.splitlines()))
    output: list[str] = []
    process = subprocess.Popen(
        command,
        cwd=module_dir,
        env=go_environment(go, spec),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None  # asked for by PIPE
        for count, line in enumerate(process.stderr, start=1):
            output.append(line)
            report.advance(count, line.strip())
        code = process.wait()
    finally:
        if process.poll() is None:  # Ctrl-C here must not leave a compiler behind
            process.terminate()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()
        report.end()
    if code != 0:
        raise _failure(spec, "the Go build", "".join(output))


def build(spec: ServerSpec, cache: Cache, report: Reporter) -> Path:
    """Build `spec` into the cache and return its path. Call under `cache.lock(spec)`.

    Raises ServerUnavailable with the last lines of the Go command.
    """
    started = time.monotonic()
    go = go_command(cache, report)
    module_dir = cache.module_dir(spec)
    with cache.staging(spec) as staged:
        if spec.is_data:
            _copy_files(spec, go, module_dir, staged)
        else:
            _compile(spec, go, module_dir, staged / spec.name, report)
        seconds = round(time.monotonic() - started, 1)
        path = cache.publish(spec, staged, {"origin": "build", "seconds": seconds})
    report.say(f"{spec.name} {spec.version}: built in {seconds:.0f} s")
    return path
