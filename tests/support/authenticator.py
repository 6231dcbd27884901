"""An authenticator in software: makes passkeys and signs with them, as a phone would; or as a thief's would."""

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

_PRESENT, _VERIFIED, _ATTESTED = 0x01, 0x04, 0x40


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def un64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One device, for one origin."""

    origin: str = "https://secure.clinic.example"
    verifies: bool = True
    count: int = 0
    keys: dict[str, tuple[ec.EllipticCurvePrivateKey, str]] = field(default_factory=dict)

    def create(self, options: str) -> str:
        """What ``navigator.credentials.create`` gives for these options."""
        asked = json.loads(options)
        key, credential = ec.generate_private_key(ec.SECP256R1()), os.urandom(32)
        self.keys[b64(credential)] = key, asked["user"]["id"]
        numbers = key.public_key().public_numbers()
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")})
        attested = bytes(16) + len(credential).to_bytes(2, "big") + credential + cose
        data = self._data(asked["rp"]["id"], _ATTESTED) + attested
        response = {
            "clientDataJSON": b64(self._client("webauthn.create", asked["challenge"])),
            "attestationObject": b64(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})),
        }
        return self._credential(b64(credential), response)

    def get(self, options: str, *, credential: str = "") -> str:
        """What ``navigator.credentials.get`` gives for these options."""
        asked = json.loads(options)
        allowed = [one["id"] for one in asked.get("allowCredentials", [])] or list(self.keys)
        credential = credential or next(one for one in allowed if one in self.keys)
        key, handle = self.keys[credential]
        self.count += 1
        data = self._data(asked["rpId"], 0)
        client = self._client("webauthn.get", asked["challenge"])
        signature = key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        response = {
            "clientDataJSON": b64(client),
            "authenticatorData": b64(data),
            "signature": b64(signature),
            "userHandle": handle,
        }
        return self._credential(credential, response)

    def _data(self, rp_id: str, flags: int) -> bytes:
        flags |= _PRESENT | (_VERIFIED if self.verifies else 0)
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")

    def _client(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}).encode()

    @staticmethod
    def _credential(credential: str, response: dict[str, str]) -> str:
        return json.dumps(
            {
                "id": credential,
                "rawId": credential,
                "type": "public-key",
                "response": response,
                "clientExtensionResults": {},
            }
        )
