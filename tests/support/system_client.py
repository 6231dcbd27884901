"""A client that says exactly what a test tells it to, to a running site."""

import contextlib
import socket


class Line:
    """One connection. Use as a context manager; ``greeting`` is the first reply."""

    def __init__(self, address, source=None, timeout=60):
        self._socket = socket.create_connection(address, timeout, (source, 0) if source else None)
        self._file = self._socket.makefile("rb")
        self.greeting = self.reply()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._file.close()
        self._socket.close()

    def send(self, data):
        """Octets as they are. A relay that has said its last word may have closed already."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def reply(self):
        """The next reply, in one text: ``250 2.0.0 Ok``; empty at the end of the connection."""
        lines = []
        with contextlib.suppress(ConnectionResetError):
            while line := self._file.readline():
                lines.append(line.decode().rstrip("\r\n"))
                if line[3:4] != b"-":
                    break
        return " ".join(lines)

    def say(self, command):
        """Send a command; its reply."""
        self.send(command.encode() + b"\r\n")
        return self.reply()

    def begin(self, *recipients, sender="ehr@clinic.example", parameters=""):
        """EHLO to the last RCPT; the last reply."""
        self.say("EHLO test.clinic.example")
        answer = self.say(f"MAIL FROM:<{sender}>{parameters}")
        for recipient in recipients or ("box@mail.example",):
            answer = self.say(f"RCPT TO:<{recipient}>")
        return answer

    def data(self, content):
        """DATA and the content with its final dot; the reply to it."""
        answer = self.say("DATA")
        if not answer.startswith("354"):
            return answer
        self.send(content + b"\r\n.\r\n")
        return self.reply()


def submit(address, content, *recipients, **how):
    """One message on a connection of its own; the reply to its end."""
    with Line(address) as line:
        line.begin(*recipients, **how)
        return line.data(content)


def letter(body=b"The lift is being repaired.", *fields):
    """A whole message."""
    head = (b"From: ehr@clinic.example", b"To: box@mail.example", b"Subject: Notice", *fields)
    return b"\r\n".join(head) + b"\r\n\r\n" + body
