"""Settings of what comes back: how answers are understood, and whom they suppress."""

from relay.config.types import Duration, FilePath, Section, setting


class BounceSettings(Section):
    """How servers' answers and returned mail are understood."""

    rules: tuple[FilePath, ...] = setting(
        [], "Files of bounce rules that are asked before Postern's own; see docs/bounces.md.", "list of files",
        max_length=50,
    )  # fmt: skip


class SuppressionSettings(Section):
    """Mailboxes that refused mail for good get no more for a while."""

    hard_bounce: Duration = setting(
        "90d", "How long a mailbox is suppressed that does not exist or is closed; 0: never.", "duration",
        ge=0, le=315_360_000,
    )  # fmt: skip
