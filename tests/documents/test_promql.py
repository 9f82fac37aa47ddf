"""PromQL with placeholders: nothing that an alert says can change what is asked."""

from __future__ import annotations

import random

import promql_parser
import pytest

from firebreak.documents.promql import (
    MAX_PARTS,
    check_query,
    grouping_labels,
    placeholders,
    quote,
    render_query,
    selectors,
)

DURATIONS = {"window": "2m", "long": "1h"}
BINDINGS = {"service": "pay", "namespace": "shop"}

HOSTILE = (
    '"', "\\", "'", "`", "{", "}", "\n", "\r", "\t", "\x00", "\x07", "\x1b", "\x7f", "\u2028", "\ufeff", "é", "😀", "$",
    "$service", '"} or vector(1) #', '\\"', "\\x41", "\\u0041", "%", "=~", ".*", "#", "\U0010ffff", "\u202e", " ",
)  # fmt: skip


def test_five_hundred_hostile_values_read_back_as_themselves() -> None:
    """A label value of any text stays one value of one matcher; the seed is printed."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(500):
        value = "".join(dice.choice(HOSTILE) for _ in range(dice.randrange(12)))
        query = render_query("sum(up{service=$service})", durations={}, bindings={"service": value})
        (selector,) = selectors(query)
        assert selector.metric == "up"
        assert [(m.name, m.op, m.value) for m in selector.matchers] == [("service", "=", value)], (seed, value)
        assert [s.matchers for s in selectors(selector.text)] == [selector.matchers]


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb"])
def test_half_a_surrogate_pair_is_refused(value: str) -> None:
    """Such a text cannot be sent, so it is not asked."""
    with pytest.raises(ValueError, match="surrogate"):
        quote(value)


def test_each_kind_of_placeholder_is_filled_in_its_own_way() -> None:
    """Durations and baseline raw, bindings quoted, strings and comments left alone."""
    query = 'sum(rate(a{s=$service,c=~"5..$"}[$window]$baseline)) # $service'
    assert (
        render_query(query, durations=DURATIONS, bindings=BINDINGS, baseline=" @ 17")
        == 'sum(rate(a{s="pay",c=~"5..$"}[2m] @ 17)) # $service'
    )


def test_a_threshold_stands_where_promql_takes_a_number() -> None:
    """As the number that it is, however written; nowhere else."""
    query = "sum(a) / (sum(b) >= $least)"
    assert render_query(query, durations={}, bindings={}, thresholds={"least": 20.0}) == "sum(a) / (sum(b) >= 20)"
    assert "(sum(b) >= -1.5)" in render_query(query, durations={}, bindings={}, thresholds={"least": -1.5})
    assert check_query(query, durations=(), bindings=(), thresholds=("least",)) == ()
    for wrong in ("sum(rate(a[$least]))", "a{b=$least}", "$least{a='b'}"):
        assert check_query(wrong, durations=(), bindings=(), thresholds=("least",)) != (), wrong


def test_a_value_with_a_placeholder_in_it_is_not_filled_again() -> None:
    """Filling happens once."""
    query = render_query("a{s=$service}", durations=DURATIONS, bindings={"service": "$window"})
    assert selectors(query)[0].matchers[0].value == "$window"


def test_a_placeholder_without_a_value_is_an_error() -> None:
    """A query is never sent half filled."""
    with pytest.raises(ValueError, match=r"\$namespace has no value"):
        render_query("a{n=$namespace}", durations={}, bindings={})


@pytest.mark.parametrize(
    "query",
    [
        "sum(rate(a{service=$service}[$window]))",
        "a offset $window",
        "sum(rate(a{x!=$service}[$window]$baseline))",
        "a$baseline",
        "max_over_time(a[$long:$window])",
        'a{c=~"5..$"}',
        'label_replace(a, "b", "$1", "c", "(.*)")',
        "(sum(a) or vector(0)) / (sum(b) > 0)",
    ],
)
def test_a_good_query_has_no_fault(query: str) -> None:
    """What operators write every day passes."""
    assert check_query(query, durations=DURATIONS, bindings=BINDINGS) == ()


@pytest.mark.parametrize(
    ("query", "token", "words"),
    [
        ("a{service=~$service}", "$service", "only as the value of a = or != matcher"),
        ('label_replace(a,"b",$service,"c","")', "$service", "only as the value"),
        ("{__name__=$service}", "$service", "only as the value"),
        ("$service", "$service", "only as the value"),
        ('a{x="$service"}', "$service", "without quotes"),
        ("a{x=`$nope`}", "$nope", "without quotes"),
        ('a{x="${service}"}', "${", "without quotes"),
        ("a > $window", "$window", "only in [..] or after offset"),
        ("a{x=$window}", "$window", "only in [..] or after offset"),
        ("a[5$window]", "$window", "only in [..] or after offset"),
        ("a{x=$widnow}", "$widnow", "unknown placeholder"),
        ("a{x=$}", "$", "lone $"),
        ("sum(a)$baseline", "", "not PromQL"),
        ("a$baseline offset 1d", "", "not PromQL"),
        ("a$baseline @ 5", "", "not PromQL"),
        ("sum(rate(a))", "", "not PromQL"),
        ('a{x="y"', "", "not PromQL"),
        ("nosuchfunction(a)", "", "not PromQL"),
        ("a[5m]", "", "no single number"),
        ("a[5m:1m]", "", "no single number"),
        ('a{x="1" or x="2"}', "", "not Prometheus"),
        ("  ", "", "empty"),
        ("a" * 9000, "", "characters"),
    ],
)
def test_a_bad_query_is_caught_before_it_is_sent(query: str, token: str, words: str) -> None:
    """A syntax error, an unknown name, or a placeholder where a label could do more than choose series."""
    fault = check_query(query, durations=DURATIONS, bindings=BINDINGS)[0]
    assert (fault.token, words in fault.message) == (token, True), fault


@pytest.mark.parametrize("query", ["sum(a)", "a[5m]", "a offset 5m", "a @ 3", "1"])
def test_an_input_is_one_selector_of_the_present(query: str) -> None:
    """The age of an old sample, or of a sum, says nothing."""
    assert check_query(query, durations=DURATIONS, bindings=BINDINGS, selector_only=True)


def test_what_a_query_reads_is_known() -> None:
    """Metrics, matchers, shifts and grouping labels, for `firebreak lint --prometheus`."""
    query = 'sum by (le) (rate(a{x!~"1"}[5m] offset 7d)) / on (y) group_left (z) b'
    found = [(s.metric, s.shifted, [(m.name, m.op, m.value) for m in s.matchers]) for s in selectors(query)]
    assert found == [("a", True, [("x", "!~", "1")]), ("b", False, [])]
    assert grouping_labels(query) == ("y", "le")
    assert placeholders('a{x=$b, y="$c"}[$d] # $e') == ("b", "d")


def test_dummy_values_are_what_the_parser_was_shown() -> None:
    """The library's own rule, on which the check stands: a bare placeholder is no PromQL."""
    with pytest.raises(ValueError, match=r"\$"):
        promql_parser.parse("a[$window]")


def test_a_query_of_more_parts_than_can_be_read_in_time_is_refused_unparsed() -> None:
    """Parser and walk take the square of it or worse: a document would hold up the worker that loads it."""
    for query in ("+".join(["up"] * 2700), "(" * 4000 + "up" + ")" * 4000, "-" * 8000 + "up", "ceil(" * 1300):
        (fault,) = check_query(query[:8000], durations=(), bindings=())
        assert f"at most {MAX_PARTS} are read" in fault.message


def test_a_query_of_as_many_parts_as_may_be_is_read_whole() -> None:
    """What stands in strings and comments is no part of it. (The parser package's own walk took minutes here.)"""
    query = " or ".join(f'up{{path="{n}(((((+"}}' for n in range(MAX_PARTS // 3)) + " # ((((("
    assert check_query(query, durations=(), bindings=()) == ()
    assert [s.matchers[0].value for s in selectors(query)] == [f"{n}(((((+" for n in range(MAX_PARTS // 3)]
