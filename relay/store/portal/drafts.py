"""Drafts over the portal's database: words and files sealed, files in the pieces in which they arrived."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final

from relay.core.errors import CorruptError, SealError
from relay.core.portal_drafts import Draft, DraftKind, Upload
from relay.core.ports import Vault
from relay.store.codec import dump, load
from relay.store.portal.database import Cursor, Database, Schema
from relay.store.portal.tables import marks

SCHEMA: Final = Schema(
    module="drafts",
    steps=(
        (
            """CREATE TABLE drafts(
                id TEXT PRIMARY KEY,
                deposit_id TEXT NOT NULL,
                kind TEXT NOT NULL,
                saved_at REAL NOT NULL,
                sealed BLOB NOT NULL,
                UNIQUE(deposit_id, kind)
            )""",
            "CREATE INDEX drafts_saved ON drafts(saved_at)",
            """CREATE TABLE uploads(
                id TEXT PRIMARY KEY,
                draft_id TEXT NOT NULL,
                place INTEGER NOT NULL,
                size INTEGER NOT NULL,
                received INTEGER NOT NULL,
                sealed BLOB NOT NULL
            )""",
            "CREATE INDEX uploads_draft ON uploads(draft_id, place)",
            """CREATE TABLE upload_pieces(
                upload_id TEXT NOT NULL,
                start INTEGER NOT NULL,
                sealed BLOB NOT NULL,
                PRIMARY KEY(upload_id, start)
            )""",
        ),
    ),
)
_UPLOADS: Final = "SELECT id, size, received, sealed FROM uploads WHERE draft_id = ? ORDER BY place, id"
_SWEPT: Final = 500


class StoredDrafts:
    """Implements :class:`relay.core.portal_drafts.Drafts`."""

    def __init__(self, database: Database, vault: Vault) -> None:
        """Take what it works with.

        Args:
            database: opened with the schemas of deposits and drafts.
            vault: over the portal's own key ring.
        """
        self._database = database
        self._vault = vault

    async def of(self, deposit_id: str, kind: DraftKind) -> Draft | None:
        """The draft, if one was begun."""
        return await self._database.read(lambda cursor: self._find(cursor, deposit_id, kind))

    async def save(self, draft: Draft, *, onto: Callable[[Draft], Draft] | None = None) -> Draft:
        """Keep its words in the place of those kept before; the draft as it stands."""
        fresh = replace(draft, uploads=())

        def work(cursor: Cursor) -> Draft:
            sql = "INSERT INTO drafts(id, deposit_id, kind, saved_at, sealed) VALUES(?, ?, ?, ?, ?)"
            while (there := self._find(cursor, draft.deposit_id, draft.kind, lock=" FOR UPDATE")) is None:
                values = (draft.id, draft.deposit_id, draft.kind.value, draft.saved_at, self._sealed(fresh))
                if cursor.run(f"{sql} ON CONFLICT DO NOTHING", *values):
                    return fresh  # else another process began one between the two statements
            changed = draft if onto is None else onto(there)
            kept = replace(changed, id=there.id, post_id=there.post_id, uploads=())
            sql = "UPDATE drafts SET saved_at = ?, sealed = ? WHERE id = ?"
            cursor.run(sql, kept.saved_at, self._sealed(kept), kept.id)
            return replace(kept, uploads=there.uploads)

        return await self._database.transact(work)

    async def add(self, draft_id: str, upload: Upload, *, most: int, octets: int) -> bool:
        """Make room for a file; whether the draft is still there, and holds no more than its bounds with it."""
        sealed = self._vault.seal("portal-upload", upload.id, dump(replace(upload, received=0)))

        def work(cursor: Cursor) -> bool:
            if cursor.row("SELECT 1 FROM drafts WHERE id = ? FOR UPDATE", draft_id) is None:
                return False
            found = (
                "SELECT COALESCE(MAX(place), 0) + 1, COUNT(*), COALESCE(SUM(size), 0) FROM uploads WHERE draft_id = ?"
            )
            self._database.require(upload.size)
            place, there, taken = cursor.row(found, draft_id) or (1, 0, 0)
            if there >= most or taken + upload.size > octets:
                return False
            sql = "INSERT INTO uploads(id, draft_id, place, size, received, sealed) VALUES(?, ?, ?, ?, 0, ?)"
            cursor.run(sql, upload.id, draft_id, place, upload.size, sealed)
            return True

        return await self._database.transact(work)

    async def append(self, upload_id: str, start: int, octets: bytes) -> int:
        """Take the next octets of a file; how many have arrived in all."""

        def work(cursor: Cursor) -> int:
            row = cursor.row("SELECT size, received FROM uploads WHERE id = ? FOR UPDATE", upload_id)
            if row is None:
                return 0
            size, received = int(row[0]), int(row[1])
            if start > received or start + len(octets) <= received or start + len(octets) > size:
                return received
            fresh = octets[received - start :]
            self._database.require(len(fresh))
            sealed = self._vault.seal("portal-upload-piece", f"{upload_id}:{received}", fresh)
            cursor.run(
                "INSERT INTO upload_pieces(upload_id, start, sealed) VALUES(?, ?, ?)", upload_id, received, sealed
            )
            total = received + len(fresh)
            cursor.run("UPDATE uploads SET received = ? WHERE id = ?", total, upload_id)
            return total

        return await self._database.transact(work)

    async def finish(self, upload_id: str) -> None:
        """What has arrived of a file is all of it."""
        sql = "UPDATE uploads SET size = received WHERE id = ?"
        await self._database.transact(lambda cursor: cursor.run(sql, upload_id))

    async def content(self, upload_id: str) -> AsyncIterator[bytes]:
        """What has arrived of a file."""
        at = 0
        while (row := await self._database.read(_piece_from(upload_id, at))) is not None:
            start = int(row[0])
            if start != at:
                raise CorruptError("a piece of an upload is missing")
            piece = self._open("portal-upload-piece", f"{upload_id}:{start}", row[1])
            yield piece
            at += len(piece)

    async def remove(self, draft_id: str, upload_id: str) -> None:
        """Delete a file."""

        def work(cursor: Cursor) -> None:
            if cursor.run("DELETE FROM uploads WHERE id = ? AND draft_id = ?", upload_id, draft_id):
                cursor.run("DELETE FROM upload_pieces WHERE upload_id = ?", upload_id)

        await self._database.transact(work)

    async def discard(self, draft_id: str) -> None:
        """Delete the draft and its files."""
        await self._database.transact(lambda cursor: _delete(cursor, [draft_id]))

    async def discard_unreadable(self, deposit_id: str, kind: DraftKind) -> None:
        """Delete the draft and its files if it cannot be opened; one that can stays."""

        def work(cursor: Cursor) -> None:
            try:
                self._find(cursor, deposit_id, kind, lock=" FOR UPDATE")
            except CorruptError:
                sql = "SELECT id FROM drafts WHERE deposit_id = ? AND kind = ?"
                _delete(cursor, [row[0] for row in cursor.rows(sql, deposit_id, kind.value)])

        await self._database.transact(work)

    async def sent(self, draft: Draft, onward: Callable[[Draft], Draft | None]) -> None:
        """Delete it with the files that it names; what ``onward`` makes of the rest is kept in its place."""
        named = {upload.id for upload in draft.uploads}

        def work(cursor: Cursor) -> None:
            there = self._find(cursor, draft.deposit_id, draft.kind, lock=" FOR UPDATE")
            if there is None or there.id != draft.id:
                return
            late = tuple(upload for upload in there.uploads if upload.id not in named)
            kept = onward(replace(there, uploads=late))
            if kept is not None:
                for upload in late:
                    cursor.run("UPDATE uploads SET draft_id = ? WHERE id = ?", kept.id, upload.id)
            _delete(cursor, [there.id])
            if kept is not None:
                sql = "INSERT INTO drafts(id, deposit_id, kind, saved_at, sealed) VALUES(?, ?, ?, ?, ?)"
                sealed = self._sealed(replace(kept, uploads=()))
                cursor.run(sql, kept.id, kept.deposit_id, kept.kind.value, kept.saved_at, sealed)

        await self._database.transact(work)

    async def sweep(self, *, before: float) -> int:
        """Delete drafts not saved since then, and those whose deposit has ended; how many."""

        def work(cursor: Cursor) -> int:
            sql = (
                "SELECT id FROM drafts WHERE saved_at < ?"
                " OR deposit_id IN (SELECT id FROM deposits WHERE ended_at IS NOT NULL) LIMIT ?"
            )
            found = [row[0] for row in cursor.rows(sql, before, _SWEPT)]
            _delete(cursor, found)
            return len(found)

        return await self._database.transact(work)

    # --- inside

    def _find(self, cursor: Cursor, deposit_id: str, kind: DraftKind, lock: str = "") -> Draft | None:
        sql = f"SELECT id, sealed FROM drafts WHERE deposit_id = ? AND kind = ?{lock}"  # noqa: S608  ours
        row = cursor.row(sql, deposit_id, kind.value)
        if row is None:
            return None
        draft = load(Draft, self._open("portal-draft", row[0], row[1]), "a draft")
        return replace(draft, uploads=tuple(self._upload(one) for one in cursor.rows(_UPLOADS, draft.id)))

    def _upload(self, row: tuple[Any, ...]) -> Upload:
        upload = load(Upload, self._open("portal-upload", row[0], row[3]), "an upload")
        return replace(upload, size=int(row[1]), received=int(row[2]))

    def _sealed(self, draft: Draft) -> bytes:
        return self._vault.seal("portal-draft", draft.id, dump(draft))

    def _open(self, purpose: str, context: str, sealed: bytes) -> bytes:
        try:
            return self._vault.open(purpose, context, sealed)
        except SealError as error:
            raise CorruptError(f"a draft of the portal cannot be opened: {error}") from error


def _piece_from(upload_id: str, at: int) -> Callable[[Cursor], tuple[Any, ...] | None]:
    sql = "SELECT start, sealed FROM upload_pieces WHERE upload_id = ? AND start >= ? ORDER BY start LIMIT 1"
    return lambda cursor: cursor.row(sql, upload_id, at)


def _delete(cursor: Cursor, ids: list[str]) -> None:
    if not ids:
        return
    those = f"draft_id IN ({marks(ids)})"
    cursor.run(f"DELETE FROM upload_pieces WHERE upload_id IN (SELECT id FROM uploads WHERE {those})", *ids)  # noqa: S608  marks
    cursor.run(f"DELETE FROM uploads WHERE {those}", *ids)  # noqa: S608  marks
    cursor.run(f"DELETE FROM drafts WHERE id IN ({marks(ids)})", *ids)  # noqa: S608  marks
