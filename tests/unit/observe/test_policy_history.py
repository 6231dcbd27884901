"""Which policy ran when and where, and what it said: kept in either store, shown by ``postern policy history``."""

import asyncio
import itertools
import json
import os
import time

import pytest
from click.testing import CliRunner

from relay.app.queue import build_store
from relay.app.stock import open_vault
from relay.cli import main
from relay.config.keyfiles import load_ring, update_ring
from relay.config.load import load
from relay.core.errors import CorruptError
from relay.demo.site import SiteOptions
from relay.observe.policy_history import RUNS, TEXTS, PolicyHistory, opened, read_files, run_of
from tests.support.composed import QuickSite
from tests.support.postgres import shared

PATIENT = "jane.roe@mail.example"
FIRST = f"policy: clinic\ninclude: [more.yml]\nlists: {{ vip: [{PATIENT}] }}\n"
KEPT = 1000.0


class Kept:
    """A site's store, and a policy beside it."""

    def __init__(self, directory, store):
        self.site = QuickSite(directory, SiteOptions(settings={"store": store, "node": "alpha"}))
        self.site.prepare()
        self.settings = load(self.site.config)
        self.vault = open_vault(self.settings)
        self.now = 1_800_000_000.0
        self.root = directory / "policies"
        self.root.mkdir()
        self.write(FIRST)
        (self.root / "more.yml").write_text("rules: []\n")
        (self.root / "consented.csv").write_text(f"{PATIENT},clinic,2026-01-01\n")

    def write(self, text):
        (self.root / "main.yaml").write_text(text)

    @property
    def names(self):
        return [str(self.root / name) for name in ("main.yaml", "more.yml", "consented.csv")]

    def history(self, store, node="alpha"):
        return PolicyHistory(store, self.vault, node, lambda: self.now, keep=lambda: KEPT * 86_400)

    async def opened(self):
        store = build_store(self.settings, self.vault)
        await store.open(f"test-{next(self.lives)}")
        return store

    lives = itertools.count()

    def shows(self, *arguments):
        env = {"POSTERN_CONFIG": str(self.site.config)}
        return CliRunner().invoke(main, ["policy", "history", *arguments], env=env)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def kept(request, tmp_path):
    store = "sqlite" if request.param == "sqlite" else shared().database()
    yield Kept(tmp_path, store)
    if store != "sqlite":
        shared().drop(store)


async def runs(store):
    return [(run.node, run.version) for run in map(run_of, await store.all_known(RUNS))]


async def test_a_version_is_noted_once_with_its_text_and_a_node_each_time_it_changes(kept):
    store = await kept.opened()
    alpha, beta = kept.history(store), kept.history(store, "beta")
    for version, at in (("a" * 64, 1), ("a" * 64, 2), ("b" * 64, 3), ("a" * 64, 4)):
        kept.now = 1_800_000_000.0 + at
        await alpha.note(version, "clinic", kept.names)
    await beta.note("a" * 64, "clinic", kept.names)
    await kept.history(store).note("a" * 64, "clinic", kept.names)  # started anew, with the same
    assert await runs(store) == [("alpha", "a" * 64), ("alpha", "b" * 64), ("alpha", "a" * 64), ("beta", "a" * 64)]
    known = await store.known(TEXTS, "a" * 64)
    assert PATIENT.encode() not in known.value
    text = opened(known, kept.vault)
    assert (text.name, [file.name for file in text.files]) == ("clinic", ["main.yaml", "more.yml", "consented.csv"])
    assert text.files[0].text == FIRST
    assert text.files[2].text == "", "lists hold patients' addresses"
    assert text.files[2].size == len(f"{PATIENT},clinic,2026-01-01\n")
    await store.close()


async def test_texts_are_sealed_anew_after_a_rotation_so_that_the_old_key_can_go(kept):
    store = await kept.opened()
    history = kept.history(store)
    await history.note("a" * 64, "clinic", kept.names)
    update_ring(kept.settings.keys_dir, load_ring(kept.settings.keys_dir).rotated(now=time.time(), random=os.urandom))
    kept.vault.adopt(load_ring(kept.settings.keys_dir))
    await history.note("a" * 64, "clinic", kept.names)
    known = await store.known(TEXTS, "a" * 64)
    assert int.from_bytes(known.value[3:7]) == 2
    assert opened(known, kept.vault).files[0].text == FIRST
    assert len(await runs(store)) == 1
    await store.close()


async def test_what_was_changed_in_the_store_is_not_shown(kept):
    store = await kept.opened()
    await kept.history(store).note("a" * 64, "clinic", kept.names)
    known = await store.known(TEXTS, "a" * 64)
    changed = type(known)(kind=TEXTS, name="c" * 64, value=known.value, until=known.until)
    with pytest.raises(CorruptError, match="cannot be opened"):
        opened(changed, kept.vault)
    await store.close()


def test_a_file_too_large_is_kept_as_its_digest(tmp_path):
    for name in ("main.yaml", "huge.yaml", "last.yaml"):
        (tmp_path / name).write_text("x" * (9_000_000 if name == "huge.yaml" else 10))
    found = read_files([str(tmp_path / name) for name in ("main.yaml", "huge.yaml", "last.yaml")])
    assert [(file.size, len(file.text)) for file in found] == [(10, 10), (9_000_000, 0), (10, 10)]


async def note_two(kept):
    store = await kept.opened()
    history = kept.history(store)
    await history.note("a" * 64, "clinic", kept.names)
    kept.now += 60
    kept.write(FIRST + "# a second thought\n")
    (kept.root / "consented.csv").write_text("")
    await history.note("b" * 64, "clinic", kept.names)
    await store.close()


def test_operators_see_runs_texts_and_what_changed(kept):
    asyncio.run(note_two(kept))
    listed = json.loads(kept.shows("--json").output)
    assert [(row["node"], row["version"][0]) for row in listed] == [("alpha", "a"), ("alpha", "b")]
    assert listed[0]["until"] == listed[1]["since"] == 1_800_000_060.0
    assert listed[1]["until"] is None
    assert "aaaaaaaaaaaa" in kept.shows("list").output
    shown = kept.shows("show", "aaaaaa").output
    assert FIRST in shown
    assert "not kept here" in shown
    changes = kept.shows("diff", "aaaaaa").output
    assert "+# a second thought" in changes
    assert "-# not kept here: " in changes
    assert "+# not kept here: 0 octets" in changes
    assert changes == kept.shows("diff", "aaaaaa", "bbbbbb").output
    for wrong, told in (("cccccc", "not the beginning"), ("aaa", "6 digits")):
        refused = kept.shows("show", wrong)
        assert refused.exit_code == 1
        assert told in refused.output
