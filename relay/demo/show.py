"""What the demo prints: the Internet it made, the live table, and what an operator would look at next."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from relay.demo.ledger import HELD, Copy
from relay.demo.scenario import STORIES, Domain
from relay.demo.site import Site

_COLOURS = {
    "delivered": "green",
    "notified": "green",
    "bounced": "red",
    "expired": "red",
    HELD: "yellow",
    "waiting": "cyan",
}
_LEVELS = {"clear": "white", "encrypted": "yellow", "verified": "green", "authenticated": "bold green"}


def internet(domains: Sequence[Domain]) -> Table:
    """The domains of the simulated Internet."""
    table = Table(title="A simulated Internet on loopback", title_justify="left", expand=False)
    table.add_column("domain")
    table.add_column("its mail server")
    for domain in domains:
        table.add_row(domain.name, domain.about)
    return table


def standing(copies: Sequence[Copy]) -> Table:
    """Where each copy stands, and why."""
    table = Table(title="Each recipient's copy", title_justify="left", expand=True)
    table.add_column("message", ratio=4)
    table.add_column("to", ratio=3, no_wrap=True)
    table.add_column("PHI", ratio=1, min_width=8)
    table.add_column("rule", ratio=2)
    table.add_column("floor", ratio=2, min_width=8)
    table.add_column("stands", ratio=2, min_width=9)
    table.add_column("reached", ratio=2, min_width=9)
    table.add_column("why", ratio=5)
    for copy in copies:
        table.add_row(
            STORIES[copy.story].title,
            copy.recipient.partition("@")[2],
            Text(copy.phi, style="bold magenta" if copy.phi in ("likely", "certain") else ""),
            copy.rule,
            copy.floor,
            Text(copy.stands + _tries(copy), style=_COLOURS.get(copy.stands, "")),
            Text(copy.reached, style=_LEVELS.get(copy.reached, "")),
            copy.why,
        )
    return table


def _tries(copy: Copy) -> str:
    return f" ({copy.attempts} tries)" if copy.attempts > 1 else ""


def after(site: Site, copies: Sequence[Copy], link: str, *, stays: bool) -> Group:
    """What was promised and kept, the commands to look further, and a link to a message on the secure page.

    Of a site that does not stay it is said that all this ends with the demo.
    """
    held = sum(1 for copy in copies if copy.stands == HELD)
    told = sum(1 for copy in copies if copy.stands == "notified")
    below = sum(1 for copy in copies if copy.is_below_floor)
    kept = Text.assemble(
        ("Nothing left below its floor. ", "bold green")
        if not below
        else (f"{below} copies below floor! ", "bold red"),
        f"{told} copies wait on the secure page, and a notice that says nothing of them went out. {held} "
        f"{'copy is' if held == 1 else 'copies are'} held: the domain looks mistyped. The bounce went back to the "
        "clinic without subject or text.",
    )
    commands = Text(
        "\n".join(
            (
                f"export PATH={Path(sys.executable).parent}:$PATH POSTERN_CONFIG={site.config}",
                "postern portal list                 # what is on the secure page, for whom, and who has read it",
                "postern queue list                  # what waits or is held, by whose rule, and why",
                "postern queue show ID",
                "postern queue unseal ID --reason 'checking a referral'   # audited, and it alerts",
                "postern queue release ID            # the floor stays",
                "postern audit show                  # the whole story of every message, sealed and chained",
                "postern audit verify",
                "postern policy explain FILE --from ehr@clinic.example --to pat@mail.example",
                f"curl http://{site.admin[0]}:{site.admin[1]}/metrics",
                f"tail -f {site.log}",
            )
        )
    )
    page = Text.assemble(
        ("Read a message as its recipient does: ", ""),
        (link or "no notice came", "bold underline"),
        ("\nThe code that the page mails is shown here while the demo runs (make demo).", ""),
    )
    over = "" if stays else " (gone when this ends: leave --once away)"
    return Group(
        Panel(kept, title="What happened"),
        Panel(commands, title=f"What an operator would look at next{over}"),
        Panel(page, title=f"The secure page{over}"),
    )


def code(mailbox: str, text: str) -> Text:
    """A code that was mailed to a mailbox of the simulated Internet."""
    return Text.assemble("The code for ", (mailbox, "bold"), " is ", (text, "bold green"))


def deviations(copies: Sequence[Copy]) -> list[str]:
    """Every way in which the run was not as it should be, one line each."""
    found = []
    for copy in copies:
        story = STORIES[copy.story]
        if copy.stands != copy.expected:
            found.append(f"{story.title}, to {copy.recipient}: {copy.stands}, expected {copy.expected} ({copy.why})")
        if copy.rule != story.expected_rule:
            found.append(f"{story.title}: decided by {copy.rule or 'nothing'}, expected {story.expected_rule}")
        if copy.is_below_floor:
            found.append(f"{story.title}, to {copy.recipient}: left at {copy.reached}, below {copy.floor}")
    return found
