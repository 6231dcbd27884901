"""The method ``tls``: the original as it is, protected by the connection alone."""

from relay.core.decision import MethodName
from relay.core.entry import QueueEntry
from relay.core.envelope import Message
from relay.core.ports import Rendering, Unavailable
from relay.methods.original import edited


class TlsMethod:
    """Renders the untouched original, with the header edits that the treatment asks for. Implements ``Method``."""

    @property
    def name(self) -> MethodName:
        """``tls``."""
        return MethodName.TLS

    async def render(self, entry: QueueEntry, message: Message, content: bytes) -> Rendering | Unavailable:  # noqa: ARG002  the interface's arguments
        """The bytes to send, and the treatment's floor for their connection; idempotent.

        A header edit that cannot be written makes the method unavailable: the copy must not go out without it.
        """
        treatment = entry.treatment
        try:
            content = edited(content, treatment)
        except ValueError as error:
            return Unavailable(f"a header that the policy adds cannot be written: {error}")
        return Rendering(content=content, floor=treatment.floor)
