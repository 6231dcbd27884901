"""What a domain's mail servers can do, remembered, so that one that suddenly can less is noticed."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Final, Self

import orjson

from relay.core.level import Level, Proof

FADE: Final = 30 * 86_400.0
"""Seconds after which a best level that was not reached again is no longer expected."""
KEEP: Final = 90 * 86_400.0
"""Seconds for which a server that is not met again is remembered."""
_REWRITE: Final = 3600.0
"""Seconds after which an unchanged finding is written down again, so that its age is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One meeting with a mail server.

    Attributes:
        domain: whose mail it takes: a domain in A-labels, or ``route:NAME``.
        proof: what was reached, or the most that could have been, and why not more.
        how: ``delivery`` or ``probe``.
        at: unix seconds.
        mta_sts: mode of the domain's MTA-STS policy, or empty.
        dane: what its TLSA records are: ``usable``, ``unusable`` or empty.
    """

    domain: str
    proof: Proof
    how: str
    at: float
    mta_sts: str = ""
    dane: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What is known of one server of one domain.

    Attributes:
        domain, host: whose, and which.
        best: word of the highest level that is expected of it; with when and how it was last reached.
        level: word of the level at the last meeting; with when, how, and why not more.
        vouched_by, checked_by: who vouched for its name then, and what its certificate was checked by.
        downgraded_at: when it fell below its best; 0 while it has not.
    """

    domain: str
    host: str
    best: str
    best_at: float
    best_how: str
    level: str
    seen_at: float
    how: str
    vouched_by: str = ""
    checked_by: str = ""
    failure: str = ""
    tls_version: str = ""
    cipher: str = ""
    certificate_sha256: str = ""
    issuer: str = ""
    not_after: float = 0.0
    mta_sts: str = ""
    dane: str = ""
    downgraded_at: float = 0.0

    @property
    def until(self) -> float:
        """When it is forgotten, unix seconds."""
        return self.seen_at + KEEP

    def encode(self) -> bytes:
        """For the store."""
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What :meth:`encode` wrote.

        Raises:
            ValueError: it did not write this.
        """
        try:
            known = orjson.loads(data)  # of a newer version on another node, perhaps: what it adds is passed over
            found = cls(**{one.name: known[one.name] for one in fields(cls) if one.name in known})
            Level.from_word(found.best), Level.from_word(found.level)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("a remembered capability cannot be read") from error
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What one observation led to.

    Attributes:
        now: what is known after it.
        write: whether that is worth writing down.
        fell: it fell below its best just now.
        rose: it reached its best again.
    """

    now: Capability
    write: bool
    fell: bool = False
    rose: bool = False


def learn(known: Capability | None, seen: Observation) -> Learnt:
    """Put an observation to what is known."""
    now = _met(known, seen)
    if known is None:
        return Learnt(now=now, write=True)
    level, best = seen.proof.level, Level.from_word(known.best)
    if level >= best:
        now = replace(now, downgraded_at=0.0)
    elif seen.at - known.best_at > FADE:
        now = replace(now, best=now.level, best_at=seen.at, best_how=seen.how, downgraded_at=0.0)
    else:
        kept = known.downgraded_at or seen.at
        now = replace(now, best=known.best, best_at=known.best_at, best_how=known.best_how, downgraded_at=kept)
    fell = bool(now.downgraded_at) and not known.downgraded_at
    rose = bool(known.downgraded_at) and level >= best
    return Learnt(now=now, write=_differs(known, now) or seen.at - known.seen_at > _REWRITE, fell=fell, rose=rose)


def _met(known: Capability | None, seen: Observation) -> Capability:
    proof = seen.proof
    # A meeting that failed shows no certificate: what was seen last still says whose server it was.
    certificate = known if known is not None and not proof.certificate_sha256 else None
    return Capability(
        domain=seen.domain,
        host=proof.host,
        best=proof.level.word,
        best_at=seen.at,
        best_how=seen.how,
        level=proof.level.word,
        seen_at=seen.at,
        how=seen.how,
        vouched_by=proof.vouched_by.value,
        checked_by=proof.checked_by,
        failure=proof.failure[:300],
        tls_version=proof.tls_version,
        cipher=proof.cipher,
        certificate_sha256=certificate.certificate_sha256 if certificate else proof.certificate_sha256,
        issuer=certificate.issuer if certificate else proof.issuer,
        not_after=certificate.not_after if certificate else proof.not_after,
        mta_sts=seen.mta_sts,
        dane=seen.dane,
    )


def _differs(old: Capability, new: Capability) -> bool:
    same = replace(new, seen_at=old.seen_at, how=old.how, best_at=old.best_at, best_how=old.best_how)
    return same != old
