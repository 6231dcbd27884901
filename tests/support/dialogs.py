r"""Dialogs of SMTP as files: ``tests/dialogs/NAME.dialog``.

A line begins with what it is:

- ``#`` a comment; ``%`` session limits, ``name=value``; ``! whole-only``: the point is that octets come in one piece
- ``c:`` the client sends this, CRLF added; ``c-`` the same without CRLF; ``\r \n \0 \xNN`` mean octets
- ``s:`` the server says this line
- ``m:`` a message was taken: sender, recipients with commas, content
- ``t:`` TLS begins
- ``x:`` the server closes
"""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from relay.smtp.endofdata import BareNewlines
from relay.smtp.server_limits import SessionLimits
from tests.support.intake import HOSTNAME

DIRECTORY = Path(__file__).parent.parent / "dialogs"
_ESCAPE = re.compile(r"\\(r|n|0|x[0-9a-f]{2})")
_OCTET = {"r": "\r", "n": "\n", "0": "\0"}


@dataclass
class Dialog:
    name: str
    limits: SessionLimits
    whole_only: bool = False
    steps: list = field(default_factory=list)
    messages: list = field(default_factory=list)

    @property
    def uses_tls(self):
        return self.limits.starttls

    @property
    def closes(self):
        return self.steps[-1][0] == "x"

    def stretches(self):
        """What the client sends and the server says, cut where TLS begins."""
        stretches = [[b"", b""]]
        for kind, octets in self.steps:
            if kind == "t":
                stretches.append([b"", b""])
            elif kind in "cs":
                stretches[-1]["cs".index(kind)] += octets
        return stretches


def octets(text):
    """Unescape; what is typed stands for octets, one each."""
    return _ESCAPE.sub(lambda m: _OCTET.get(m[1]) or chr(int(m[1][1:], 16)), text).encode("latin-1")


def limits(text):
    kinds = {item.name: item.type for item in fields(SessionLimits)}
    values = {}
    for word in text.split():
        name, _, value = word.partition("=")
        if kinds[name] is bool or kinds[name] == "bool":
            values[name] = bool(int(value))
        else:
            values[name] = BareNewlines(value) if name == "bare_newlines" else int(value)
    return SessionLimits(hostname=HOSTNAME, **values)


def load(path):
    dialog = Dialog(path.stem, limits(""))
    for line in path.read_text().splitlines():
        kind, text = line[:2], line[3:]
        if kind[:1] in {"#", ""}:
            continue
        if kind[0] == "%":
            dialog.limits = limits(line[1:])
        elif kind[0] == "!":
            assert line == "! whole-only"
            dialog.whole_only = True
        elif kind == "m:":
            sender, recipients, content = text.split(" ", 2)
            dialog.messages.append(
                (octets(sender).replace(b"_", b" "), octets(recipients).split(b","), octets(content))
            )
        elif kind in {"c:", "s:", "c-", "t:", "x:"}:
            dialog.steps.append((kind[0], octets(text) + (b"" if kind in {"c-", "t:", "x:"} else b"\r\n")))
        else:
            raise AssertionError(f"{path.name}: {line}")
    return dialog


DIALOGS = [load(path) for path in sorted(DIRECTORY.glob("*.dialog"))]
