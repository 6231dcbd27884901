"""Law 7: what is sealed opens only unchanged, in its own context, under a key of the ring."""

import hashlib
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.errors import SealError
from relay.core.ports import Vault
from relay.protect import sealing
from relay.protect.keyring import KeyRing
from relay.protect.sealing import FRAME_SIZE, HEADER_SIZE, TAG_SIZE, RingVault, sealed_version

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())


def fixed_random(seed: str = "seed"):
    """A repeatable source, so that vectors can be golden."""
    counter = itertools.count()

    def random(size: int) -> bytes:
        return hashlib.shake_256(f"{seed}/{next(counter)}".encode()).digest(size)

    return random


def make_ring(versions: int = 1, seed: str = "ring") -> KeyRing:
    random = fixed_random(seed)
    ring = KeyRing.create(now=1_700_000_000.0, random=random)
    for number in range(1, versions):
        ring = ring.rotated(now=1_700_000_000.0 + number, random=random)
    return ring


def make_vault(versions: int = 1, seed: str = "ring") -> RingVault:
    return RingVault(make_ring(versions, seed), fixed_random("salt"))


SIZES = [0, 1, 4096, FRAME_SIZE - 1, FRAME_SIZE, FRAME_SIZE + 1, 2 * FRAME_SIZE, 3 * FRAME_SIZE + 17]


def test_it_is_the_vault_port():
    vault: Vault = make_vault()
    assert vault.open("body", "m", vault.seal("body", "m", b"x")) == b"x"


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_opens_whole_and_streamed(size):
    vault = make_vault()
    plain = hashlib.shake_128(b"plain").digest(size)
    sealed = vault.seal("body", "m1", plain)
    streamed = b"".join(vault.seal_frames("body", "m1", (plain[i : i + 10_001] for i in range(0, size, 10_001))))
    frames = max(1, -(-size // FRAME_SIZE))
    for form in (sealed, streamed):
        assert len(form) == HEADER_SIZE + size + frames * TAG_SIZE
        assert vault.open("body", "m1", form) == plain
        pieces = (form[i : i + 7_777] for i in range(0, len(form), 7_777))
        assert b"".join(vault.open_frames("body", "m1", pieces)) == plain


def test_equal_bytes_never_seal_alike():
    vault = make_vault()
    assert len({vault.seal("body", "m1", b"same") for _ in range(100)}) == 100


@given(plain=st.binary(max_size=200), where=st.integers(min_value=0), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(plain, where, bit):
    vault = make_vault()
    sealed = bytearray(vault.seal("body", "m1", plain))
    sealed[where % len(sealed)] ^= 1 << bit
    with pytest.raises(SealError):
        vault.open("body", "m1", bytes(sealed))
    with pytest.raises(SealError):
        list(vault.open_frames("body", "m1", [bytes(sealed)]))


@given(keep=st.integers(min_value=0))
def test_any_truncation_is_found(keep):
    vault = make_vault()
    sealed = vault.seal("body", "m1", bytes(2 * FRAME_SIZE))
    cut = sealed[: keep % len(sealed)]
    with pytest.raises(SealError):
        vault.open("body", "m1", cut)
    with pytest.raises(SealError):
        list(vault.open_frames("body", "m1", [cut]))


@pytest.mark.parametrize("frames", range(4))
def test_a_cut_between_frames_is_found(frames):
    vault = make_vault()
    sealed = vault.seal("body", "m1", bytes(3 * FRAME_SIZE + 5))
    with pytest.raises(SealError):
        vault.open("body", "m1", sealed[: HEADER_SIZE + frames * (FRAME_SIZE + TAG_SIZE)])


@given(tail=st.binary(min_size=1, max_size=64))
def test_trailing_bytes_are_found(tail):
    vault = make_vault()
    with pytest.raises(SealError):
        vault.open("body", "m1", vault.seal("body", "m1", b"x") + tail)


@given(order=st.permutations(range(4)).filter(lambda order: order != [0, 1, 2, 3]))
def test_frames_in_another_order_are_found(order):
    vault = make_vault()
    sealed = vault.seal("body", "m1", bytes(4 * FRAME_SIZE))
    size = FRAME_SIZE + TAG_SIZE
    frames = [sealed[HEADER_SIZE + i * size : HEADER_SIZE + (i + 1) * size] for i in range(4)]
    with pytest.raises(SealError):
        vault.open("body", "m1", sealed[:HEADER_SIZE] + b"".join(frames[i] for i in order))


def test_a_frame_of_another_message_is_found():
    vault = make_vault()
    one, two = (vault.seal("body", name, bytes(2 * FRAME_SIZE)) for name in ("m1", "m2"))
    cut = HEADER_SIZE + FRAME_SIZE + TAG_SIZE
    with pytest.raises(SealError):
        vault.open("body", "m1", one[:cut] + two[cut:])
    with pytest.raises(SealError):
        vault.open("body", "m1", one[:HEADER_SIZE] + two[HEADER_SIZE:])


@given(
    sealed_as=st.tuples(st.text(max_size=5), st.text(max_size=5)),
    opened_as=st.tuples(st.text(max_size=5), st.text(max_size=5)),
)
def test_only_the_same_purpose_and_context_open(sealed_as, opened_as):
    vault = make_vault()
    sealed = vault.seal(*sealed_as, b"text")
    if sealed_as == opened_as:
        assert vault.open(*opened_as, sealed) == b"text"
    else:
        with pytest.raises(SealError):
            vault.open(*opened_as, sealed)


def test_purpose_and_context_do_not_run_together():
    vault = make_vault()
    with pytest.raises(SealError):
        vault.open("bod", "ym1", vault.seal("body", "m1", b"text"))


def test_a_rotated_ring_opens_the_old_and_seals_under_the_new():
    old = make_vault(1)
    before = old.seal("body", "m1", b"text")
    address = old.seal_address("jane@clinic.example")
    new = make_vault(3)
    assert new.open("body", "m1", before) == b"text"
    assert new.open_address(address) == "jane@clinic.example"
    assert [sealed_version(x) for x in (before, new.seal("body", "m1", b""), new.seal_address("a@b"))] == [1, 3, 3]
    with pytest.raises(SealError, match="version 3 is not in the key ring"):
        old.open("body", "m1", new.seal("body", "m1", b"text"))


def test_a_version_renumbered_in_the_header_does_not_open():
    vault = make_vault(2)
    sealed = vault.seal("body", "m1", b"text")
    with pytest.raises(SealError):
        vault.open("body", "m1", sealed[:6] + b"\x01" + sealed[7:])
    address = vault.seal_address("jane@clinic.example")
    with pytest.raises(SealError):
        vault.open_address(address[:6] + b"\x01" + address[7:])


def test_a_running_vault_adopts_only_its_own_later_ring():
    vault = make_vault(1)
    sealed = vault.seal("body", "m1", b"text")
    vault.adopt(make_ring(2))
    assert vault.open("body", "m1", sealed) == b"text"
    assert sealed_version(vault.seal("body", "m1", b"")) == 2
    with pytest.raises(SealError, match="another installation"):
        vault.adopt(make_ring(5, seed="other"))
    with pytest.raises(SealError, match="older"):
        vault.adopt(make_ring(1))
    assert vault.ring == make_ring(2)


def test_what_another_process_sealed_after_a_rotation_opens_at_once():
    asked = []

    def reload():
        asked.append(1)
        return make_ring(2)

    vault = RingVault(make_ring(1), fixed_random("salt"), reload=reload)
    later = make_vault(2)
    assert vault.open("body", "m1", later.seal("body", "m1", b"text")) == b"text"
    assert vault.open_address(later.seal_address("a@b.example")) == "a@b.example"
    assert len(asked) == 1
    with pytest.raises(SealError, match="version 3"):
        vault.open("body", "m1", make_vault(3).seal("body", "m1", b"text"))


def test_a_version_that_was_retired_does_not_have_the_ring_read_again():
    later = make_ring(2)
    retired = KeyRing(id=later.id, versions=later.versions[1:], audit_keys=later.audit_keys)

    def reload():
        raise AssertionError("the ring in use knows every version up to its own")

    vault = RingVault(retired, fixed_random("salt"), reload=reload)
    with pytest.raises(SealError, match="version 1 is not in the key ring"):
        vault.open("body", "m1", make_vault(1).seal("body", "m1", b"text"))


def test_no_object_has_so_many_frames_that_a_nonce_would_come_again(monkeypatch):
    vault = make_vault()
    whole, more = bytes(3 * FRAME_SIZE), bytes(3 * FRAME_SIZE + 1)
    sealed = vault.seal("body", "m1", more)
    monkeypatch.setattr(sealing, "_MAX_FRAMES", 3)
    assert vault.open("body", "m1", vault.seal("body", "m1", whole)) == whole
    for opening in (
        lambda: vault.seal("body", "m1", more),
        lambda: list(vault.seal_frames("body", "m1", [more])),
        lambda: vault.open("body", "m1", sealed),
    ):
        with pytest.raises(SealError, match="too many frames"):
            opening()


@given(text=st.text(max_size=80))
def test_addresses_are_deterministic_and_open(text):
    vault = make_vault(2)
    sealed = vault.seal_address(text)
    assert sealed == vault.seal_address(text) == vault.address_tokens(text)[0]
    assert vault.open_address(sealed) == text
    assert vault.address_tokens(text)[1] == make_vault(1).seal_address(text)


@given(text=st.text(max_size=40), where=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_changed_address_is_found(text, where, bit):
    vault = make_vault()
    sealed = bytearray(vault.seal_address(text))
    sealed[where % len(sealed)] ^= 1 << bit
    with pytest.raises(SealError):
        vault.open_address(bytes(sealed))
    with pytest.raises(SealError):
        vault.open_address(vault.seal_address(text)[: where % len(sealed)])


def test_sealed_things_of_one_kind_do_not_open_as_another():
    vault = make_vault()
    with pytest.raises(SealError):
        vault.open("address", "", vault.seal_address("jane@clinic.example"))
    with pytest.raises(SealError):
        vault.open_address(vault.seal("address", "", b"jane@clinic.example"))


def test_digests_are_keyed():
    one, other = make_vault(), make_vault(seed="other")
    assert one.digest("123-45-6789") == one.digest("123-45-6789")
    assert len({one.digest("123-45-6789"), other.digest("123-45-6789"), one.digest("123-45-6780")}) == 3
    assert len(bytes.fromhex(one.digest(""))) == 16


@pytest.mark.parametrize(
    "blob", [b"", b"PS1", b"PS2" + bytes(80), b"plain text that nobody sealed at all, of some length"]
)
def test_what_was_never_sealed_is_refused(blob):
    vault = make_vault()
    for opening in (lambda: vault.open("a", "b", blob), lambda: list(vault.open_frames("a", "b", [blob]))):
        with pytest.raises(SealError, match="not a sealed object"):
            opening()
    with pytest.raises(SealError, match="not a sealed address"):
        vault.open_address(blob)
    assert sealed_version(blob) is None


@pytest.mark.parametrize("vector", VECTORS["sealed"], ids=lambda vector: vector["name"])
def test_the_format_is_the_golden_one(vector):
    vault = make_vault(vector["version"])
    plain = hashlib.shake_128(vector["name"].encode()).digest(vector["size"])
    sealed = vault.seal(vector["purpose"], vector["context"], plain)
    assert hashlib.sha256(sealed).hexdigest() == vector["sha256"]
    assert sealed[:64].hex() == vector["begins"]


def test_the_format_can_be_opened_from_its_description_alone():
    """A second reading of the format, with nothing of ours but the master secret: what a recovery tool would do."""
    import hmac

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    plain = hashlib.shake_128(b"plain").digest(2 * FRAME_SIZE + 9)
    sealed = make_vault().seal("body", "m1", plain)
    header, salt = sealed[:28], sealed[8:28]
    info = b"postern/1/seal/body"
    purpose = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(make_ring().newest.secret)
    cipher = AESGCM(hmac.digest(purpose, salt + b"\x01", "sha256"))
    opened = b""
    for number, last in enumerate((0, 0, 1)):
        frame = sealed[28 + number * 65552 : 28 + (number + 1) * 65552]
        nonce = salt[13:] + number.to_bytes(4, "big") + bytes((last,))
        opened += cipher.decrypt(nonce, frame, header + b"\x04body" + b"m1")
    assert opened == plain


def test_addresses_and_digests_are_the_golden_ones():
    vault = make_vault()
    assert vault.seal_address("jane@clinic.example").hex() == VECTORS["address"]
    assert vault.digest("123-45-6789") == VECTORS["digest"]


def test_no_key_shows_in_a_repr():
    ring = make_ring()
    assert ring.newest.secret.hex() not in repr(ring)
    assert repr(ring.newest.secret) not in repr(ring)
