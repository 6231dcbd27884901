"""Reports about TLS: ours, sent through the queue as messages of our own, and those that others send about us."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from relay.app import options
from relay.app.base import CLOCK
from relay.app.queue import Store
from relay.app.stock import load_signers
from relay.app.trust import Outward
from relay.config.settings import Settings
from relay.config.types import AUTO
from relay.core.address import Address, ReversePath
from relay.core.change import AuditEvent, Keep, Note
from relay.core.decision import MethodName, Otherwise, Treatment
from relay.core.entry import EntryState, QueueEntry, RecipientState
from relay.core.envelope import ClientSession, Envelope, Message, Origin, Recipient
from relay.core.errors import PosternError
from relay.core.level import Level
from relay.core.ports import Metrics
from relay.delivery import schedule
from relay.delivery.routing import RouteTable
from relay.delivery.schedule import RetryOptions
from relay.net.received import ReceivedOptions, ReceivedReports
from relay.net.reporting import Reporter, ReportingOptions
from relay.net.resolver import Resolver
from relay.net.signed import is_signed_by_its_author
from relay.trust.sessions import DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportMail:
    """Keeps reports in the queue: signed by their author's domain or not sent at all (RFC 8460 section 3)."""

    store: Store
    routes: Callable[[], RouteTable]
    settings: Callable[[], Settings]
    new_id: Callable[[float], str]

    async def keep(self, content: bytes, to: Address) -> None:
        """Keep one.

        It goes out whatever the receiver's TLS is like, for that is what it tells of, and passes over what the domain
        publishes. Nobody is told when it cannot be delivered: the next day brings another.

        Raises:
            PosternError: no key of the author's domain signs now, or it cannot be kept.
        """
        settings, now = self.settings(), CLOCK()
        sender = Address.parse(settings.tls.reports.sender or "")
        selection = load_signers(settings).select(sender.domain, now=now)
        if not selection.keys or not selection.aligned:
            raise PosternError(f"no active DKIM key for {sender.domain}, which reports must be signed by")
        message, entry = self._entry(content, sender, to, options.retry_options(settings), now)
        event = AuditEvent(kind="notice", at=now, message_id=message.id, facts={"origin": Origin.REPORT.value})
        await self.store.commit((Keep(message=message, content=content, entries=(entry,)), Note(events=(event,))))

    def _entry(
        self, content: bytes, sender: Address, to: Address, retry: RetryOptions, now: float
    ) -> tuple[Message, QueueEntry]:
        treatment = Treatment(
            methods=(MethodName.TLS,),
            floor=Level.CLEAR,
            rule=Origin.REPORT.value,
            otherwise=Otherwise.DEFER,
            expire_after=DAY,
            priority=-1,
            sign_as=sender.domain,
            passes_over=True,
        )
        recipient = Recipient(address=to, notify=frozenset({"NEVER"}))
        message = Message(
            id=self.new_id(now),
            origin=Origin.REPORT,
            received_at=now,
            session=ClientSession(),
            envelope=Envelope(reverse_path=ReversePath(sender), recipients=(recipient,)),
            size=len(content),
        )
        entry = QueueEntry(
            id=f"{message.id}.1",
            message_id=message.id,
            destination=self.routes().destination(to),
            treatment=treatment,
            method=MethodName.TLS,
            recipients=(RecipientState(number=1, recipient=recipient),),
            state=EntryState.READY,
            created_at=now,
            due_at=now,
            expires_at=schedule.expires_at(treatment, retry, accepted_at=now),
        )
        return message, entry


def reporter(
    settings: Settings, store: Store, resolver: Resolver, outward: Outward, mail: ReportMail, metrics: Metrics
) -> Reporter | None:
    """Who sends our reports; ``None`` where none are sent."""
    wanted = settings.tls.reports
    if wanted.sender is None:
        return None
    how = ReportingOptions(
        sender=Address.parse(wanted.sender),
        organization=settings.hostname if wanted.organization == AUTO else wanted.organization,
        contact=wanted.sender if wanted.contact == AUTO else wanted.contact,
        hostname=settings.hostname,
        spread=wanted.spread,
        skip=frozenset(wanted.skip),
    )

    async def claim(name: str, window: float) -> bool:
        return await store.count(name, window=window, now=CLOCK()) == 1

    return Reporter(
        how, knowledge=store, resolver=resolver, poster=outward.fetcher, enqueue=mail.keep, claim=claim, clock=CLOCK,
        metrics=metrics,
    )  # fmt: skip


def received(settings: Settings, store: Store, metrics: Metrics | None) -> ReceivedReports:
    """What others report about us: about the domains whose policies we publish, or about any where there are none."""
    how = ReceivedOptions(domains=frozenset(one.domain for one in settings.tls.publish.domains))

    async def room(name: str, window: float) -> bool:
        return await store.count(name, window=window, now=CLOCK()) <= how.most

    return ReceivedReports(store, room, CLOCK, how, metrics=metrics, is_signed=signature_check(settings, tlsrpt=True))


def signature_check(settings: Settings, *, tlsrpt: bool) -> Callable[[bytes], Awaitable[bool]]:
    """Whether a report is signed by its author's domain; what it makes raises StoreUnavailableError where DNS fails.

    Args:
        settings: which name servers are asked.
        tlsrpt: whether reports about TLS are checked.
    """

    async def is_signed(content: bytes) -> bool:
        resolver = Resolver(options.resolver_options(settings))  # reports are few: one for each will do
        try:
            return await is_signed_by_its_author(content, resolver, tlsrpt=tlsrpt)
        finally:
            await resolver.close()

    return is_signed
