"""The error tree is a promise to the person who is paged."""

from __future__ import annotations

import inspect

import pytest

from firebreak.domain import errors

ALL = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.FirebreakError)]


@pytest.mark.parametrize("kind", ALL)
def test_each_error_says_what_to_do_next(kind: type[errors.FirebreakError]) -> None:
    """A sentence, ending like one."""
    step = kind("it broke").next_step()
    assert len(step.split()) >= 4
    assert step.endswith(".")


def test_advice_given_at_the_place_wins() -> None:
    """The place that raises knows best."""
    assert errors.TargetNotFound("gone", advice="Look there.").next_step() == "Look there."


def test_the_docstring_draws_every_error() -> None:
    """The tree in the module's docstring is complete."""
    assert errors.__doc__ is not None
    for kind in ALL:
        assert kind.__name__ in errors.__doc__
