"""What the audit trail shows of an acceptance: counts, ids, rules, versions; no text of the message (law 4)."""

from collections.abc import Sequence
from typing import Any

from relay.core.change import AuditEvent
from relay.core.decision import PolicyDecision, Treatment
from relay.core.envelope import Message
from relay.intake.entries import Plan


def trail(message: Message, plan: Plan, decisions: Sequence[PolicyDecision], failure: str) -> tuple[AuditEvent, ...]:
    """The events of one message: taken or refused, one decision an entry or refused copy, fates, alerts.

    Args:
        message: as kept.
        plan: what becomes of its copies.
        decisions: one a recipient, in the envelope's order.
        failure: why the scan failed; empty when it did not.
    """
    kind = "accepted" if plan.entries else "refused"
    events = [_event(message, kind, _acceptance(message))]
    for entry in plan.entries:
        where = {
            "entry": entry.id,
            "destination": entry.destination,
            "method": str(entry.method),
            "numbers": [state.number for state in entry.recipients],
        }
        events.append(_event(message, "decided", where | _treatment(entry.treatment)))
    for state, decision, reply in plan.rejected:
        events.append(_event(message, "decided", {"numbers": [state.number]} | _treatment(decision.treatment)))
        fate = {
            "numbers": [state.number],
            "fate": "rejected",
            "reply": f"{reply.code} {reply.enhanced}",
            "rule": decision.treatment.rule,
            "policy_version": decision.treatment.policy_version,
        }
        events.append(_event(message, "fate", fate))
    return (*events, *_alerts(message, decisions, failure))


def _acceptance(message: Message) -> dict[str, Any]:
    session, verdict = message.session, message.verdict
    return {
        "client": session.client,
        "tenant": session.tenant,
        "listener": session.listener,
        "network": session.network,
        "identity": session.identity,
        "tls_version": session.tls_version,
        "tls_cipher": session.tls_cipher,
        "size": message.size,
        "stream": message.stream,
        "sender": str(message.envelope.reverse_path),
        "recipients": [str(recipient.address) for recipient in message.envelope.recipients],
        "phi": verdict.phi.word,
        "subject_phi": verdict.subject_phi.word,
        "findings": verdict.counts(),
        "findings_truncated": verdict.truncated,
        "engine": verdict.engine,
    }


def _treatment(treatment: Treatment) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "action": str(treatment.action),
        "rule": treatment.rule,
        "policy_version": treatment.policy_version,
        "methods": [str(method) for method in treatment.methods],
        "tls": treatment.tls.word,
        "floor": treatment.floor.word,
        "floors": list(treatment.floors),
    }
    if treatment.overridden:
        facts |= {"overridden": list(treatment.overridden), "override_reason": treatment.override_reason}
    if treatment.passes_over:
        facts["passes_over"] = True
    return facts


def _alerts(message: Message, decisions: Sequence[PolicyDecision], failure: str) -> list[AuditEvent]:
    alerts = []
    if failure:
        alerts.append(_event(message, "alert", {"alert": "scan-failed", "detail": failure}))
    failed = [number for number, decision in enumerate(decisions) if decision.error]
    if failed:
        alerts.append(_event(message, "alert", {"alert": "policy-error", "numbers": failed}))
    return alerts


def _event(message: Message, kind: str, facts: dict[str, Any]) -> AuditEvent:
    return AuditEvent(kind=kind, at=message.received_at, message_id=message.id, facts=facts)
