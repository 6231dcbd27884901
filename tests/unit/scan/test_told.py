"""Whom a text is about is told in time that grows with the text, not with its square."""

import pytest

from relay.core.phi import FindingGroup
from relay.scan import told
from relay.scan.model import Hit

MANY = 300


class Counted(list):
    """Health context that counts how many of it were looked at."""

    looked = 0

    def __iter__(self):
        for item in super().__iter__():
            self.looked += 1
            yield item

    def __getitem__(self, which):
        found = super().__getitem__(which)
        self.looked += len(found) if isinstance(which, slice) else 1
        return found


def row(group, start, weight):
    return [Hit("x", group, place, place + 8, weight, b"%d" % place) for place in range(start, start + 20 * MANY, 20)]


@pytest.mark.parametrize(("gap", "is_plain"), [(200, False), (100, True)])
def test_what_is_certain_is_held_against_the_health_beside_it_alone(gap, is_plain):
    certain = row(FindingGroup.IDENTIFIER, 0, 0.9)
    health = Counted(row(FindingGroup.HEALTH, certain[-1].end + gap, 0.5))
    assert told._is_plain(certain, health) is is_plain
    assert health.looked <= 2 * MANY
