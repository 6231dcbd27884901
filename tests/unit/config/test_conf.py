"""What lies in conf/ is generated from the models, loads, and says the truth."""

import copy
import datetime as dt
import importlib.machinery
import importlib.util
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from relay.config.clients import load_client
from relay.config.describe import HEADER, is_list, section_of, uncommented
from relay.config.document import parse
from relay.config.load import load, validate
from relay.config.reception import ClientSettings
from relay.config.settings import Settings
from relay.config.snapshot import from_snapshot, snapshot
from relay.core.errors import ProblemsError

REPOSITORY = Path(__file__).parents[3]
CONF = REPOSITORY / "conf"


def generator():
    path = str(REPOSITORY / "tools" / "generate-conf")
    loader = importlib.machinery.SourceFileLoader("generate_conf", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("generate_conf", loader))
    loader.exec_module(module)
    return module.generated()


@pytest.mark.parametrize("name", ["postern.yaml", "postern.schema.json", "client.example.yaml", "client.schema.json"])
def test_what_is_generated_is_current(name):
    assert (CONF / name).read_bytes() == generator()[name], "run tools/generate-conf"


def with_examples_only(model: type[BaseModel]) -> dict:
    """The least that shows every section: required settings and examples, all else left to the defaults."""
    made = {}
    for name, field in model.model_fields.items():
        inner = section_of(field)
        if inner is not None:
            made[name] = [with_examples_only(inner)] if is_list(field) else with_examples_only(inner)
        elif field.examples:
            made[name] = field.examples[0]
    return made


def test_uncommenting_everything_gives_exactly_the_defaults(tmp_path):
    (tmp_path / "postern.yaml").write_text(uncommented((CONF / "postern.yaml").read_text()))
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(with_examples_only(Settings)))
    live = (tmp_path / "postern.yaml").read_text()
    assert all(line.lstrip().startswith("# ") or line.strip() in {"", "#"} for line in live.splitlines() if "#" in line)
    assert load(tmp_path / "postern.yaml") == load(tmp_path / "short.yaml")


def test_the_example_as_it_is_gives_the_defaults_too(tmp_path):
    (tmp_path / "postern.yaml").write_text((CONF / "postern.yaml").read_text())
    listener = {"name": "ehr", "kind": "submission", "address": "127.0.0.1"}
    short = {"listeners": [{**listener, "certificate": "tls/cert.pem", "key": "tls/key.pem"}]}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    assert load(tmp_path / "postern.yaml") == load(tmp_path / "short.yaml")


def test_the_shortest_example_in_the_header_loads(tmp_path):
    lines = [line.removeprefix("#     ") for line in HEADER.splitlines() if line.startswith("#     ")]
    (tmp_path / "postern.yaml").write_text("\n".join(lines))
    loaded = load(tmp_path / "postern.yaml")
    assert loaded.listeners[0].port == 587
    assert loaded.listeners[0].certificate == tmp_path / "tls" / "cert.pem"


def test_the_client_example_loads(tmp_path):
    for text in ((CONF / "client.example.yaml").read_text(), uncommented((CONF / "client.example.yaml").read_text())):
        (tmp_path / "main-ehr.yaml").write_text(text)
        assert load_client(tmp_path / "main-ehr.yaml").sender_domains == ("clinic.example",)


def models(model: type[BaseModel]):
    yield model
    for field in model.model_fields.values():
        inner = section_of(field)
        if inner is not None:
            yield from models(inner)


@pytest.mark.parametrize("model", [*models(Settings), ClientSettings], ids=lambda model: model.__name__)
def test_every_setting_says_what_it_does_and_numbers_say_their_unit_and_bounds(model):
    for name, field in model.model_fields.items():
        assert (field.description or "").endswith("."), name
        if section_of(field) is None and field.annotation in (int, float):
            assert (field.json_schema_extra or {}).get("unit"), f"{name}: no unit"
            schema = model.model_json_schema()["properties"][name]
            bounded = "pattern" in schema or ("minimum" in str(schema) and "maximum" in str(schema))
            assert bounded, f"{name} has no bounds"


def test_durations_and_sizes_are_bounded():
    for model in models(Settings):
        for name, field in model.model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and extra.get("unit") in {"duration", "size"}:
                assert {type(one).__name__ for one in field.metadata} >= {"Ge", "Le"}, f"{model.__name__}.{name}"


def test_the_schema_takes_the_example_and_refuses_a_typo():
    schema = json.loads((CONF / "postern.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    example = yaml.safe_load(uncommented((CONF / "postern.yaml").read_text()))
    example["dkim"]["domains"][0]["keys"][0]["valid_from"] = None
    assert list(check.iter_errors(example)) == []
    assert list(check.iter_errors({**example, "hostnam": "x"}))
    assert list(check.iter_errors({**example, "dns": {"timeout": "3 seconds"}}))
    assert list(check.iter_errors({**example, "log": {"level": "warn"}}))


def places(data, at=()):
    """Every place in a tree of settings."""
    yield at
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from places(value, (*at, key))


WHOLE = yaml.safe_load(uncommented((CONF / "postern.yaml").read_text()))
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["auto", "15m", "25MiB", "-1", "[::1]:25", "credential:..", "*", "1.2", "relay", "10.0.0.0/8"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([place for place in places(WHOLE) if place]), JUNK)
def test_any_value_anywhere_is_taken_or_told_in_words_with_a_line(place, junk):
    data = copy.deepcopy(WHOLE)
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = junk
    found = parse(yaml.safe_dump(data, default_flow_style=True, width=1 << 30), "conf/postern.yaml")
    try:
        made = validate(found, Settings, Path("/etc/postern"))
    except ProblemsError as error:
        told = str(error)
    else:
        told = ""
        assert from_snapshot(snapshot(made)[1]) == made
    assert ("conf/postern.yaml:1: " in told) == bool(told)
    assert not any(word in told for word in ("Traceback", "validation error", "pydantic", "Input should"))


def full(tmp_path) -> Settings:
    (tmp_path / "postern.yaml").write_text(uncommented((CONF / "postern.yaml").read_text()))
    return load(tmp_path / "postern.yaml")


def test_a_snapshot_gives_back_the_same_settings_anywhere(tmp_path, monkeypatch):
    loaded = full(tmp_path)
    sha256, content = snapshot(loaded)
    monkeypatch.chdir("/")
    assert from_snapshot(content, sha256) == loaded
    assert snapshot(from_snapshot(content)) == (sha256, content)


def test_equal_settings_have_one_snapshot_and_others_another(tmp_path):
    loaded = full(tmp_path)
    reordered = "hostname: a.example\n" + uncommented((CONF / "postern.yaml").read_text()).replace("hostname: auto", "")
    (tmp_path / "two.yaml").write_text(reordered)
    other = load(tmp_path / "two.yaml")
    assert snapshot(other)[0] != snapshot(loaded)[0]
    (tmp_path / "three.yaml").write_text("# a remark\n" + reordered)
    assert snapshot(load(tmp_path / "three.yaml")) == snapshot(other)


def test_a_damaged_snapshot_is_refused(tmp_path):
    sha256, content = snapshot(full(tmp_path))
    with pytest.raises(ProblemsError, match="not what its name says"):
        from_snapshot(content.replace(b"587", b"588"), sha256)
    for damaged in (content[:-1], b"[]", b'{"listeners": 5}'):
        with pytest.raises(ProblemsError, match="another version"):
            from_snapshot(damaged)


def test_settings_cannot_be_changed(tmp_path):
    loaded = full(tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        loaded.hostname = "other.example"
    with pytest.raises(ValueError, match="frozen"):
        loaded.limits.recipients = 5


def test_days_and_times_have_their_kinds(tmp_path):
    (tmp_path / "postern.yaml").write_text(
        "listeners: [{name: a, kind: relay, address: '::1', tls: none, networks: ['::1/128']}]\n"
        "dkim: {domains: [{domain: Clinic.Example., keys: [{selector: r1, key: k.pem, valid_from: 2027-01-31}]}]}\n"
    )
    loaded = load(tmp_path / "postern.yaml")
    assert loaded.dkim.domains[0].domain == "clinic.example"
    assert loaded.dkim.domains[0].keys[0].valid_from == dt.date(2027, 1, 31)
    assert loaded.delivery.retry.first == 300
    assert loaded.limits.message_size == 25 << 20
    assert loaded.control.socket == loaded.run_dir / "control.sock"
    assert loaded.dsn.postmaster == f"postmaster@{loaded.hostname}"


def test_routes_match_in_order(tmp_path):
    (tmp_path / "postern.yaml").write_text(
        "listeners: [{name: a, kind: relay, address: '::1', tls: none, networks: ['::1/128']}]\n"
        "routes:\n"
        "  - {name: one, domains: [partner.example], hosts: ['[2001:db8::1]:2525', mx.partner.example]}\n"
        "  - {name: below, domains: ['*.partner.example'], hosts: [192.0.2.1]}\n"
        "  - {name: rest, domains: ['*'], hosts: [relay.example:587]}\n"
    )
    loaded = load(tmp_path / "postern.yaml")
    found = {domain: loaded.route_for(domain).name for domain in ("partner.example", "a.partner.example", "x.example")}
    assert found == {"partner.example": "one", "a.partner.example": "below", "x.example": "rest"}
    assert [(host.host, host.port) for host in loaded.routes[0].hosts] == [
        ("2001:db8::1", 2525),
        ("mx.partner.example", 0),
    ]
    assert [str(host) for host in loaded.routes[0].hosts] == ["[2001:db8::1]:2525", "mx.partner.example"]
