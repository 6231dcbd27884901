"""When a copy is tried again, when its sender is warned, and when it ends (RFC 5321 section 4.5.4.1).

Times are unix seconds, spans are seconds. Randomness is an argument.
"""

from dataclasses import dataclass
from typing import Final

from relay.core.decision import Treatment
from relay.core.entry import QueueEntry

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """How retries are spaced.

    Attributes:
        first: the span after the first failed attempt.
        factor: each span is the last one times this.
        longest: no span is longer.
        jitter: a span is lengthened or shortened by up to this share of itself, so that a domain's copies spread out.
        expire_after: the copy ends as expired this long after acceptance, when its rule says nothing else.
        warn_after: the sender is warned of the delay after this long, when the rule says nothing else; 0: never.
    """

    first: float = 5 * MINUTE
    factor: float = 2.0
    longest: float = 4 * HOUR
    jitter: float = 0.2
    expire_after: float = 5 * DAY
    warn_after: float = 4 * HOUR

    def __post_init__(self) -> None:
        if not (0 < self.first <= self.longest and self.factor >= 1 and 0 <= self.jitter < 1):
            raise ValueError("retry spans must be positive, rising and jittered by less than themselves")


def span(options: RetryOptions, attempts: int, *, chance: float) -> float:
    """The wait after the ``attempts``-th failed attempt (1 is the first).

    ``chance`` is in [0, 1): 0 gives the shortest wait, 0.5 the plain one.
    """
    plain = options.longest
    if attempts < 64:  # beyond it the power is past any sensible longest, and could overflow
        plain = min(options.first * options.factor ** max(attempts - 1, 0), options.longest)
    return plain * (1 + options.jitter * (2 * chance - 1))


def expires_at(treatment: Treatment, options: RetryOptions, *, accepted_at: float) -> float:
    """When a copy ends as expired, in every state."""
    after = treatment.expire_after if treatment.expire_after is not None else options.expire_after
    return accepted_at + after


def warn_at(treatment: Treatment, options: RetryOptions, *, accepted_at: float) -> float | None:
    """When the delay warning goes out; ``None`` when none is wanted, or the copy would have expired by then."""
    after = treatment.warn_after if treatment.warn_after is not None else options.warn_after
    at = accepted_at + after
    return at if after > 0 and at < expires_at(treatment, options, accepted_at=accepted_at) else None


def deadline(entry: QueueEntry) -> float | None:
    """When ``within`` ends, counted from acceptance or release; ``None`` when the rule sets none."""
    return None if entry.treatment.within is None else entry.created_at + entry.treatment.within


def next_due(
    entry: QueueEntry, options: RetryOptions, *, now: float, chance: float, level_missed: bool = False
) -> float:
    """When a copy whose attempt failed is due again.

    The earliest of the retry time and the expiry; where the attempt missed the level (``level_missed``, or an earlier
    one did: ``tls_failures``), also of the ``within`` deadline, so that the next method is taken on time.
    ``entry.attempts`` includes the attempt that just failed.
    """
    due = min(now + span(options, entry.attempts, chance=chance), max(entry.expires_at, now))
    end = deadline(entry)
    if end is not None and end > now and (level_missed or entry.tls_failures > 0):
        due = min(due, end)
    return due
