"""YAML documents: what is refused, and where a mistake is shown."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, Field

from firebreak.documents.yaml_file import Finding, load_yaml, validate
from firebreak.documents.yaml_nodes import MAX_ALIASES
from firebreak.documents.yaml_scanner import StrictScanner
from firebreak.domain.errors import PolicyInvalid, RunbookInvalid


def refused(data: bytes) -> list[str]:
    with pytest.raises(RunbookInvalid) as caught:
        load_yaml(data, "f.yaml")
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


def test_every_duplicate_key_is_named_with_both_places() -> None:
    """Two duplicates are two problems, each with its line and column and the first one's."""
    assert refused(b"a: 1\nb: {c: 1, c: 2}\na: 3\n") == [
        "f.yaml:2:11: key 'c' is written twice; first at line 2, column 5",
        "f.yaml:3:1: key 'a' is written twice; first at line 1, column 1",
    ]


@pytest.mark.parametrize(
    ("data", "where", "words"),
    [
        (b"a: \xc3\n", "1:4", "not UTF-8"),
        ("ä: 1\nb: \udcff".encode("utf-8", "surrogatepass"), "2:4", "not UTF-8"),
        (b"a: \x01\n", "1:4", "control character"),
        (b"a: [1,\nb: }", "2:4", "not YAML"),
        (b"a: 1\n\tb: 2", "2:1", "not YAML"),
        (b"- 1", "1:1", "must be a mapping"),
        (b"", "1:1", "must be a mapping"),
        (b"a: !!python/object:os.system 1", "1:4", "tags are not read"),
        (b"a: !x {b: 1}", "1:4", "tags are not read"),
        (b"a: &a [*a]", "1:8", "inside its own anchor"),
        (b"a: *nope", "1:4", "no anchor"),
        (b"a: [!!str 1]", "1:5", "remove !!str"),
        (b"a: " + b"!" * 1_000_000, "1:4", "tags are not read"),
        (b'a: 1\nb: "half \\U00110000"', "2:12", "an escape is no character"),
        (b'a: "\\UFFFFFFFF"', "1:7", "an escape is no character"),
        (b'a: "x\\ud800"', "1:12", "an escape is no character"),
        (b"%YAML 1.1\n---\na: yes", "2:1", "directives"),
        (b"a: 1\n---\nb: 2", "2:1", "second document"),
        (b"<<: {a: 1}", "1:1", "merge keys"),
        (b"1: 2", "1:1", "not text"),
        (b"{a: 1}: 2", "1:1", "key"),
        (b"a: .inf", "1:4", "not a number"),
        (b"a: 1e999", "1:4", "too large"),
        (b"a: " + b"9" * 41, "1:4", "digits"),
        (b"a: " + b"[" * 60, "1:36", "nested deeper"),
        (b"a: &x 1\nb: [" + b"*x, " * (MAX_ALIASES + 1) + b"]", "2:405", "aliases"),
        (b"a: '" + b"x" * 1024 * 1024 + b"'", "1:1", "bytes"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_stands(data: bytes, where: str, words: str) -> None:
    """Each kind of bad input gets one sentence with file, line and column."""
    (told,) = refused(data)
    assert told.startswith(f"f.yaml:{where}: ")
    assert words in told
    assert len(told) < 200


def test_a_mistake_never_tells_a_whole_file() -> None:
    """What somebody took for a document is quoted in part, with the end of the sentence."""
    (told,) = refused(b"? " + b"k" * 500_000 + b"\n: 1\n? " + b"k" * 500_000 + b"\n: 2\n")
    assert len(told) < 1_200
    assert told.startswith("f.yaml:3:3: key 'kkk")
    assert told.endswith("is written twice; first at line 1, column 3")


def test_a_lone_exclamation_mark_only_says_text() -> None:
    """YAML's non-specific tag makes no object; in the middle of text it is a character."""
    assert load_yaml(b"a: ! b\nc: d!e\nf: '!g'\n", "f").data == {"a": "b", "c": "d!e", "f": "!g"}


@pytest.mark.parametrize("broken", [ValueError("odd"), OverflowError("odd"), RecursionError("odd")])
def test_what_the_yaml_library_did_not_see_coming_is_a_problem_of_the_file(
    monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    """A sentence with the line that was reached, never a traceback."""

    def scanned(scanner: StrictScanner, style: str, rt: bool = False) -> None:
        raise broken

    monkeypatch.setattr(StrictScanner, "scan_block_scalar", scanned)
    (told,) = refused(b"a: 1\nb:\n  c: 2\n  d: |\n    x\n")
    assert told.startswith("f.yaml:4:1: ")
    assert f"({type(broken).__name__}: odd)" in told


def test_a_bomb_of_aliases_is_refused_before_it_grows() -> None:
    """Aliases of aliases count with all that they stand for."""
    levels = ["a: &a [x, x, x, x, x, x, x, x]"]
    for this, before in zip("bcdefgh", "abcdefg", strict=True):
        levels.append(f"{this}: &{this} [" + ", ".join([f"*{before}"] * 8) + "]")
    assert "more than 50000 nodes" in refused("\n".join(levels).encode())[0]


def test_scalars_follow_the_core_schema_of_yaml_1_2() -> None:
    """`yes` is text, `012` is twelve, a time stays text: nothing is guessed."""
    text = b"a: yes\nb: 012\nc: 0x1F\nd: 1e3\ne: ~\nf: '1'\ng: 2026-11-21\nh: true\ni: 0o17\nj: off\nk: -1.5\nl:\n"
    assert load_yaml(text, "f").data == {
        "a": "yes",
        "b": 12,
        "c": 31,
        "d": 1000.0,
        "e": None,
        "f": "1",
        "g": "2026-11-21",
        "h": True,
        "i": 15,
        "j": "off",
        "k": -1.5,
        "l": None,
    }


def test_an_alias_gives_the_same_data_and_its_mistakes_point_to_the_anchor() -> None:
    """What is written once is shown where it is written; the alias itself where it stands."""
    document = load_yaml(b"a: &x {b: {c: 1}}\nd: *x\n", "f")
    assert document.data["d"] == {"b": {"c": 1}}
    assert document.located.position(("d", "b", "c")) == (1, 15)
    assert document.located.position(("d",)) == (2, 4)


def test_windows_line_ends_and_a_byte_order_mark_change_no_position() -> None:
    """Editors on Windows write both."""
    assert load_yaml(b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: 2\r\n", "f").located.position(("b", "c")) == (3, 6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("q: sum($widnow)\n", (1, 8)),
        ("q: 'sum($widnow)'\n", (1, 9)),
        ("q: >-\n  sum(\n  $widnow)\n", (3, 3)),
        ("q: |\n  sum($widnow)\n", (2, 7)),
        ("a: 1\rb: 2\r\r\nq: sum($widnow)\r", (4, 8)),
        ("q: none\n", (1, 4)),
    ],
)
def test_a_token_inside_a_value_is_found_in_every_style(text: str, expected: tuple[int, int]) -> None:
    """The column of a wrong placeholder is its own, not the query's."""
    located = load_yaml(text.encode(), "f").located
    assert located.position(("q",), token="$widnow") == expected


@pytest.mark.parametrize(
    ("text", "token", "expected"),
    [
        ("q: rate(errors_total[5m]) / errors\n", "errors", (1, 29)),
        ("q: a{status_code='5', code='x'}\n", "code", (1, 23)),
        ("q: a{x=$service, service='y'}\n", "service", (1, 18)),
        ("q: job:a:rate5m + a\n", "a", (1, 19)),
        ('q: "x\\nmetric"\n', "metric", (1, 8)),
    ],
)
def test_a_token_is_found_as_a_whole_word(text: str, token: str, expected: tuple[int, int]) -> None:
    """A longer name that holds it is not meant; behind an escape any such text is good enough."""
    assert load_yaml(text.encode(), "f").located.position(("q",), token=token) == expected


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    items: dict[str, list[Inner]]


def test_every_mistake_of_a_model_has_its_place() -> None:
    """Unknown keys point at the key, wrong values at the value, missing keys at what lacks them."""
    document = load_yaml(b"items:\n  a:\n    - number: x\n    - numbr: 1\n    - {}\nmore: 1\n", "f.yaml")
    with pytest.raises(PolicyInvalid) as caught:
        validate(document, Outer, error=PolicyInvalid)
    places = [(p.line, p.column, p.message.split(",")[0]) for p in caught.value.problems]
    assert [(line, column) for line, column, _ in places] == [(3, 15), (4, 7), (4, 7), (5, 7), (6, 1)]
    assert {message for _, _, message in places[1:3]} == {"key 'number' is missing here", "unknown key 'numbr'"}
    assert places[4][2] == "unknown key 'more'"


class Few(BaseModel):
    some: tuple[int, ...] = Field(min_length=1, max_length=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("some: [x]\n", ["f:1:8"]),
        ("some: [x, y]\n", ["f:1:8", "f:1:11"]),
        ("some: []\n", ["f:1:7: at least 1 must stand here, not 0"]),
        ("some: [1, 2, 3]\n", ["f:1:7: at most 2 must stand here, not 3"]),
    ],
)
def test_a_list_is_too_short_by_what_stands_in_it(text: str, told: list[str]) -> None:
    """An item that is a mistake is told as that one alone: the list around it is as long as it must be."""
    with pytest.raises(RunbookInvalid) as caught:
        validate(load_yaml(text.encode(), "f"), Few)
    found = [str(problem) for problem in caught.value.problems]
    assert len(found) == len(told), found
    assert all(problem.startswith(start) for problem, start in zip(found, told, strict=True)), found


def test_problems_come_once_and_in_order_of_the_file() -> None:
    """Two checks that find the same mistake tell it once."""
    document = load_yaml(b"a: 1\nb: 2\n", "f")
    found = document.problems([Finding(("b",), "x"), Finding(("a",), "y"), Finding(("b",), "x")])
    assert [str(problem) for problem in found] == ["f:1:4: y", "f:2:4: x"]


def test_a_path_that_is_not_in_the_file_falls_back_to_its_parent() -> None:
    """A check of a default value still points somewhere sensible."""
    document = load_yaml(b"a: {b: 1}\n", "f")
    assert document.problem(Finding(("a", "z"), "m")).column == 1
