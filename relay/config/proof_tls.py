"""Proofs about TLS with other servers: trusted roots, certificates of ours, reports, and the policies we publish."""

from collections.abc import Iterator
from datetime import datetime

from relay.config.load import Loaded
from relay.config.proof_files import Finding, prove_certificate, prove_roots, read_key, warning
from relay.config.signing_keys import configured_signing_keys
from relay.core.errors import ProblemsError


def prove_tls(loaded: Loaded, now: datetime, owners: frozenset[int]) -> Iterator[Finding]:
    """Everything below ``tls``, and what reports need besides."""
    yield from _roots(loaded, now)
    yield from _client_certificates(loaded, now, owners)
    yield from _published(loaded, now, owners)
    yield from _reports(loaded, now)


def _roots(loaded: Loaded, now: datetime) -> Iterator[Finding]:
    tls = loaded.settings.tls
    if tls.trust_roots:
        yield from prove_roots(tls.trust_roots, loaded.where("tls", "trust_roots"), now)
    for number, path in enumerate(tls.extra_roots):
        yield from prove_roots(path, loaded.where("tls", "extra_roots", number), now)
    for number, rule in enumerate(tls.rules):
        if rule.roots:
            yield from prove_roots(rule.roots, loaded.where("tls", "rules", number, "roots"), now)


def _client_certificates(loaded: Loaded, now: datetime, owners: frozenset[int]) -> Iterator[Finding]:
    for number, rule in enumerate(loaded.settings.tls.rules):
        if rule.client_certificate is not None and rule.client_key is not None:
            found: list[Finding] = []
            key = read_key(rule.client_key, loaded.where("tls", "rules", number, "client_key"), owners, found)
            yield from found
            where = loaded.where("tls", "rules", number, "client_certificate")
            yield from prove_certificate(rule.client_certificate, key, where, hostname="", now=now)


def _published(loaded: Loaded, now: datetime, owners: frozenset[int]) -> Iterator[Finding]:
    """The certificate of the policy host must be good for every domain: no sender takes a policy without that."""
    publish = loaded.settings.tls.publish
    if publish.certificate is None or publish.key is None:
        return
    found: list[Finding] = []
    key = read_key(publish.key, loaded.where("tls", "publish", "key"), owners, found)
    yield from found
    where = loaded.where("tls", "publish", "certificate")
    for one in publish.domains:
        yield from prove_certificate(publish.certificate, key, where, hostname=f"mta-sts.{one.domain}", now=now)


def _reports(loaded: Loaded, now: datetime) -> Iterator[Finding]:
    sender = loaded.settings.tls.reports.sender
    if sender is None:
        return
    domain = sender.rpartition("@")[2]
    try:
        keys = configured_signing_keys(loaded.settings.dkim)
    except ProblemsError:
        return  # told by the proof of DKIM
    signing = {key.domain for key in keys if key.is_active(now.timestamp())}
    if not any(domain == one or domain.endswith(f".{one}") for one in signing):
        what = f"no DKIM key signs for {domain}, so no report about TLS will be mailed (RFC 8460 section 3)"
        yield warning(loaded.where("tls", "reports", "sender"), what, f"postern dkim new {domain}")
