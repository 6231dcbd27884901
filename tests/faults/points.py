"""The named points of accept and attempt at which a process is killed, in the order in which a message passes them."""

from typing import NamedTuple


class Point(NamedTuple):
    """A function of Postern's, ``before`` it begins or ``after`` it has returned."""

    name: str
    target: str
    when: str


ACCEPT = (
    Point("accept-data-is-in", "relay.intake.accept:Acceptor.accept", "before"),
    Point("accept-scanned", "relay.intake.accept:Acceptor._scan", "after"),
    Point("accept-decided", "relay.intake.accept:Acceptor._decide", "after"),
    Point("accept-planned", "relay.intake.accept:Acceptor._keep", "before"),
    Point("accept-body-file-is-synced", "relay.store.sqlite.bodies:BodyFiles._write_synced", "after"),
    Point("accept-body-file-has-its-name", "relay.store.sqlite.bodies:BodyFiles.write", "after"),
    Point("commit-begun", "relay.store.sqlite.tables:Tables.begin", "after"),
    Point("commit-rows-are-written", "relay.store.sqlite.tables:Tables.flush", "after"),
    Point("commit-is-seen", "relay.store.sqlite.writer:GroupCommit._commit_locked", "after"),
    Point("commit-is-on-disk", "relay.store.sqlite.durable:Log.sync", "after"),
    Point("accept-kept", "relay.intake.accept:Acceptor._keep", "after"),
    Point("accept-250-is-given", "relay.intake.accept:Acceptor.accept", "after"),
)
ATTEMPT = (
    Point("attempt-claimed", "relay.store.sqlite.store:SqliteStore.claim", "after"),
    Point("attempt-begun", "relay.worker.attempt:Attempter.__call__", "before"),
    Point("attempt-rendered", "relay.methods.tls:TlsMethod.render", "after"),
    Point("attempt-connected", "relay.worker.attempt:Attempter._connect", "after"),
    Point("attempt-signed", "relay.worker.outgoing:Outgoing.prepare", "after"),
    Point("attempt-transaction-begins", "relay.net.session:SmtpSession.transact", "before"),
    Point("attempt-peer-answers", "relay.net.session:SmtpSession.data_received", "before"),
    Point("attempt-peer-has-answered", "relay.net.session:SmtpSession.transact", "after"),
    Point("attempt-concluded", "relay.worker.record:Recorder.conclude", "after"),
    Point("attempt-is-recorded", "relay.worker.outcomes:OutcomeWriter._commit", "after"),
    Point("body-file-is-removed", "relay.store.sqlite.bodies:BodyFiles.remove", "before"),
)
AROUND = (
    Point("dead-leases-are-freed", "relay.store.sqlite.store:SqliteStore.reap", "after"),
    Point("checkpoint-begins", "relay.store.sqlite.store:SqliteStore.checkpoint", "before"),
    Point("audit-is-read", "relay.store.sqlite.store:SqliteStore.outbox", "after"),
    Point("audit-is-forgotten", "relay.store.sqlite.store:SqliteStore.forget_outbox", "before"),
    Point("audit-step-done", "relay.observe.archiver:Archiver.step", "after"),
)
POINTS = ACCEPT + ATTEMPT + AROUND
