"""The law tests hold with either store."""

import contextlib
import os

import pytest

from tests.support.postgres import shared

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)]
SLOW = BOTH if os.environ.get("POSTERN_REQUIRE_PEERS") == "1" else BOTH[:1]
"""For families of tests, and for slow ones that the store has little part in: both stores decide whether a change
lands; one keeps `make test` on a desk under ten minutes."""


@contextlib.contextmanager
def named(kind):
    """What ``store`` says in the configuration: the default, or a fresh database, which goes with the block."""
    if kind == "sqlite":
        yield "sqlite"
        return
    cluster = shared()
    url = cluster.database()
    try:
        yield url
    finally:
        cluster.drop(url)


@pytest.fixture(params=BOTH)
def store(request):
    """Either store, always."""
    with named(request.param) as store:
        yield store


@pytest.fixture(params=SLOW)
def usual_store(request):
    """Either store where peers are required, else the default."""
    with named(request.param) as store:
        yield store


@pytest.fixture(scope="module", params=SLOW)
def one_store(request):
    """As ``usual_store``, for all tests of a file."""
    with named(request.param) as store:
        yield store
