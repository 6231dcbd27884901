"""Levels are ordered, and the words of policies map to them."""

import pytest

from relay.core.level import Level


def test_they_are_ordered():
    assert Level.CLEAR < Level.ENCRYPTED < Level.VERIFIED < Level.AUTHENTICATED


@pytest.mark.parametrize("level", Level)
def test_words_go_both_ways(level):
    assert Level.from_word(level.word) is level


def test_opportunistic_is_a_wish_and_not_a_level():
    assert Level.from_word("opportunistic") is Level.CLEAR
    with pytest.raises(KeyError):
        Level.from_word("strong")
