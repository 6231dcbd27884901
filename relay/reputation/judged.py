"""Returned mail with its meaning: a verdict for each recipient that it speaks of."""

from dataclasses import dataclass, replace
from typing import Final

from relay.delivery.bounce import BounceAction, BounceClass, Verdict, action_of
from relay.delivery.bouncetext import words_of
from relay.delivery.classify import Classifier
from relay.reputation.returned import Kind, Returned, ReturnedRecipient

_HARMLESS: Final = frozenset({"not-spam", "auth-failure"})
"""Feedback types that are no complaint: RFC 5965 section 7.3, RFC 6591."""
_ARRIVED: Final = frozenset({"delivered", "relayed", "expanded"})


@dataclass(frozen=True, slots=True)
class Judged:
    """A recipient, and what the returned message means for it; ``None``: nothing failed."""

    recipient: ReturnedRecipient
    verdict: Verdict | None


def judge(returned: Returned, classifier: Classifier) -> tuple[Judged, ...]:
    """What a returned message means, recipient by recipient. An automatic reply speaks of nobody in particular."""
    if returned.kind is Kind.AUTO_REPLY:
        return (Judged(ReturnedRecipient(address="", action="replied"), _plain(BounceClass.AUTO_REPLY)),)
    if returned.kind is Kind.FEEDBACK:
        meant = None if returned.feedback_type in _HARMLESS else _plain(BounceClass.COMPLAINT)
        return tuple(Judged(recipient, meant) for recipient in returned.recipients)
    return tuple(Judged(recipient, _of(recipient, classifier)) for recipient in returned.recipients)


def _of(recipient: ReturnedRecipient, classifier: Classifier) -> Verdict | None:
    if recipient.action in _ARRIVED:
        return None
    reason = recipient.reason
    if recipient.status and words_of(reason).status is None:
        reason = f"{recipient.status} {reason}"
    failed = recipient.action != "delayed"
    verdict = classifier.classify(reason, host=recipient.host, permanent=failed and words_of(reason).permanent)
    if failed and verdict.action is BounceAction.RETRY:  # nobody tries any more
        return replace(verdict, action=BounceAction.RETURN)
    return verdict


def _plain(klass: BounceClass) -> Verdict:
    return Verdict(klass=klass, action=action_of(klass, permanent=True), rule=klass.value, permanent=True)
