"""What the pages tell people to type, to set and to look at is there: verbs, settings, metrics, files, links."""

import re
import shlex
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from relay.cli import main
from relay.config.describe import section_of
from relay.config.document import Document, parse
from relay.config.load import validate
from relay.config.settings import Settings
from relay.delivery.bounce import MEANINGS
from relay.delivery.bouncerules import read_rules
from relay.smtp import server_replies
from relay.smtp.server_limits import SessionLimits
from tests.support.policies import compile_text

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEAD = """policy: p
lists: { partners: [mercy.example] }
"""
REST = "  - { id: last-of-all, deliver: { methods: [tls], tls: opportunistic } }\n"


def told(page: Path) -> list[str]:
    """Every command of ours on a page: in a line of its own, or in backticks."""
    text = page.read_text()
    lines = re.findall(r"^(?: {4}|\$ )?(?:runuser -u postern -- )?(postern [a-z-].*)$", text, re.MULTILINE)
    spans = re.findall(r"`(?:runuser -u postern -- )?(postern [a-z-][^`]*)`", text)
    return [" ".join(one.split()) for one in lines + spans if not one.startswith("postern --")]


COMMANDS = sorted({(page.relative_to(ROOT).as_posix(), one) for page in PAGES for one in told(page)})


def words(line: str) -> list[str]:
    """What is typed: without remarks, brackets around what may be left out, and dots for what is repeated."""
    line = re.split(r"\s{2,}|\s#|;", line)[0].removesuffix("\\")
    return shlex.split(re.sub(r"[\[\]|]|\.\.\.(?=\s|$)", " ", line).replace("...", "x"))[1:]


def typed(line: str) -> tuple[list[click.Command], list[str]]:
    """The verbs of a line, outermost first, and what stands behind them."""
    given = words(line)
    path: list[click.Command] = [main]
    while given and isinstance(path[-1], click.Group):
        known = {name for one in path for option in one.params for name in option.opts}
        if given[0] in known:
            given = given[1:]
            continue
        found = path[-1].get_command(click.Context(path[-1]), given[0])
        if found is None and path[-1].name == "history":
            break
        assert found is not None, f"{given[0]} is no verb"
        path.append(found)
        given = given[1:]
    return path, given


def test_the_pages_tell_many_commands():
    assert len(COMMANDS) > 80


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda value: value)
def test_a_command_of_the_pages_has_its_verbs_and_options(page, line):
    path, given = typed(line)
    known = {name for one in path for option in one.params for name in (*option.opts, *option.secondary_opts)}
    options = {one.partition("=")[0] for one in given if one.startswith("--")}
    assert options <= known
    if given and not isinstance(path[-1], click.Group):
        needed = {option.opts[0] for option in path[-1].params if isinstance(option, click.Option) and option.required}
        assert needed <= options, "a required option is missing"


# --- settings -----------------------------------------------------------


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.relative_to(ROOT).as_posix(), text)
        for page in PAGES
        for kind, text in FENCED.findall(page.read_text())
        if kind == language
    ]


def settings_of(document: Document, base: Path) -> None:
    listeners = [{"name": "a", "kind": "relay", "address": "::1", "tls": "none", "networks": ["::1/128"]}]
    document.data.setdefault("listeners", listeners)
    if "portal" in document.data:  # what is added to a portal that stands already
        document.data["portal"] = {"origin": "http://localhost", "mail_from": "a@b.example"} | document.data["portal"]
    validate(document, Settings, base)


@pytest.mark.parametrize(("page", "text"), blocks("yaml"), ids=lambda value: value[:30])
def test_an_example_in_yaml_is_taken(page, text, tmp_path):
    document = parse(text, page)
    if isinstance(document.data, list):
        indented = "".join(f"  {line}\n" for line in text.splitlines())
        compile_text(f"{HEAD}rules:\n{indented}{REST}")
    elif "floor" in document.data:
        compile_text(f"{HEAD}{text}{REST}")
    elif set(document.data) <= set(Settings.model_fields):
        settings_of(document, tmp_path)
    elif "rules" in document.data:
        assert read_rules(text, page)
    else:
        from relay.config.tuning import load_tuning

        (tmp_path / "scan.yaml").write_text(text)
        load_tuning(tmp_path / "scan.yaml")


def resolves(name: str) -> bool:
    model: type[BaseModel] | None = Settings
    for part in name.split("."):
        if model is None or part not in model.model_fields:
            return False
        model = section_of(model.model_fields[part])
    return True


def test_every_setting_that_a_page_names_exists():
    sections = "|".join(name for name, field in Settings.model_fields.items() if section_of(field) is not None)
    named = re.compile(rf"`((?:{sections})(?:\.[a-z_0-9]+)+)(?:: [^`]*)?`")
    pages = [page for page in PAGES if page.name != "policy.md"]  # its words have their own test
    found = {(page.name, name) for page in pages for name in named.findall(page.read_text())}
    assert len(found) > 25
    files = {".py", ".yaml", ".yml", ".toml", ".db", ".json"}
    assert [one for one in sorted(found) if not resolves(one[1]) and f".{one[1].rpartition('.')[2]}" not in files] == []


def recorded() -> set[str]:
    """Every kind of record that the code writes into the audit trail, by how it is written there."""
    written = {
        "": r'AuditEvent\(\s*kind="([a-z-]+)"',
        "intake": r'_event\(message, "([a-z-]+)"|kind = "(\w+)" if plan\.entries else "(\w+)"',
        "worker": r'self\._settle\(.*?event="([a-z-]+)"|event: str = "([a-z-]+)"',
        "reputation": r'\.tell\(\s*"([a-z-]+)"',
    }
    found: set[str] = set()
    for room, pattern in written.items():
        for file in (ROOT / "relay" / room).rglob("*.py"):
            for groups in re.finditer(pattern, file.read_text()):
                found |= {one for one in groups.groups() if one}
    return found


def test_the_page_for_compliance_names_every_kind_of_record_and_no_other():
    page = (ROOT / "docs" / "compliance.md").read_text()
    table = page.partition("| record | says |")[2].partition("\n\n")[0]
    named = {one for row in table.splitlines() for one in re.findall(r"`([a-z-]+)`", row.partition(" | ")[0])}
    assert named == recorded()


def test_the_page_about_bounces_has_every_class_as_it_is():
    page = (ROOT / "docs" / "bounces.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| `(\w+)` \| ([a-z-]+) \| ([a-z-]+) \| (.+) \|$", page, re.MULTILINE)
    true = [(klass, m.family, m.permanent, m.transient, m.words) for klass, m in MEANINGS.items()]
    assert rows == [tuple(map(str, row)) for row in true]


def test_what_the_readme_says_is_not_offered_is_not_offered():
    limits = SessionLimits(hostname="relay.clinic.example", starttls=True)
    offered = " ".join(server_replies.ehlo(limits, ("AUTH PLAIN",), max_size=1, secure=True).lines).split()
    said = (ROOT / "README.md").read_text().partition("Listeners do not offer")[2].partition("yet.")[0]
    assert "CHUNKING" in said
    assert "CHUNKING" not in offered
    assert "DSN" not in said
    assert "DSN" in offered


# --- places -------------------------------------------------------------


def test_every_link_and_every_file_that_a_page_names_exists():
    missing = []
    for page in PAGES:
        text = page.read_text()
        links = [page.parent / one for one in re.findall(r"\]\((?!https?:)([^)#\s]+)", text)]
        named = re.findall(r"`((?:docs|tests|relay|bench|tools|conf|systemd|policies)/[\w./-]+)`", text)
        missing += [(page.name, str(one)) for one in [*links, *(ROOT / one for one in named)] if not one.exists()]
    assert missing == []


def places(page: Path) -> set[str]:
    """What a link may name behind its ``#``: each heading, as GitHub writes it."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+)$", FENCED.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        place = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(next(one for one in (place, *(f"{place}-{n}" for n in range(1, 99))) if one not in found))
    return found


def test_every_link_into_a_page_leads_to_a_heading():
    more = [ROOT / "CHANGELOG.md", *sorted((ROOT / "bench").glob("*.md"))]
    links = [
        (page, to, place)
        for page in [*PAGES, *more]
        for to, place in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", page.read_text())
    ]
    assert len(links) > 20
    missing = [
        (page.name, f"{to}#{place}")
        for page, to, place in links
        if place not in places((page.parent / to).resolve() if to else page)
    ]
    assert missing == []


SOURCES = [
    *ROOT.glob("*.py"),
    *(file for room in ("relay", "tests", "bench", "tools") for file in sorted((ROOT / room).rglob("*.py"))),
]
FOR_DEVELOPERS = [
    *(ROOT / "docs" / name for name in ("architecture.md", "hardness.md", "queue-states.md", "portal-security.md")),
    *(ROOT / "docs" / "architecture-notes").glob("*.md"),
    ROOT / "CONTRIBUTING.md",
]
NOT_OURS = {"inspect.getmembers", "synchronous_commit", "extract_pdf", "extract_tnef"}
"""Names of other programs, and those of targets of the fuzzer, which are put together while it runs."""


def spans(page: Path) -> list[str]:
    """What stands in backticks in running text and tables."""
    return re.findall(r"`([^`\n]+)`", FENCED.sub("", page.read_text()))


def test_every_source_file_that_a_page_names_exists():
    whole = {f"/{file.relative_to(ROOT)}" for file in SOURCES}
    named = {(page.name, one) for page in PAGES for one in spans(page) if re.fullmatch(r"[\w/-]+\.py", one)}
    assert len(named) > 20
    assert [one for one in sorted(named) if not any(file.endswith(f"/{one[1]}") for file in whole)] == []


def test_every_name_of_the_code_on_a_page_for_developers_is_in_the_code():
    known = set().union(*(re.findall(r"\w+", file.read_text()) for file in SOURCES))
    shaped = re.compile(r"(?:[a-z]\w*\.)*(?:[A-Z][a-z]+[A-Z]\w*(?:\.\w+)?|[a-z]+(?:_[a-z]+)+)(?:\(\))?")
    named = {(page.name, one) for page in FOR_DEVELOPERS for one in spans(page) if shaped.fullmatch(one)}
    named = {one for one in named if not one[1].startswith("postern_") and one[1] not in NOT_OURS}
    assert len(named) > 10
    assert [one for one in sorted(named) if not set(re.findall(r"\w+", one[1])) <= known] == []


def test_the_map_shows_every_room_and_no_other():
    tree = (ROOT / "docs" / "architecture.md").read_text().partition("```\nrelay/\n")[2].partition("```")[0]
    drawn = set(re.findall(r"^  (\w+(?:/|\.py))", tree, re.MULTILINE)) | set(re.findall(r"\((\w+\.py):", tree))
    rooms = {f"{entry.name}/" for entry in (ROOT / "relay").iterdir() if (entry / "__init__.py").exists()}
    modules = {entry.name for entry in (ROOT / "relay").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert drawn == rooms | modules


def test_every_page_is_reached_from_the_readme():
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        seen.add(page)
        links = re.findall(r"\]\((?!https?:)([^)#\s]+\.md)", page.read_text())
        left += [one for link in links if (one := (page.parent / link).resolve()) not in seen and one.exists()]
    assert sorted(str(page) for page in set(PAGES) - seen) == []


def test_every_metric_that_a_page_names_is_in_the_reference():
    reference = set(re.findall(r"postern_[a-z_]+", (ROOT / "docs" / "metrics.md").read_text()))
    for page in PAGES:
        named = set(re.findall(r"`(postern_[a-z_]+)[`{]", page.read_text()))
        assert named <= reference | {"postern_portal"}, page.name
