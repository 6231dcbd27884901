"""What can go wrong, in one sentence that says where, what and what to do."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One fault in something that a person wrote or keeps: a setting, a policy line, a key file.

    Attributes:
        where: a place a person can go to: ``conf/postern.yaml:12`` or ``/var/lib/postern``.
        what: what is wrong there, without secrets and without patients' data.
        hint: what to do about it; may be empty.
    """

    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.hint})" if self.hint else "")


class PosternError(Exception):
    """Base of every error that Postern raises on purpose; its text is fit to be shown to an operator."""


class ProblemsError(PosternError):
    """One or more problems that must be mended by a person; all that could be found, at once."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class AddressError(PosternError):
    """A mailbox or domain that RFC 5321 does not allow."""


class StoreError(PosternError):
    """The store refused or could not do what it was asked."""


class StoreFullError(StoreError):
    """No room for another message: answered 452 4.3.1 at SMTP time."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached now: intake answers 451 4.3.0, delivery pauses."""


class CorruptError(StoreError):
    """Something read back does not authenticate or does not parse; it is set aside, never guessed at."""


class SealError(PosternError):
    """A sealed thing could not be opened: wrong key, wrong context or changed bytes."""


class FrameError(PosternError):
    """A message that breaks the wire format (bare CR or LF, over-long line)."""
