"""Networks of network namespaces: hosts with a loopback and cables of their own, which a test can pull.

A network is a bridge in the test's own namespace, so that the test reaches every host; a host is a namespace with one
veth pair a network. A pulled cable loses packets silently, as a real one does.
"""

import contextlib
import itertools
import os
import subprocess
import uuid
from typing import Self

from tests.support.peers import require, unavailable

_BLOCKS = itertools.count(os.getpid() % 200)


class Networks:
    """Use as a context manager; all of it goes with the block.

    Attributes:
        tag: begins the name of everything that is made, so that runs side by side do not meet.
    """

    def __init__(self, *names: str) -> None:
        """Name the networks; the test's own address in each is ``.1``."""
        self._ip = require("ip")
        self.tag = f"p{uuid.uuid4().hex[:6]}"
        self._names = names
        self._hosts: list[str] = []
        # RFC 2544 sets 198.18.0.0/15 aside for tests between networks.
        block = next(_BLOCKS) % 250
        self._prefixes = {
            name: f"198.{18 + number // 250}.{(block + number) % 250}" for number, name in enumerate(names)
        }

    def __enter__(self) -> Self:
        try:
            for name in self._names:
                bridge = self._bridge(name)
                self._run("link", "add", bridge, "type", "bridge", "forward_delay", "0")
                self._run("addr", "add", f"{self.address(name, 1)}/24", "dev", bridge)
                self._run("link", "set", "dev", bridge, "up")
        except RuntimeError as error:
            self.__exit__(None, None, None)
            unavailable(f"network namespaces cannot be made here (root and CAP_NET_ADMIN are needed): {error}")
        return self

    def __exit__(self, *_: object) -> None:
        for host in self._hosts:
            with contextlib.suppress(RuntimeError):
                self._run("netns", "del", self.namespace(host))
        for name in self._names:
            with contextlib.suppress(RuntimeError):
                self._run("link", "del", self._bridge(name))

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self._ip, *arguments], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    def _bridge(self, network: str) -> str:
        return f"{self.tag}{network}"[:15]

    def _cable(self, host: str, network: str) -> str:
        return f"{self.tag}{self._hosts.index(host)}{network}"[:15]

    def address(self, network: str, number: int) -> str:
        """An address in a network."""
        return f"{self._prefixes[network]}.{number}"

    def block(self, network: str) -> str:
        """A network's addresses."""
        return f"{self._prefixes[network]}.0/24"

    def namespace(self, host: str) -> str:
        """What ``ip netns`` calls a host."""
        return f"{self.tag}-{host}"

    def add(self, host: str, number: int, *networks: str) -> None:
        """Make a host, with this number in the networks it is connected to."""
        space = self.namespace(host)
        self._hosts.append(host)
        try:
            self._run("netns", "add", space)
            self._run("-n", space, "link", "set", "dev", "lo", "up")
            for network in networks:
                cable = self._cable(host, network)
                self._run("link", "add", cable, "type", "veth", "peer", "name", network, "netns", space)
                self._run("link", "set", "dev", cable, "master", self._bridge(network))
                self._run("link", "set", "dev", cable, "up")
                self._run("-n", space, "addr", "add", f"{self.address(network, number)}/24", "dev", network)
                self._run("-n", space, "link", "set", "dev", network, "up")
        except RuntimeError as error:
            unavailable(f"network namespaces cannot be made here (root and CAP_NET_ADMIN are needed): {error}")

    def inside(self, host: str) -> tuple[str, ...]:
        """The prefix that runs a program on a host, as the same process."""
        return (self._ip, "netns", "exec", self.namespace(host))

    def pull(self, host: str, network: str) -> None:
        """Pull a host's cable: what is sent either way is lost, and nobody is told."""
        self._run("link", "set", "dev", self._cable(host, network), "nomaster")

    def plug(self, host: str, network: str) -> None:
        """Plug it in again."""
        self._run("link", "set", "dev", self._cable(host, network), "master", self._bridge(network))
