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
from firebreak.servers.waiting import run_counted, run_shown

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


def _copy_files(spec: ServerSpec, go: str, module_dir: Path, staged: Path, report: Reporter) -> None:
    # `download` checks the module against go.sum of this folder before it names its directory.
    command = [go, "mod", "download", "-json", spec.module]
    report.say(f"{spec.name} {spec.version}: downloading its Go module")
    done = run_shown(command, f"{spec.name} {spec.version}", report, cwd=module_dir, env=go_environment(go, spec))
    if done.returncode != 0:
        raise _failure(spec, "downloading its Go module", f"{done.stderr}\n{_error_in(done.stdout)}")
    source = Path(json.loads(done.stdout)["Dir"])
    for pattern in spec.files:
        found = sorted(source.glob(pattern))
        if not found:
            raise ServerUnavailable(f"{spec.name} {spec.version}: its module has no file {pattern}")
        for path in found:
            shutil.copyfile(path, staged / path.name)  # not copy2: the module cache is read-only


def _error_in(answer: str) -> str:
    """Why `go mod download -json` failed: it says that in its JSON, and often nothing on standard error."""
    try:
        said = json.loads(answer)
    except ValueError:
        return answer
    return str(said.get("Error", "")) if isinstance(said, dict) else answer


def _modules(module_dir: Path) -> int:
    """How many modules may be downloaded: those of which go.sum knows more than their go.mod."""
    sums = module_dir / "go.sum"
    lines = sums.read_text().splitlines() if sums.exists() else []
    return sum(1 for line in lines if "/go.mod " not in line)


def _compile(spec: ServerSpec, go: str, module_dir: Path, target: Path, report: Reporter) -> None:
    tags = ["-tags", ",".join(spec.tags)] if spec.tags else []
    package, name, env = spec.package or "", f"{spec.name} {spec.version}", go_environment(go, spec)
    report.say(f"{name}: downloading Go modules")
    command = [go, "list", "-mod=readonly", *tags, "-deps", package]
    listed = run_counted(
        command,
        f"{spec.name} modules",
        report,
        total=_modules(module_dir),
        counted="go: downloading ",
        cwd=module_dir,
        env=env,
    )
    if listed.returncode != 0:
        raise _failure(spec, "resolving its Go module", listed.stderr)
    command = [go, "build", "-v", *BUILD_FLAGS, *tags, "-ldflags", spec.ldflags, "-o", str(target), package]
    built = run_counted(command, name, report, total=len(listed.stdout.splitlines()), cwd=module_dir, env=env)
    if built.returncode != 0:
        raise _failure(spec, "the Go build", built.stderr)


def build(spec: ServerSpec, cache: Cache, report: Reporter) -> Path:
    """Build `spec` into the cache and return its path. Call under `cache.lock(spec)`.

    Raises ServerUnavailable with the last lines of the Go command.
    """
    started = time.monotonic()
    go = go_command(cache, report)
    module_dir = cache.module_dir(spec)
    with cache.staging(spec) as staged:
        if spec.is_data:
            _copy_files(spec, go, module_dir, staged, report)
        else:
            _compile(spec, go, module_dir, staged / spec.name, report)
        seconds = round(time.monotonic() - started, 1)
        path = cache.publish(spec, staged, {"origin": "build", "seconds": seconds})
    report.say(f"{spec.name} {spec.version}: built in {seconds:.0f} s")
    return path
