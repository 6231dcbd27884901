"""What became of a commit of the portal's whose answer was lost: known, also where a standby has taken over since."""

import psycopg
import pytest

from relay.core.errors import StoreUnavailableError
from relay.store.portal.database import Schema
from relay.store.portal.postgres import PostgresDriver
from relay.store.postgres.options import PostgresOptions
from tests.support.postgres import Cluster, shared

pytestmark = pytest.mark.peers
THINGS = Schema(module="things", steps=(("CREATE TABLE things(name TEXT PRIMARY KEY)",),))


def driver_on(dsn):
    driver = PostgresDriver(PostgresOptions(dsn=dsn, node="n1", schema="portal", settle=30.0))
    driver.prepare([THINGS])
    return driver


@pytest.fixture
def driver():
    driver = driver_on(shared().database())
    yield driver
    driver.close()


def begun(driver, name="one"):
    link = driver.connect(writing=True)
    driver.begin(link, writing=True)
    link.run("INSERT INTO things(name) VALUES(?)", name)
    return link


def losing(monkeypatch, link, *, before):
    """The connection is lost at COMMIT: before the server has it, or with its answer."""
    run = link.run

    def lost(sql, *bindings):
        if sql != "COMMIT":
            return run(sql, *bindings)
        if not before:
            run(sql)
        link.connection.close()
        raise psycopg.OperationalError("the connection was lost")

    monkeypatch.setattr(link, "run", lost)


def things(driver):
    link = driver.connect(writing=False)
    found = [name for (name,) in link.rows("SELECT name FROM things ORDER BY name")]
    link.close()
    return found


def test_an_answer_that_was_lost_is_found(driver, monkeypatch):
    link = begun(driver)
    losing(monkeypatch, link, before=False)
    again = driver.commit(link)
    assert things(driver) == ["one"]
    driver.begin(again, writing=True)
    again.run("INSERT INTO things(name) VALUES(?)", "two")
    driver.commit(again).close()
    assert things(driver) == ["one", "two"]


def test_a_commit_that_a_standby_may_lack_counts_once_a_later_one_is_confirmed(driver, monkeypatch):
    link = begun(driver)
    run = link.run

    def reserved(sql, *bindings):
        """As PostgreSQL answers when the wait for a standby was given up: committed, with a warning."""
        if sql == "COMMIT":
            run("DO $$ BEGIN RAISE WARNING 'has already committed locally'; END $$")
        return run(sql, *bindings)

    monkeypatch.setattr(link, "run", reserved)
    again = driver.commit(link)
    assert again is not link
    assert link.connection.closed
    again.close()
    assert things(driver) == ["one"]


def test_a_commit_that_never_came_is_found_not_to_have_taken_place(driver, monkeypatch):
    driver.commit(begun(driver, "before")).close()
    link = begun(driver)
    losing(monkeypatch, link, before=True)
    with pytest.raises(psycopg.OperationalError, match="lost"):
        driver.commit(link)
    assert things(driver) == ["before"]


def test_nothing_written_leaves_nothing_to_ask_about(driver):
    link = driver.connect(writing=True)
    driver.begin(link, writing=True)
    assert link.rows("SELECT name FROM things") == []
    assert driver.commit(link) is link
    assert link.row("SELECT count(*) FROM commits") == (0,)
    link.close()


def test_on_a_standby_that_took_over_another_commit_of_the_same_number_is_not_taken_for_it(driver, monkeypatch):
    link = begun(driver)
    number = int(link.row("SELECT pg_current_xact_id()::text")[0])
    losing(monkeypatch, link, before=True)
    cluster = Cluster().make()
    try:
        cluster.start()
        there = driver_on(cluster.dsn)
        with psycopg.connect(cluster.dsn, autocommit=True) as other:
            while int(other.execute("SELECT pg_current_xact_id()::text").fetchone()[0]) < number:
                pass
        monkeypatch.setattr(driver, "_options", there._options)
        with pytest.raises((psycopg.OperationalError, StoreUnavailableError)):
            driver.commit(link)
        assert things(there) == []
        there.close()
    finally:
        cluster.remove()
