"""The bytes that leave: what a method rendered, adapted to the peer's EHLO, signed last over exactly those bytes."""

import asyncio
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from relay.core.entry import QueueEntry
from relay.core.envelope import Message
from relay.core.outcome import Failure, PeerFeatures, Stage, Trouble
from relay.core.ports import Clock, Metrics
from relay.core.reply import EnhancedStatus
from relay.mail import edit
from relay.mail.adapt import Impossible, adapt
from relay.protect.dkim import SignerSet

_CACHED_BYTES: Final = 32 * 1024 * 1024
"""How much signed content a worker keeps for further entries of the same message."""
_LARGE: Final = 256 * 1024
"""Octets from which on content is prepared in a thread: below, changing threads costs more than it spares."""
_LARGE_HEADER: Final = 16 * 1024
"""Octets of a header from which on the same holds: 256 KiB of short fields in 8 bits take a second to write anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Content for one kind of peer, and the MAIL parameters it needs."""

    content: bytes = field(repr=False)
    body_8bit: bool = False
    smtputf8: bool = False


class Outgoing:
    """Prepares content for a peer; a message with many destinations is adapted and signed once a variant.

    Args:
        signers: the signing keys now in force; replaced by ``adopt`` on reload.
    """

    def __init__(self, signers: SignerSet, clock: Clock, metrics: Metrics) -> None:
        self._signers = signers
        self._clock = clock
        self._metrics = metrics
        self._cache: OrderedDict[tuple[object, ...], Prepared] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()

    def adopt(self, signers: SignerSet) -> None:
        """Sign with other keys from now on."""
        self._signers = signers
        with self._lock:
            self._cache.clear()
            self._cached = 0

    async def prepare(
        self, message: Message, entry: QueueEntry, content: bytes, features: PeerFeatures
    ) -> Prepared | Failure:
        """As :meth:`prepare_now`; large content, or a large header, in a thread, so that nothing else waits for it."""
        if len(content) < _LARGE and edit.header_end(content) < _LARGE_HEADER:
            return self.prepare_now(message, entry, content, features)
        return await asyncio.to_thread(self.prepare_now, message, entry, content, features)

    def prepare_now(
        self, message: Message, entry: QueueEntry, content: bytes, features: PeerFeatures
    ) -> Prepared | Failure:
        """Adapt and sign ``content``; a ``Failure`` says which extension the peer lacks.

        Args:
            message: the message.
            entry: the entry: its treatment says who signs.
            content: what the method rendered.
            features: what the peer's EHLO offered on this very connection.
        """
        shared = len(message.envelope.recipients) > 1
        # What was rendered is part of the key: a method may render each recipient's copy differently.
        key = (
            hashlib.sha256(content).digest() if shared else b"",
            message.envelope.smtputf8,
            entry.treatment.sign_as,
            features.eight_bit_mime,
            features.smtputf8,
        )
        if shared and (known := self._known(key)) is not None:
            return known
        signers = self._signers
        prepared = self._make(message, entry, content, features)
        if shared and isinstance(prepared, Prepared) and signers is self._signers:
            self._keep(key, prepared)
        return prepared

    def _make(self, message: Message, entry: QueueEntry, content: bytes, features: PeerFeatures) -> Prepared | Failure:
        wants_utf8 = message.envelope.smtputf8
        adapted = adapt(content, features, smtputf8=wants_utf8)
        if isinstance(adapted, Impossible):
            return Failure(
                trouble=Trouble.UNSUPPORTED,
                stage=Stage.RENDER,
                status=EnhancedStatus.parse(adapted.status),
                detail=adapted.why,
            )
        signature, selection = self._signers.sign(
            adapted, author_domain=edit.author_domain(adapted), now=self._clock(), sign_as=entry.treatment.sign_as
        )
        for key in selection.keys:
            self._metrics.count("postern_dkim_signatures_total", {"algorithm": f"{key.algorithm}-sha256"})
        if not selection.keys:
            self._metrics.count("postern_dkim_failures_total")
        return Prepared(
            content=signature + adapted,
            body_8bit=features.eight_bit_mime and not adapted.isascii(),
            smtputf8=wants_utf8 and features.smtputf8,
        )

    def _known(self, key: tuple[object, ...]) -> Prepared | None:
        with self._lock:
            known = self._cache.get(key)
            if known is not None:
                self._cache.move_to_end(key)
            return known

    def _keep(self, key: tuple[object, ...], prepared: Prepared) -> None:
        with self._lock:
            before = self._cache.pop(key, None)  # two threads may have made the same
            self._cached += len(prepared.content) - (len(before.content) if before is not None else 0)
            self._cache[key] = prepared
            while self._cached > _CACHED_BYTES:
                _, oldest = self._cache.popitem(last=False)
                self._cached -= len(oldest.content)
