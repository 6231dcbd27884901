"""Settings of what comes back: how answers are understood."""

from relay.config.types import FilePath, Section, setting


class BounceSettings(Section):
    """How servers' answers and returned mail are understood."""

    rules: tuple[FilePath, ...] = setting(
        [], "Files of bounce rules that are asked before Postern's own; see docs/bounces.md.", "list of files",
        max_length=50,
    )  # fmt: skip
