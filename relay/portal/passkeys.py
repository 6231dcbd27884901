"""Passkeys: WebAuthn credentials that verify their user (W3C Web Authentication Level 3), by the library ``webauthn``.

The challenge lives in a ticket in the form, the browser's answer in a hidden field: the page's script only stands
between the two. A challenge is used once.
"""

import base64
import binascii
from dataclasses import replace
from typing import Any, Final

import orjson
import webauthn
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from relay.core.portal_accounts import Account, Passkey
from relay.portal.options import PortalOptions

CHALLENGE_OCTETS: Final = 32
MOST: Final = 10
"""Passkeys of one account."""
_MAX_ANSWER: Final = 16 * 1024
_MAX_NAME: Final = 40
_REQUIRED: Final = AuthenticatorSelectionCriteria(
    resident_key=ResidentKeyRequirement.REQUIRED,
    require_resident_key=True,
    user_verification=UserVerificationRequirement.REQUIRED,
)


class PasskeyError(Exception):
    """The browser's answer proves nothing; the text says why, without anything of the answer."""


class Passkeys:
    """Asks browsers, and judges their answers."""

    def __init__(self, options: PortalOptions) -> None:
        """Take the scope.

        Args:
            options: origin and brand.
        """
        self._options = options
        self._timeout = int(options.sessions.ceremony * 1000)

    def creation(self, account: Account, challenge: bytes, *, name: str) -> str:
        """What ``navigator.credentials.create`` is asked, as JSON; ``name`` is the clinic's."""
        return webauthn.options_to_json(
            webauthn.generate_registration_options(
                rp_id=self._options.rp_id,
                rp_name=name,
                user_id=_octets(account.handle),
                user_name=str(account.mailbox),
                challenge=challenge,
                timeout=self._timeout,
                authenticator_selection=_REQUIRED,
                exclude_credentials=[_descriptor(key) for key in account.passkeys],
            )
        )

    def created(self, answer: str, challenge: bytes, *, name: str, now: float) -> Passkey:
        """The passkey that the browser made.

        Raises:
            PasskeyError: it proves nothing.
        """
        try:
            made = webauthn.verify_registration_response(
                credential=_answer(answer),
                expected_challenge=challenge,
                expected_rp_id=self._options.rp_id,
                expected_origin=self._options.origin,
                require_user_verification=True,
            )
        except _FAULTS as error:
            raise PasskeyError(type(error).__name__) from None
        return Passkey(
            id=_text(made.credential_id),
            public_key=_text(made.credential_public_key),
            sign_count=made.sign_count,
            name=" ".join(name.split())[:_MAX_NAME] or "-",
            created_at=now,
        )

    def request(self, challenge: bytes, account: Account | None = None) -> str:
        """What ``navigator.credentials.get`` is asked, as JSON; without an account any passkey of this host will do."""
        return webauthn.options_to_json(
            webauthn.generate_authentication_options(
                rp_id=self._options.rp_id,
                challenge=challenge,
                timeout=self._timeout,
                allow_credentials=[_descriptor(key) for key in account.passkeys] if account else None,
                user_verification=UserVerificationRequirement.REQUIRED,
            )
        )

    def judge(self, account: Account, answer: str, challenge: bytes, *, now: float) -> Account:
        """The account after one of its passkeys answered.

        Raises:
            PasskeyError: none of them did, or its counter went back: somebody copied it (section 6.1.1).
        """
        credential = _answer(answer)
        used = next((key for key in account.passkeys if key.id == credential.get("id")), None)
        if used is None:
            raise PasskeyError("unknown credential")
        try:
            verified = webauthn.verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._options.rp_id,
                expected_origin=self._options.origin,
                credential_public_key=_octets(used.public_key),
                credential_current_sign_count=used.sign_count,
                require_user_verification=True,
            )
        except _FAULTS as error:
            raise PasskeyError(type(error).__name__) from None
        renewed = replace(used, sign_count=verified.new_sign_count, used_at=now)
        return replace(account, passkeys=tuple(renewed if key.id == used.id else key for key in account.passkeys))


_FAULTS: Final = (WebAuthnException, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)
"""What the library raises for answers that are wrong, and for those that are no answers at all."""


def handle_of(answer: str) -> str:
    """The user handle that an answer names, base64url; empty when it names none. Nothing of it is proven yet."""
    try:
        handle = _answer(answer)["response"].get("userHandle", "")
        return _text(_octets(handle)) if isinstance(handle, str) else ""
    except (PasskeyError, KeyError, TypeError, AttributeError, ValueError):
        return ""


def _answer(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text) if len(text) <= _MAX_ANSWER else None
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise PasskeyError("no answer")
    return value


def _descriptor(key: Passkey) -> PublicKeyCredentialDescriptor:
    return PublicKeyCredentialDescriptor(id=_octets(key.id))


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _octets(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
