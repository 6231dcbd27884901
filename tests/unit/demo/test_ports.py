import contextlib
import socket
from pathlib import Path

import pytest

from relay.demo import ports

LOW, HIGH = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())


@pytest.mark.parametrize("hosts", [(), ("127.0.0.1",), ("127.0.1.1", "127.0.1.2")])
def test_it_is_no_port_that_a_client_may_be_given(hosts):
    if LOW <= 10_000 and HIGH >= 65_535:
        pytest.skip("this machine gives clients every port")
    assert not any(LOW <= ports.free_port(*hosts) <= HIGH for _ in range(50))


@pytest.mark.parametrize(("kind", "udp"), [(socket.SOCK_STREAM, False), (socket.SOCK_DGRAM, True)])
def test_one_that_somebody_has_on_any_of_the_addresses_is_not_given(monkeypatch, kind, udp):
    with contextlib.ExitStack() as stack:
        taken = stack.enter_context(socket.socket(type=kind))
        taken.bind(("127.0.1.2", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_ports_of_no_client", lambda: [port])
        with pytest.raises(OSError, match=r"no port is free on all of 127\.0\.1\.1, 127\.0\.1\.2"):
            ports.free_port("127.0.1.1", "127.0.1.2", udp=udp)
    assert ports.free_port("127.0.1.1", "127.0.1.2", udp=udp) == port


def test_where_the_system_leaves_none_any_will_do(monkeypatch, tmp_path):
    for text in ("1024 65535", "rubbish"):
        (tmp_path / "range").write_text(text)
        monkeypatch.setattr(ports, "_RANGE", tmp_path / "range")
        assert 10_000 <= ports.free_port() <= 65_535
