"""What the audit trail shows of delivery: a ``fate`` event for recipients that end, ``attempt`` for those that wait.

Recipients stand by number; replies are scrubbed before they get here; no text of the message (law 4).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from relay.core.change import AuditEvent
from relay.core.entry import Claimed
from relay.core.fate import Fate
from relay.core.level import Proof


def context(claimed: Claimed) -> dict[str, Any]:
    """What every event of delivery begins with: whose rule, which entry, which attempt."""
    entry = claimed.entry
    return {
        "entry": entry.id,
        "destination": entry.destination,
        "attempt": entry.attempts + 1,
        "rule": entry.treatment.rule,
        "policy_version": entry.treatment.policy_version,
    }


def fate_events(claimed: Claimed, fates: Mapping[int, Fate], facts: Mapping[str, Any]) -> list[AuditEvent]:
    """One event for all recipients that met the same end: one fate each (law 5).

    Args:
        claimed: the entry and its message.
        fates: by recipient number.
        facts: of the attempt: method, floor, DSN.
    """
    return [
        AuditEvent(
            kind="fate",
            at=fate.at,
            message_id=claimed.message.id,
            facts={**context(claimed), **facts, "numbers": numbers, **_fate(fate), "proof": proof_facts(fate.proof)},
        )
        for fate, numbers in _grouped(fates)
    ]


def _grouped(fates: Mapping[int, Fate]) -> Iterable[tuple[Fate, list[int]]]:
    if len(fates) == 1:  # the usual message; a fate's hash goes through all of its proof
        ((number, fate),) = fates.items()
        return [(fate, [number])]
    groups: dict[Fate, list[int]] = {}
    for number, fate in fates.items():
        groups.setdefault(fate, []).append(number)
    return groups.items()


def _fate(fate: Fate) -> dict[str, Any]:
    facts = {"fate": fate.kind.value, "reply": str(fate.reply) if fate.reply else "", "why": fate.why}
    return {**facts, "class": fate.bounce_class, "family": fate.bounce_family} if fate.bounce_class else facts


def proof_facts(proof: Proof | None) -> dict[str, Any] | None:
    """How a connection was protected, for the audit trail; ``None`` when there was none."""
    if proof is None:
        return None
    return {
        "level": proof.level.word,
        "vouched_by": proof.vouched_by.value,
        "host": proof.host,
        "address": proof.address,
        "tls_version": proof.tls_version,
        "cipher": proof.cipher,
        "certificate_sha256": proof.certificate_sha256,
        "issuer": proof.issuer,
        "not_after": proof.not_after,
        "failure": proof.failure,
        "checked_by": proof.checked_by,
        "names": list(proof.names),
        "chain": list(proof.chain),
    }
