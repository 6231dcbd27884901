"""A quick deterministic vault for tests: it really transforms bytes, so that what is not sealed shows."""

import hashlib
import hmac

from relay.core.errors import SealError


def _stream(key: bytes, length: int) -> bytes:
    return hashlib.shake_128(key).digest(length)


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


class FakeVault:
    """Implements ``relay.core.ports.Vault`` with a keyed stream and a MAC; nothing outside tests may use it."""

    def __init__(self, key: bytes = b"test key") -> None:
        self._key = key

    def _mac(self, label: bytes, data: bytes) -> bytes:
        return hmac.digest(self._key, label + b"\0" + data, "sha256")[:16]

    def seal(self, purpose: str, context: str, plain: bytes) -> bytes:
        label = f"{purpose}\0{context}".encode()
        tag = self._mac(label, plain)
        return tag + _xor(plain, _stream(self._key + tag, len(plain)))

    def open(self, purpose: str, context: str, sealed: bytes) -> bytes:
        tag, body = sealed[:16], sealed[16:]
        plain = _xor(body, _stream(self._key + tag, len(body)))
        if not hmac.compare_digest(tag, self._mac(f"{purpose}\0{context}".encode(), plain)):
            raise SealError("it does not authenticate")
        return plain

    def seal_address(self, text: str) -> bytes:
        return self.seal("address", "", text.encode())

    def open_address(self, sealed: bytes) -> str:
        return self.open("address", "", sealed).decode()

    def address_tokens(self, text: str) -> tuple[bytes, ...]:
        return (self.seal_address(text),)

    def digest(self, text: str) -> str:
        return self._mac(b"digest", text.encode()).hex()
