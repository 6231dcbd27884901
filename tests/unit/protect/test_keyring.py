"""The key ring: its file, its rotation, its recovery copy, and who may read it."""

import os
import shutil
import stat
from datetime import date
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from relay.config.delivery import DkimDomainSettings, DkimKeySettings, DkimSettings
from relay.config.keyfiles import (
    create_ring,
    give_to,
    load_ring,
    read_private,
    ring_lock,
    ring_path,
    update_ring,
    write_private,
)
from relay.config.signing_keys import configured_signing_keys, load_signing_keys, read_signing_key, write_signing_key
from relay.core.errors import ProblemsError
from relay.protect.dkim import SigningKey
from relay.protect.keyring import dump_ring, parse_ring
from relay.protect.recovery import read_recovery, write_recovery
from tests.unit.protect.test_dkim import ED, RSA
from tests.unit.protect.test_sealing import fixed_random, make_ring

# --- the format -----------------------------------------------------------


def test_a_ring_is_read_back():
    ring = make_ring(3).audit_rotated(now=5.0, random=fixed_random("a"))
    assert parse_ring(dump_ring(ring), where="ring.json") == ring


@given(where=st.integers(min_value=0), value=st.integers(0, 255))
def test_a_damaged_ring_is_refused_or_the_same_and_never_shown(where, value):
    ring = make_ring(2)
    content = bytearray(dump_ring(ring))
    content[where % len(content)] = value
    read, told = ring, "ring.json"
    try:
        read = parse_ring(bytes(content), where="ring.json")
    except ProblemsError as error:
        told = str(error)
    assert "ring.json" in told
    assert orjson.loads(dump_ring(ring))["versions"][0]["secret"] not in told
    assert [version.secret for version in read.versions] == [version.secret for version in ring.versions]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"format": "postern-keyring-9"}', b"\xff"])
def test_what_is_no_ring_is_refused(content):
    with pytest.raises(ProblemsError, match="cannot be read"):
        parse_ring(content, where="ring.json")


@pytest.mark.parametrize("change", ["order", "none", "number", "short"])
def test_a_ring_that_makes_no_sense_is_refused(change):
    document = orjson.loads(dump_ring(make_ring(2)))
    if change == "order":
        document["versions"].reverse()
    elif change == "none":
        document["versions"] = []
    elif change == "number":
        document["versions"][0]["number"] = 0
    else:
        document["versions"][0]["secret"] = "c2hvcnQ="
    with pytest.raises(ProblemsError):
        parse_ring(orjson.dumps(document), where="ring.json")


def test_only_old_versions_can_be_left_out():
    ring = make_ring(3)
    assert [version.number for version in ring.without(1).versions] == [2, 3]
    for number in (3, 9):
        with pytest.raises(ValueError, match="version"):
            ring.without(number)


# --- the file ---------------------------------------------------------------


def test_the_file_is_private_and_never_replaced(tmp_path):
    keys = tmp_path / "keys"
    path = create_ring(keys, make_ring())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert load_ring(keys) == make_ring()
    with pytest.raises(ProblemsError, match="there already"):
        create_ring(keys, make_ring(seed="other"))
    assert load_ring(keys) == make_ring()
    assert [path.name for path in keys.iterdir()] == ["ring.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_ring_others_can_read_is_refused(tmp_path, mode):
    create_ring(tmp_path, make_ring()).chmod(mode)
    with pytest.raises(ProblemsError, match="others can read") as caught:
        load_ring(tmp_path)
    assert "chmod 600" in str(caught.value)


def test_a_missing_ring_says_what_to_do(tmp_path):
    with pytest.raises(ProblemsError, match="postern keys init"):
        load_ring(tmp_path)


@pytest.mark.parametrize("kind", ["directory", "pipe", "large", "link to all"])
def test_only_a_plain_small_file_is_read(tmp_path, kind):
    path = tmp_path / "secret"
    if kind == "link to all":
        (tmp_path / "real").write_bytes(b"x")
        path.symlink_to(tmp_path / "real")
    elif kind == "directory":
        path.mkdir(0o700)
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    else:
        write_private(path, bytes((1 << 20) + 1))
    with pytest.raises(ProblemsError, match=str(path)):
        read_private(path)


def test_a_rotated_ring_replaces_only_its_own(tmp_path):
    create_ring(tmp_path, make_ring())
    with ring_lock(tmp_path):
        update_ring(tmp_path, make_ring(2))
        with pytest.raises(ProblemsError, match="another process"), ring_lock(tmp_path):
            pass
    assert load_ring(tmp_path) == make_ring(2)
    with pytest.raises(ProblemsError, match="another installation"):
        update_ring(tmp_path, make_ring(seed="other"))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    create_ring(tmp_path, make_ring())

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ProblemsError, match="No space left"):
        update_ring(tmp_path, make_ring(2))
    monkeypatch.undo()
    assert load_ring(tmp_path) == make_ring()
    assert [path.name for path in tmp_path.iterdir()] == ["ring.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_service(tmp_path):
    give_to(tmp_path / "keys", "nobody")
    path = create_ring(tmp_path / "keys", make_ring())
    assert path.owner() == "nobody"
    os.chown(path, 1, 1)
    write_private(path, b"x")
    assert path.stat().st_uid == 1
    with pytest.raises(ProblemsError, match="no Unix user"):
        give_to(tmp_path / "more", "no-such-user-here")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root meets another user's keys")
def test_root_is_told_to_run_the_command_as_the_owner(tmp_path):
    path = create_ring(tmp_path / "keys", make_ring())
    shutil.chown(path, "nobody")
    with pytest.raises(ProblemsError, match="as its owner: runuser -u nobody -- postern"):
        load_ring(tmp_path / "keys")


# --- recovery -----------------------------------------------------------------


def recovery_of(ring, passphrase="correct horse battery"):
    return write_recovery(ring, passphrase, random=fixed_random("salt"), log_n=10)


def test_a_recovery_copy_gives_the_ring_back():
    copy = recovery_of(make_ring(2))
    assert copy.isascii()
    assert max(map(len, copy.splitlines())) <= 64
    assert read_recovery(
        b"Printed on paper:\r\n\r\n" + copy.replace(b"\n", b"\r\n"), "correct horse battery", where="f"
    ) == make_ring(2)


def test_a_wrong_passphrase_or_a_changed_copy_is_refused():
    copy = recovery_of(make_ring())
    with pytest.raises(ProblemsError, match="passphrase is wrong"):
        read_recovery(copy, "correct horse batterx", where="f")
    changed = copy.replace(copy[200:201], b"A" if copy[200:201] != b"A" else b"B")
    with pytest.raises(ProblemsError):
        read_recovery(changed, "correct horse battery", where="f")
    for nonsense in (b"", b"hello", copy[:100], copy.replace(b"BEGIN", b"BEGUN")):
        with pytest.raises(ProblemsError, match="not a recovery copy"):
            read_recovery(nonsense, "correct horse battery", where="f")


def test_a_short_passphrase_is_refused():
    with pytest.raises(ValueError, match="fewer than 12"):
        recovery_of(make_ring(), "short")


# --- signing keys ---------------------------------------------------------------


def test_signing_keys_are_read_back_with_their_times(tmp_path):
    key = SigningKey(domain="clinic.example", selector="s1", private=RSA.private, active_from=1e9, active_until=2e9)
    path = write_signing_key(tmp_path, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_signing_key(tmp_path, SigningKey(domain="lab.example", selector="s1", private=ED.private))
    first, second = load_signing_keys(tmp_path)
    assert (first.domain, first.selector, first.active_from, first.active_until) == ("clinic.example", "s1", 1e9, 2e9)
    assert (second.domain, second.algorithm, second.active_until) == ("lab.example", "ed25519", None)
    with pytest.raises(ProblemsError, match="there already"):
        write_signing_key(tmp_path, key)


def test_no_directory_no_keys(tmp_path):
    assert load_signing_keys(tmp_path / "missing") == ()


def test_every_bad_signing_key_is_told_of_at_once(tmp_path):
    write_signing_key(tmp_path, SigningKey(domain="a.example", selector="open", private=ED.private)).chmod(0o644)
    other = generate_ec(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = ED.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    times = b"Active-From: tomorrow\n" + ED.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content in {"b": b"junk", "c": other, "d": locked, "e": times, "Bad_name": times[22:]}.items():
        write_private(tmp_path / "a.example" / f"{name}.pem", content)
    with pytest.raises(ProblemsError) as caught:
        load_signing_keys(tmp_path)
    texts = {Path(problem.where).stem: problem.what for problem in caught.value.problems}
    assert texts.keys() == {"open", "b", "c", "d", "e", "Bad_name"}
    assert "others can read" in texts["open"]
    assert "neither" in texts["c"]
    assert "encrypted" in texts["d"]
    assert "time" in texts["e"]
    assert "selector" in texts["Bad_name"]


def configured(place, **more):
    key = DkimKeySettings.model_validate({"selector": "s9", "key": str(place), **more}, context={"base": Path("/")})
    return DkimDomainSettings.model_construct(domain="clinic.example", keys=(key,))


def settings_with(directory, *domains):
    return DkimSettings.model_construct(dir=directory, domains=domains)


def test_configured_keys_join_those_of_the_directory(tmp_path):
    write_signing_key(tmp_path / "dkim", ED)
    place = write_signing_key(tmp_path / "else", SigningKey(domain="x.example", selector="x", private=RSA.private))
    keys = configured_signing_keys(
        settings_with(tmp_path / "dkim", configured(place, valid_from=date(2026, 1, 1), valid_until=date(2027, 1, 1)))
    )
    assert [key.record_name for key in keys] == ["ed1._domainkey.clinic.example", "s9._domainkey.clinic.example"]
    assert keys[1].active_until - keys[1].active_from == 365 * 86_400


def test_wrong_configured_keys_are_told_of_at_once(tmp_path):
    place = write_signing_key(tmp_path, SigningKey(domain="x.example", selector="x", private=ED.private))
    missing = configured(tmp_path / "missing.pem")
    with pytest.raises(ProblemsError) as caught:
        configured_signing_keys(settings_with(tmp_path / "dkim", configured(place, algorithm="rsa"), missing))
    assert len(caught.value.problems) == 2
    twice = configured(place, algorithm="ed25519")
    with pytest.raises(ProblemsError, match="two keys"):
        configured_signing_keys(settings_with(tmp_path / "dkim", twice, twice))


def test_a_key_file_others_can_read_is_refused_wherever_it_is(tmp_path):
    place = write_signing_key(tmp_path, ED)
    place.chmod(0o640)
    with pytest.raises(ProblemsError, match="others can read"):
        read_signing_key(place, domain="clinic.example", selector="s")


def test_the_ring_path_is_the_one_the_configuration_check_names():
    assert ring_path(Path("/k")) == Path("/k/ring.json")
