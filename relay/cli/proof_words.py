"""What the words of a proof mean, for who files it and is no mail engineer: a lawyer, an auditor, a patient."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from relay.observe.proof import Story

_LEVELS: Final = {
    "clear": "not encrypted on the way",
    "encrypted": "encrypted on the way; who the receiving server was is not proved",
    "verified": "encrypted, and a certificate from a trusted authority proves the receiving server's name",
    "authenticated": "verified, and somebody besides vouches that this server is the one the recipient's domain names",
}
_VERDICTS: Final = {
    "none": "the scan found nothing that points to a patient together with health, care or payment",
    "possible": "the scan could not rule such data out, or could not read a part",
    "likely": "the scan found such data, and is fairly sure",
    "certain": "the scan found such data, and is sure",
}
_FATES: Final = {
    "delivered": "the recipient's mail server took responsibility for the message",
    "notified": "a mail server took the notice of the secure page; `read` would say that the message was opened",
    "read": "somebody who proved that they read the mailbox opened the message on the secure page",
    "portal-expired": "nobody opened the message on the secure page in time; it was deleted",
    "recalled": "the message was taken back from the secure page and deleted",
    "bounced": "it could not be delivered for good; its sender was told, if there is one and they wanted it",
    "expired": "it could not be delivered in the time it had; its sender was told, if there is one and they wanted it",
    "rejected": "policy refused it",
    "removed": "an operator took it out of the queue",
    "processed": "it was a report to an address of Postern's own, and was read",
}
_METHODS: Final = {
    "tls": "the message itself travels to the recipient's mail server, over a connection that reaches the level (TLS)",
    "portal": "the message stays on a secure page; only a notice without its content travels",
    "smime": "the message is encrypted for the recipient's certificate",
    "pgp": "the message is encrypted for the recipient's key",
}
_OFFERED: Final = ("offered", "the connection over which the copy was offered to a mail server that did not take it")
_ALWAYS: Final = (
    (
        "policy",
        "SHA-256 of the policy that decided; `postern policy history show` and its first 6 digits print its text",
    ),
    ("least level", "below this protection the copy could not leave by this rule and the guarantees that held"),
    ("head of the chain", "a fingerprint of all records so far: whoever noted it can tell later that none was changed"),
)


def meanings(story: "Story") -> list[tuple[str, str]]:
    """The words that stand in this proof, and one sentence on each."""
    copies = story.copies
    said = {str(story.accepted.get("phi"))}
    levels = [copy.decision.get("floor") for copy in copies] + [copy.protection.get("level") for copy in copies]
    methods = [method for copy in copies for method in copy.decision.get("methods", ())]
    fates = [copy.fate.get("fate") for copy in copies] + [step.kind for copy in copies for step in copy.steps]
    return [
        *((f"data {word}", text) for word, text in _chosen(_VERDICTS, said)),
        *_chosen(_METHODS, methods),
        *_chosen(_LEVELS, levels),
        *_chosen(_FATES, fates),
        *([_OFFERED] if any(copy.protection and not copy.was_taken for copy in copies) else ()),
        *_ALWAYS,
    ]


def _chosen(words: dict[str, str], said: Iterable[object]) -> list[tuple[str, str]]:
    found = set(said)
    return [(word, text) for word, text in words.items() if word in found]
