"""What a check read is written on once, and only while it is what was bound."""

from __future__ import annotations

from typing import Any

from activities.actions.kept_objects import KeptObjects


def version(number: int) -> dict[str, Any]:
    return {"metadata": {"name": "pay", "resourceVersion": str(number)}}


def test_an_object_is_given_out_once() -> None:
    """A second try must see the world as it is then."""
    kept = KeptObjects()
    kept.keep("a", version(1))
    assert kept.take("a", "1") == version(1)
    assert kept.take("a", "1") is None


def test_another_version_than_the_bound_one_is_never_given_out() -> None:
    """Nor is it kept for later."""
    kept = KeptObjects()
    kept.keep("a", version(1))
    assert kept.take("a", "2") is None
    assert kept.take("a", "1") is None
    assert kept.take("b", "1") is None


def test_the_oldest_goes_first_when_there_are_too_many() -> None:
    """A step that is looked at again is as new as any."""
    kept = KeptObjects(most=2)
    for key, number in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        kept.keep(key, version(number))
    assert kept.take("b", "2") is None
    assert kept.take("a", "3") == version(3)
    assert kept.take("c", "4") == version(4)
