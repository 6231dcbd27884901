"""What refusals mean, and what follows from it: counted, heeded by the brakes, told to operators."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from relay.core.entry import Claimed
from relay.core.fate import Fate, FateKind
from relay.core.outcome import Failure, Stage, Trouble
from relay.core.ports import Metrics
from relay.core.reply import EnhancedStatus
from relay.delivery.bounce import BounceAction, BounceClass, Verdict, action_of
from relay.delivery.brake import Brakes
from relay.delivery.classify import Classifier
from relay.delivery.provider import Providers
from relay.delivery.trouble import Course, Disposition

EXPIRED: Final = Verdict(
    klass=BounceClass.EXPIRED,
    action=action_of(BounceClass.EXPIRED, permanent=True),
    rule="expired",
    permanent=True,
    status=EnhancedStatus(5, 4, 7),
)
"""The verdict on a copy whose time is up."""


Refused: TypeAlias = Callable[[Claimed, int, Fate, Verdict], None]
"""Hears of each recipient that was refused for good, once that is on disk. Must not wait nor raise."""


class Meanings:
    """Understands refusals and sees to what they ask for.

    Args:
        metrics: counts classes and families.
        classifier: without rules every reply is ``other``.
        brakes: what is known of destinations that complained.
        providers: who runs recipients' mail; without it everybody is ``other``.
    """

    def __init__(
        self,
        metrics: Metrics,
        classifier: Classifier | None = None,
        brakes: Brakes | None = None,
        providers: Providers | None = None,
    ) -> None:
        self._metrics = metrics
        self._classifier = classifier or Classifier(())
        self.brakes = brakes or Brakes()
        self._providers = providers or Providers({}, {})
        self._hearers: list[Refused] = []

    def listen(self, hear: Refused) -> None:
        """Tell ``hear`` of refusals from now on."""
        self._hearers.append(hear)

    @property
    def classifier(self) -> Classifier:
        """The rules in force."""
        return self._classifier

    def adopt(self, classifier: Classifier) -> None:
        """Understand by other rules from now on."""
        self._classifier = classifier

    def of(self, course: Disposition) -> Verdict:
        """What one refusal means."""
        failure = course.failure or Failure(trouble=Trouble.PROTOCOL, stage=Stage.FINAL, reply=course.reply)
        return self._classifier.of_failure(failure, permanent=course.course is Course.FAIL)

    def heed(self, claimed: Claimed, fates: Mapping[int, Fate], verdicts: Mapping[int, Verdict], now: float) -> None:
        """Count what is now on disk, brake for the destination, and call an operator where one must look."""
        destination = claimed.entry.destination
        for number, verdict in verdicts.items():
            fate = fates.get(number)
            self._count(claimed, number, verdict, "deferred" if fate is None else "failed")
            if fate is not None:
                for hear in self._hearers:
                    hear(claimed, number, fate, verdict)
        for action in sorted({verdict.action for verdict in verdicts.values()}):
            self.brakes.refused(destination, action, now)
        if any(fate.kind is FateKind.DELIVERED for fate in fates.values()):
            self.brakes.delivered(destination)

    def _count(self, claimed: Claimed, number: int, verdict: Verdict, course: str) -> None:
        states = claimed.entry.recipients
        domain = next((state.recipient.address.domain for state in states if state.number == number), "none")
        sender = claimed.message.envelope.reverse_path.domain or "none"
        klass = {"class": verdict.klass.value, "course": course, "recipient_domain": domain}
        self._metrics.count("postern_bounces_total", klass)
        family = {"family": verdict.family.value, "course": course, "sending_domain": sender}
        self._metrics.count("postern_bounce_families_total", family)
        provider = self._providers.of(domain, verdict.host)
        labels = {"provider": provider, "family": verdict.family.value, "course": course}
        self._metrics.count("postern_provider_bounces_total", labels)
        if course == "deferred":
            deferral = {"class": verdict.klass.value, "provider": provider}
            self._metrics.count("postern_deferrals_total", deferral)
        # What we have set up wrongly keeps every copy waiting until somebody mends it: that is told while they wait.
        if verdict.action is BounceAction.TELL and (course == "failed" or verdict.klass is BounceClass.CONFIGURATION):
            self._metrics.count("postern_alerts_total", {"kind": f"bounce-{verdict.klass.value}"})


def understood(fate: Fate, verdict: Verdict) -> Fate:
    """The fate with its meaning, for the audit trail."""
    return replace(fate, bounce_class=verdict.klass.value, bounce_family=verdict.family.value)


def named(verdicts: Mapping[int, Verdict], numbers: Sequence[int]) -> dict[str, str]:
    """What a log line says of the first of these recipients that was refused."""
    verdict = next((verdicts[number] for number in numbers if number in verdicts), None)
    return {} if verdict is None else {"bounce_class": verdict.klass.value, "family": verdict.family.value}
