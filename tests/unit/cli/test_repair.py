"""``postern queue repair`` as operators run it: by the wrong user, on the wrong directory, on what is not damaged."""

import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest

from relay.demo.site import Site, SiteOptions
from relay.store.sqlite.shelf import SqliteShelf


@pytest.fixture
def site():
    """An installation with an empty queue, in a directory that every user may enter."""
    directory = Path(tempfile.mkdtemp(prefix="postern-repair-"))
    directory.chmod(0o755)
    site = Site(directory)
    site.options = SiteOptions(workers=1, dkim=("ed25519",))
    site.prepare()
    yield site
    shutil.rmtree(directory)


@pytest.fixture
async def queue(site):
    """The directory of its queue."""
    queue = site.directory / "data" / "queue"
    await SqliteShelf(queue, site.directory / "run", 100_000).close()
    return queue


def repair(site, *arguments):
    command = [*site.command("queue"), "repair", *arguments]
    return subprocess.run(
        command, env=site.environment(), capture_output=True, text=True, timeout=120, check=False, cwd="/"
    )


def test_a_queue_that_is_not_there_is_not_called_whole(site):
    (site.directory / "data").mkdir(exist_ok=True)
    done = repair(site)
    assert done.returncode == 1
    assert "there is no queue to repair" in done.stderr
    assert not (site.directory / "data" / "queue" / "queue.db").exists()


async def test_what_is_whole_is_told_as_json_too(site, queue):
    done = repair(site, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"set_aside": "", "troubles": []}


async def test_a_queue_of_a_newer_version_is_not_taken_for_a_damaged_one(site, queue):
    with sqlite3.connect(queue / "queue.db") as connection:
        connection.execute("PRAGMA user_version=999")
    connection.close()
    before = sorted(path.name for path in queue.iterdir() if not path.name.startswith("queue.db-"))
    done = repair(site)
    assert done.returncode == 1
    assert "newer Postern" in done.stderr
    assert sorted(path.name for path in queue.iterdir() if not path.name.startswith("queue.db-")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be the wrong user here")
async def test_what_root_repairs_belongs_to_whose_queue_it_is(site, queue):
    """Files that root had made anew would keep Postern from starting, when it is needed most."""
    owner = pwd.getpwnam("nobody")
    for path in (site.directory, *site.directory.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
    done = repair(site, "--force")
    assert done.returncode == 0, done.stderr
    others = [path for path in (site.directory / "data").rglob("*") if path.stat().st_uid != owner.pw_uid]
    assert not others
