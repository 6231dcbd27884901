"""Every destination is served by somebody: the picked workers of a roster, and any worker that is run by hand."""

from types import SimpleNamespace

import pytest

from relay.app.options import dispatch_options

DESTINATIONS = [f"d{number}.example" for number in range(200)]


def settings(workers, limit=20, *, rate=0, in_hand=10):
    delivery = SimpleNamespace(
        concurrency_per_destination=limit,
        session_idle=1.0,
        messages_per_session=1,
        in_hand=in_hand,
        rate_per_destination=rate,
    )
    return SimpleNamespace(delivery=delivery, workers=workers)


@pytest.mark.parametrize(("workers", "limit"), [(1, 1), (4, 1), (4, 3), (4, 4), (3, 20)])
def test_the_roster_shares_a_destinations_connections_exactly(workers, limit):
    options = [dispatch_options(settings(workers, limit), number) for number in range(1, workers + 1)]
    for name in DESTINATIONS:
        connections = sum(one.lane(name).concurrency for one in options if one.serves(name))
        assert connections == limit


@pytest.mark.parametrize(("nodes", "workers", "limit"), [(2, 1, 1), (2, 2, 3), (3, 2, 20), (3, 4, 5)])
def test_all_nodes_together_share_a_destinations_connections_exactly(nodes, workers, limit):
    places = [(rank, number) for rank in range(nodes) for number in range(1, workers + 1)]
    options = [dispatch_options(settings(workers, limit), number, (rank, nodes)) for rank, number in places]
    for name in DESTINATIONS:
        assert sum(one.lane(name).concurrency for one in options if one.serves(name)) == limit


@pytest.mark.parametrize("number", [0, 5, 48123])
def test_a_worker_run_by_hand_serves_everything(number):
    options = dispatch_options(settings(4, 1), number)
    assert all(options.serves(name) for name in DESTINATIONS)
    assert options.lane("d1.example").concurrency >= 1


@pytest.mark.parametrize(("rate", "backlog"), [(0, 100), (60, 30), (1, 1), (100_000, 100)])
def test_under_a_rate_no_more_than_a_minute_of_a_destination_is_in_hand(rate, backlog):
    assert dispatch_options(settings(2, rate=rate, in_hand=200), 1).lane_backlog == backlog
