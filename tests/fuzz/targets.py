"""What strangers' octets are fed to, and what must hold whatever they are. A target raises when something does not.

The same functions serve a coverage-guided fuzzer (``python -m tests.fuzz``) and the cases it found (``test_cases.py``).
"""

import functools

from relay.config.policies import builtin_lists
from relay.core.errors import CorruptError, ProblemsError
from relay.core.outcome import PeerFeatures
from relay.mail import edit
from relay.mail.adapt import Impossible, adapt
from relay.mail.mime import MimeLimits, read_message, read_reference
from relay.mail.received import inspect, mend
from relay.mail.scrub import LIMIT, scrub
from relay.mail.text import text_of
from relay.policy.compile import SourceFile, Sources, compile_policy
from relay.policy.read import read
from relay.policy.source import parse
from relay.reputation import aggregate
from relay.reputation.returned import MAX_RECIPIENTS, read_returned
from relay.smtp.server_limits import SessionLimits
from relay.trust import mta_sts, tlsrpt
from tests.fuzz.extractors import EXTRACTORS
from tests.fuzz.portal import portal
from tests.support.session import Driver

LIMITS = MimeLimits(depth=8, parts=64)
SESSION = SessionLimits(hostname="relay.example", max_size=4096, max_recipients=3, max_command=200, max_line=400)
NOW = 1_790_000_000.0


def smtp_server(data: bytes) -> None:
    """The server machine says the same however its octets are cut, and holds no more than its limits."""
    whole = Driver(SESSION)
    whole.feed(data)
    cut = Driver(SESSION)
    step = 1 + (data[0] % 7 if data else 0)
    for at in range(0, len(data), step):
        cut.feed(data[at : at + step])
        assert cut.session.held <= SESSION.max_size + SESSION.max_line + 1024, "it holds more than its limits"
    assert cut.messages == whole.messages, "a message depends on how the octets were cut"
    assert b"STARTTLS" in data or cut.output() == whole.output(), "an answer depends on how the octets were cut"
    for _, recipients, content in whole.messages:
        assert 0 < len(recipients) <= SESSION.max_recipients
        assert len(content) <= SESSION.max_size
        assert b"\n" not in content.replace(b"\r\n", b"")
        assert b"\r" not in content.replace(b"\r\n", b"")


def mime(data: bytes) -> None:
    """The quick reader and the standard library's see the same, within the limits; text comes of every leaf."""
    tree, reference = read_message(data, LIMITS), read_reference(data, LIMITS)
    assert len(tree.leaves) <= LIMITS.parts + 1
    assert [leaf.number for leaf in tree.leaves] == [leaf.number for leaf in reference.leaves]
    assert [leaf.data for leaf in tree.leaves] == [leaf.data for leaf in reference.leaves]
    assert tree.headers == reference.headers
    for leaf in tree.leaves:
        text_of(leaf.data, leaf.content_type, leaf.charset)


def outgoing(data: bytes) -> None:
    """What was taken can be mended, edited and adapted to any peer, and comes out as lawful lines."""
    content = data.replace(b"\r", b"").replace(b"\n", b"\r\n").replace(b"\0", b"")
    mended = mend(content, inspect(content), trace=b"Received: from a by b\r\n", message_id="<a@b.example>", now=NOW)
    edit.author_domain(mended.content)
    edit.get_all(mended.content, "subject")
    assert edit.get(edit.replace(mended.content, "X-Postern", "yes"), "x-postern") == b"yes"
    for features in (PeerFeatures(), PeerFeatures(eight_bit_mime=True)):
        adapted = adapt(mended.content, features)
        if isinstance(adapted, Impossible):
            continue
        assert b"\n" not in adapted.replace(b"\r\n", b"")
        if not features.eight_bit_mime:
            assert adapted.isascii()
            assert max(map(len, adapted.split(b"\r\n"))) <= 998


def policy(data: bytes) -> None:
    """A policy compiles, or every fault is told with its place."""
    text = data.decode("utf-8", "replace")
    problems = []
    try:
        document = parse(text, "main.yaml")
        content = read(document, problems)
        if content is not None:
            sources = Sources(files=(SourceFile(document, content),), csv={}, builtin=builtin_lists(), names=())
            compile_policy(sources, methods=frozenset(), now=NOW, zone=_no_zone)
    except ProblemsError as error:
        problems += error.problems
    for problem in problems:
        assert problem.what
        assert "\n" not in str(problem.where)


def _no_zone(name: str):
    raise KeyError(name)


def returned_mail(data: bytes) -> None:
    """Mail that comes back is read whatever it says, within limits."""
    found = read_returned(data)
    assert len(found.recipients) <= MAX_RECIPIENTS
    for one in found.recipients:
        assert len(scrub(one.reason)) <= LIMIT + 3


def reports(data: bytes) -> None:
    """Reports are read, or refused with a reason; a bomb is refused."""
    for read_one in (aggregate.find_report, aggregate.read_report, tlsrpt.find_report, tlsrpt.read_report):
        _refused(aggregate.ReportError, lambda read_one=read_one: _refused(tlsrpt.ReportError, lambda: read_one(data)))


def _refused(kind: type[Exception], work) -> None:
    """The work ends well, or with an error of the one kind that says why."""
    try:
        work()
    except kind as error:
        if not str(error):
            raise ValueError("an error without a reason") from error


def published_policies(data: bytes) -> None:
    """MTA-STS policies as their domains publish them."""
    _refused(mta_sts.PolicyError, lambda: mta_sts.Policy.parse(data).admits("mx.example.org"))
    mta_sts.record_id([data.decode("latin-1")])


@functools.cache
def _engine():
    from relay.extract.engine import ScanEngine, load_judge
    from relay.extract.extractor import Extractor

    return ScanEngine(load_judge(lambda text: "0" * 16), extractor=Extractor())


def scan(data: bytes) -> None:
    """A scan never fails, and what it found lies within what it read."""
    engine = _engine()
    report = engine.report(engine.read(b"Subject: x\r\n" + data))
    assert report.verdict.phi.word in {"none", "possible", "likely", "certain"}
    for finding in report.verdict.findings:
        assert 0 <= finding.start <= finding.end


def stored(data: bytes) -> None:
    """What a damaged database hands out opens, or is known to be damaged."""
    from relay.store.codec import Codec
    from tests.support.vault import FakeVault

    codec = Codec(FakeVault())
    for open_it in (lambda: codec.open_message("m", data), lambda: codec.open_entry("m.0", data)):
        _refused(CorruptError, open_it)


TARGETS = {
    target.__name__: target
    for target in (
        smtp_server, mime, outgoing, policy, returned_mail, reports, published_policies, scan, stored,
        portal,
    )
} | EXTRACTORS  # fmt: skip
