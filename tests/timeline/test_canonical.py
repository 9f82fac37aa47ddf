"""The byte form of RFC 8785."""

from __future__ import annotations

import json
import math
import random
import struct
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
import rfc8785

from firebreak.domain.errors import ContractError
from firebreak.timeline.canonical import MAX_INTEGER, canonical

# RFC 8785 appendix B: IEEE 754 bits -> the text that must be written.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items())
def test_numbers_are_written_as_the_rfc_lists_them(bits: str, text: str) -> None:
    """Appendix B of RFC 8785, row by row."""
    value = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert canonical({"n": value}) == f'{{"n":{text}}}'.encode()


def test_keys_are_sorted_by_utf16_units_as_the_rfc_shows() -> None:
    """RFC 8785 3.2.3: the emoji (a surrogate pair) sorts before U+FB33."""
    data = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert list(json.loads(canonical(data))) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_strings_are_escaped_as_the_rfc_says() -> None:
    """RFC 8785 3.2.2.2: short escapes, lower-case hex, nothing else escaped."""
    text = "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"\u007f\u2028/"
    assert canonical(text) == '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"\u007f\u2028/"'.encode()


class _Word(StrEnum):
    P1 = "P1"


class _Number(IntEnum):
    TWO = 2


def test_subclasses_and_read_only_mappings_are_written_as_what_they_stand_for() -> None:
    """Enum members, tuples and mapping views have the same bytes as plain data."""
    data = {"b": _Word.P1, "a": MappingProxyType({"x": _Number.TWO}), _Word.P1: (True, None)}
    assert canonical(data) == b'{"P1":[true,null],"a":{"x":2},"b":"P1"}'


def _random_data(rng: random.Random, depth: int) -> Any:
    pick = rng.randrange(9 if depth else 7)
    if pick == 0:
        return rng.choice([None, True, False])
    if pick == 1:
        return rng.randint(-MAX_INTEGER, MAX_INTEGER)
    if pick in (2, 3):
        value = struct.unpack(">d", rng.randbytes(8))[0]
        value = value if rng.random() < 0.3 else rng.choice([1.0, 0.1, 3.25e9]) * rng.randint(-(10**7), 10**7)
        return value if math.isfinite(value) else 0.5
    if pick < 7:
        return "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0xD800), 0x1F600])) for _ in range(6))
    if pick == 7:
        return [_random_data(rng, depth - 1) for _ in range(rng.randrange(5))]
    return {str(_random_data(rng, 0)): _random_data(rng, depth - 1) for _ in range(rng.randrange(6))}


def test_the_quick_way_gives_the_bytes_of_the_library() -> None:
    """2,000 random documents: both encoders agree byte by byte."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(2000):
        data = _random_data(rng, 3)
        assert canonical(data) == rfc8785.dumps(data)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"a": {"b": [1, math.nan]}}, "$.a.b[1]"),
        ({"a": math.inf}, "$.a"),
        ({"a": -math.inf}, "$.a"),
        ({"n": 2**53}, "$.n"),
        ({"n": -(2**53)}, "$.n"),
        ({"t": ["\ud800"]}, "$.t[0]"),
        ({"\udfff": 1}, "$"),
        ({"a": {1: "x"}}, "$.a"),
        ({"a": b"x"}, "$.a"),
        ({"a": {"x"}}, "$.a"),
    ],
)
def test_what_has_no_canonical_form_is_refused_with_its_path(data: Any, where: str) -> None:
    """The error says where the bad value sits."""
    with pytest.raises(ContractError, match="cannot be written down") as caught:
        canonical(data)
    assert f": {where}: " in str(caught.value)


def test_bottomless_nesting_is_refused_and_breaks_nothing() -> None:
    """A hostile depth gives a refusal, not a stack overflow."""
    data: Any = []
    for _ in range(5000):
        data = [data]
    with pytest.raises(ContractError, match="nested deeper than 200"):
        canonical(data)
