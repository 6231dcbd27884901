"""Random octets in a pool: none twice, whatever thread, process or moment asks."""

import os
import threading

from relay.app.entropy import Entropy


class Source:
    """Numbers in place of random octets, so that one given twice shows."""

    def __init__(self):
        self.given = 0
        self.reads = []

    def __call__(self, count):
        self.reads.append(count)
        octets = b"".join((self.given + number).to_bytes(4, "big") for number in range((count + 3) // 4))[:count]
        self.given += (count + 3) // 4
        return octets


def test_none_is_given_twice_and_the_source_is_seldom_read():
    source = Source()
    entropy = Entropy(source, clock=lambda: 1.0)
    given = [entropy(20) for _ in range(1000)]
    assert {len(one) for one in given} == {20}
    assert len(set(given)) == 1000
    assert len(source.reads) == 5  # 204 of 20 octets each time


def test_many_at_once_come_from_the_source_itself():
    source = Source()
    assert len(Entropy(source, clock=lambda: 1.0)(5000)) == 5000
    assert source.reads == [5000]


def test_what_has_lain_for_a_while_is_thrown_away_whichever_way_the_clock_went():
    source, now = Source(), [100.0]
    entropy = Entropy(source, clock=lambda: now[0])
    for moment, reads in ((100.0, 1), (100.04, 1), (100.06, 2), (100.1, 2), (90.0, 3), (1000.0, 4)):
        now[0] = moment
        entropy(8)
        assert len(source.reads) == reads, moment


def test_threads_get_different_octets():
    entropy = Entropy(clock=lambda: 1.0)
    given, begin = [], threading.Barrier(4)

    def take():
        begin.wait(60)
        given.extend([entropy(20) for _ in range(2000)])

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given)) == 8000


def test_a_child_gives_other_octets_than_its_parent():
    entropy = Entropy(clock=lambda: 1.0)
    entropy(20)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:  # nothing but this: the parent's threads are not here
        os.write(writer, entropy(20))
        os._exit(0)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(reader, "rb") as answer:
        theirs = answer.read()
    assert len(theirs) == 20
    assert theirs != entropy(20)
