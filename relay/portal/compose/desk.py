"""Drafts and what becomes of them, apart from pages: begun, added to, sent."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

from relay.core.address import Address
from relay.core.ids import ENTROPY_BYTES, queue_id
from relay.core.portal import Deposit, Post, PostKind
from relay.core.portal_drafts import Draft, DraftKind, Drafts, Upload, Wording
from relay.core.ports import Scanner
from relay.mail import edit
from relay.portal.checks import hold, limit
from relay.portal.compose.letter import Answer, Attached, write
from relay.portal.compose.people import others, sender, typed
from relay.portal.compose.windows import Clash, Window, clashes, merged
from relay.portal.message.files import SAFE_TYPES, is_risky, safe_name
from relay.portal.message.outline import Part
from relay.portal.message.reader import MessageReader
from relay.portal.rooms import Rooms
from relay.portal.tokens import digest, new_token

_PIECE: Final = 256 * 1024
_REMEMBERED: Final = 86_400.0
"""Seconds that what was sent from a page is known: longer than its form is taken."""
_REFUSED: Final = frozenset({"bomb", "depth", "files", "crash", "timeout"})
"""What the scan says of an attachment that is not taken: it unpacks without end, or brings a reader down."""
_HIDDEN: Final = ("Bcc", "Resent-Bcc", "Return-Path")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeOptions:
    """What an answer may hold (law 6).

    Attributes:
        text: characters.
        files: how many.
        octets: of all files.
        addresses: to whom a message may be forwarded at once.
        forward_octets: of a message that may be forwarded.
        at_once: answers that are put together at the same time; each takes three times its size in memory.
    """

    text: int = 50_000
    files: int = 10
    octets: int = 20_000_000
    addresses: int = 5
    forward_octets: int = 40 * 1024 * 1024
    at_once: int = 2


class ComposeError(Exception):
    """Something that the reader can put right; ``key`` is of the words that say what."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = values


class UploadSink:
    """A file of a form on its way into a draft: its size is not known before it has all arrived.

    A file that is not taken is read to its end all the same, so that the browser gets to see why.

    Attributes:
        problem: why it is not taken.
        upload_id: the file's; empty where none was begun.
    """

    def __init__(self, drafts: Drafts, draft: Draft, upload: Upload | None, problem: ComposeError | None) -> None:
        self.problem = problem
        self.upload_id = upload.id if upload else ""
        self._drafts = drafts
        self._draft = draft
        self._upload = upload
        self._held = bytearray()
        self._sent = 0

    async def feed(self, octets: bytes) -> None:
        """The next octets."""
        if self._upload is None:
            return
        self._held += octets
        if self._sent + len(self._held) > self._upload.size:
            self.problem = ComposeError("compose.too_big", name=self._upload.name)
            await self.abandon()
        elif len(self._held) >= _PIECE:
            await self._flush()

    async def end(self) -> None:
        """It has arrived whole."""
        await self._flush()
        if self._upload is not None:
            await self._drafts.finish(self._upload.id)

    async def abandon(self) -> None:
        """It broke off, or is not taken: nothing of it is kept."""
        if self._upload is not None:
            await self._drafts.remove(self._draft.id, self._upload.id)
            self._upload = None

    async def _flush(self) -> None:
        if self._held and self._upload is not None:
            self._sent = await self._drafts.append(self._upload.id, self._sent, bytes(self._held))
        self._held.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a reader wrote: the text, whom it is forwarded to as typed, and whether it answers all."""

    text: str = field(default="", repr=False)
    to: str = field(default="", repr=False)
    to_all: bool = False


def _once(deposit: Deposit, kind: DraftKind, words: Written, page: str) -> str:
    return digest("\0".join((deposit.id, kind, page, words.text, words.to, str(words.to_all))))


def _page(deposit: Deposit, kind: DraftKind, page: str) -> str:
    return digest(f"left\0{deposit.id}\0{kind}\0{page}")


class Desk:
    """Where answers are written."""

    def __init__(
        self, rooms: Rooms, drafts: Drafts, reader: MessageReader, scanner: Scanner, options: ComposeOptions
    ) -> None:
        self._rooms = rooms
        self._drafts = drafts
        self._reader = reader
        self._scanner = scanner
        self.options = options
        self._room = asyncio.Semaphore(options.at_once)

    # --- drafts

    async def draft(self, deposit: Deposit, kind: DraftKind) -> Draft | None:
        """The draft, if one was begun."""
        return await self._drafts.of(deposit.id, kind)

    async def begun(self, deposit: Deposit, kind: DraftKind) -> Draft:
        """The draft; an empty one is begun where none is."""
        return await self._drafts.save(self._new(deposit, kind), onto=lambda there: there)

    async def save(
        self, deposit: Deposit, kind: DraftKind, words: Written, window: Window, *, pressed: bool = True
    ) -> tuple[Draft, Clash | None]:
        """Keep what was written; never refused for what it holds, but cut at four times what may be sent.

        Returns:
            The draft, and what happened to it in another window meanwhile.
        """
        most = 4 * self.options.text
        text, to = words.text[:most], words.to[:most]
        mine = replace(self._new(deposit, kind), text=text, to=to, to_all=words.to_all, page=window.page)
        found: list[Draft] = []

        def onto(there: Draft) -> Draft:
            found.append(there)
            return merged(there, mine, window, pressed=pressed)

        draft = await self._drafts.save(mine, onto=onto)
        if draft.id == mine.id:
            return draft, Clash.GONE if window.began() else None
        return draft, Clash.APART if clashes(found[-1], mine, window) else None

    def _new(self, deposit: Deposit, kind: DraftKind) -> Draft:
        now = self._rooms.clock()
        return Draft(
            id=new_token(self._rooms.entropy)[:22],
            deposit_id=deposit.id,
            kind=kind,
            post_id=queue_id(now, self._rooms.entropy(ENTROPY_BYTES)),
            saved_at=now,
        )

    async def is_left(self, deposit: Deposit, kind: DraftKind, page: str) -> bool:
        """Whether what was written on this page was sent or thrown away from it."""
        return bool(page) and await self._rooms.accounts.is_used(_page(deposit, kind, page))

    async def was_sent(self, deposit: Deposit, kind: DraftKind, words: Written, page: str) -> bool:
        """Whether these very words were sent from this page."""
        return bool(page) and await self._rooms.accounts.is_used(_once(deposit, kind, words, page))

    async def take_back(self, draft: Draft, page: str) -> None:
        """Forget what this page kept after its words were sent."""
        if draft.page == page:
            await self._drafts.discard(draft.id)

    async def discard(self, deposit: Deposit, kind: DraftKind, *, page: str = "") -> None:
        """Throw it away; what its page saves later is not kept."""
        await self._leave(deposit, kind, page)
        draft = await self._drafts.of(deposit.id, kind)
        if draft is not None:
            await self._drafts.discard(draft.id)

    async def begin_anew(self, deposit: Deposit, kind: DraftKind, words: Written, window: Window) -> None:
        """Throw away a draft that cannot be opened, and keep these words, if there are any, as a new one."""
        await self._drafts.discard_unreadable(deposit.id, kind)
        if words.text or words.to:
            await self.save(deposit, kind, words, window)

    # --- files

    async def begin(self, draft: Draft, name: str, content_type: str, size: int) -> Upload:
        """Make room for a file of so many octets.

        Raises:
            ComposeError: too many, too large, or of a kind that is not taken.
        """
        limits = self.options
        shown = safe_name(name, content_type, "file")
        if is_risky(shown):
            raise ComposeError("compose.refused_file", name=shown)
        if len(draft.uploads) >= limits.files:
            raise ComposeError("compose.too_many_files", number=limits.files)
        if size > limits.octets - sum(upload.size for upload in draft.uploads):
            raise ComposeError("compose.too_big", name=shown)
        kind = content_type.partition(";")[0].strip().lower()
        upload = Upload(
            id=new_token(self._rooms.entropy)[:22],
            name=shown,
            content_type=kind if kind in SAFE_TYPES and kind != "message/rfc822" else "application/octet-stream",
            size=size,
        )
        if not await self._drafts.add(draft.id, upload, most=limits.files, octets=limits.octets):
            raise ComposeError("compose.too_big", name=shown)  # another was begun, or it was sent, meanwhile
        return upload

    async def sink(self, draft: Draft, name: str, content_type: str) -> UploadSink:
        """Take a file whose size is not known yet: no more than there is room for."""
        room = self.options.octets - sum(upload.size for upload in draft.uploads)
        try:
            upload = await self.begin(draft, name, content_type, max(0, room))
        except ComposeError as error:
            return UploadSink(self._drafts, draft, None, error)
        return UploadSink(self._drafts, draft, upload, None)

    async def append(self, upload_id: str, start: int, octets: bytes) -> int:
        """Take octets of a file; how many have arrived."""
        return await self._drafts.append(upload_id, start, octets)

    async def remove(self, draft: Draft, upload_id: str) -> None:
        """Take a file away."""
        await self._drafts.remove(draft.id, upload_id)

    # --- sending

    async def recipients(self, deposit: Deposit, draft: Draft) -> tuple[Address, ...]:
        """Whom it would go to.

        Raises:
            ComposeError: nobody, or what was typed is no address.
        """
        if draft.kind is DraftKind.FORWARD:
            return self._typed(draft.to)
        message = await self._message(deposit)
        to = sender(deposit, message.header("reply-to"))
        if to is None:
            raise ComposeError("compose.not_allowed")
        return (to, *(others(deposit, message.header("reply-to")) if draft.to_all else ()))

    async def send(self, deposit: Deposit, draft: Draft, *, once: str = "") -> tuple[Address, ...]:
        """Hand it out; to whom it goes. A draft that is sent twice is one message: it keeps its id.

        Args:
            deposit: what is answered.
            draft: the answer.
            once: of the page that it was written on: the same words of the same page are sent once, also when the
                second press of its button finds the draft sent and gone.

        Raises:
            ComposeError: something is missing, too much, or not taken.
            RefusedError: 429; the mailbox has sent as many as it may for now. The draft stays.
        """
        to = await self.recipients(deposit, draft)
        if draft.kind is DraftKind.REPLY and not draft.text.strip():
            raise ComposeError("compose.empty_text")
        if len(draft.text) > self.options.text:
            raise ComposeError("compose.too_long")
        if not all(upload.is_whole for upload in draft.uploads):
            raise ComposeError("compose.broken_off")
        mark = _once(deposit, draft.kind, Written(text=draft.text, to=draft.to, to_all=draft.to_all), once)
        if once and await self._rooms.accounts.is_used(mark):
            await self._drafts.discard(draft.id)
            return to
        rates, mailbox = self._rooms.options.limits, deposit.mailbox.key
        await hold(
            self._rooms,
            limit("answers-written", mailbox, rates.written),
            limit("answers-written-day", mailbox, rates.written_day),
        )
        async with self._room:
            content = await self._write(deposit, draft, to)
            await self._inspect(content)
            kind = PostKind.FORWARD if draft.kind is DraftKind.FORWARD else PostKind.REPLY
            post = Post(
                id=draft.post_id,
                kind=kind,
                recipients=to,
                content=content,
                deposit_id=deposit.id,
                tenant=deposit.tenant,
                at=self._rooms.clock(),
            )
            await self._rooms.ledger.answered(deposit, post)
        await self._rooms.accounts.use_once(mark, until=self._rooms.clock() + _REMEMBERED)
        await self._leave(deposit, draft.kind, once)
        await self._clear(deposit, draft)
        return to

    async def _clear(self, deposit: Deposit, sent: Draft) -> None:
        """Throw away what was sent; what another window wrote or added meanwhile becomes a draft of its own."""

        def onward(there: Draft) -> Draft | None:
            own = Wording(page=there.page, text=there.text, to=there.to, at=there.saved_at)
            known = {("", ""), (sent.text, sent.to), *((one.text, one.to) for one in sent.beside)}
            late = [one for one in (own, *there.beside) if one.page != sent.page and (one.text, one.to) not in known]
            if not late and not there.uploads:
                return None
            *beside, last = sorted(late, key=lambda one: one.at) or [replace(own, page="", text="", to="")]
            fresh = replace(self._new(deposit, sent.kind), text=last.text, to=last.to, page=last.page)
            return replace(fresh, beside=tuple(beside), uploads=there.uploads)

        await self._drafts.sent(sent, onward)

    async def _leave(self, deposit: Deposit, kind: DraftKind, page: str) -> None:
        if page:
            await self._rooms.accounts.use_once(_page(deposit, kind, page), until=self._rooms.clock() + _REMEMBERED)

    def _typed(self, text: str) -> tuple[Address, ...]:
        most = self.options.addresses
        found, wrong = typed(text, most)
        if wrong:
            raise ComposeError("compose.bad_address", address=wrong)
        if not found:
            raise ComposeError("compose.no_address")
        if len(found) > most:
            raise ComposeError("compose.too_many_addresses", number=most)
        return found

    async def _message(self, deposit: Deposit) -> Part:
        return (await self._reader.outline(deposit.id)).parts[0]

    async def _write(self, deposit: Deposit, draft: Draft, to: tuple[Address, ...]) -> bytes:
        message = await self._message(deposit)
        original = b""
        if draft.kind is DraftKind.FORWARD:
            if deposit.size > self.options.forward_octets:
                raise ComposeError("compose.forward_not_allowed")
            whole = await self._reader.octets(deposit.id, 0, deposit.size)
            original = edit.remove(whole, *_HIDDEN)
        answer = Answer(
            deposit=deposit,
            post_id=draft.post_id,
            recipients=to,
            text=draft.text,
            files=[await self._attached(upload) for upload in draft.uploads],
            original=original,
            message_id=message.header("message-id"),
            references=message.header("references"),
            mail_from=self._rooms.options.mail_from,
            brand=self._rooms.options.brand_of(deposit.tenant).name,
            at=draft.saved_at,
        )
        return await asyncio.to_thread(write, answer)

    async def _attached(self, upload: Upload) -> Attached:
        content = b"".join([piece async for piece in self._drafts.content(upload.id)])
        if len(content) != upload.size:  # another window took it away meanwhile, or a piece is lost
            raise ComposeError("compose.broken_off")
        return Attached(name=upload.name, content_type=upload.content_type, content=content)

    async def _inspect(self, content: bytes) -> None:
        """What strangers send us is read before anybody else gets it: in the helper, under its limits."""
        report = await self._scanner.scan(content)
        for attachment in report.attachments:
            if attachment.unreadable in _REFUSED:
                raise ComposeError("compose.refused_file", name=attachment.name)
