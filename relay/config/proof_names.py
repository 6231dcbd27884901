"""What a policy names and nobody has: a condition on a misspelt client never holds, and a floor's fails to protect."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from importlib import resources
from importlib.metadata import entry_points
from typing import Final

from relay.config.clients import load_clients
from relay.config.settings import Settings
from relay.config.tuning import load_tuning
from relay.core.errors import Problem, ProblemsError
from relay.core.phi import FindingGroup
from relay.policy.engine import CompiledPolicy
from relay.policy.nodes import Named
from relay.policy.read import closest
from relay.scan.model import Weights

_UNWEIGHED: Final = frozenset(
    {"name", "provider-name", "npi", "dea", "manner"}  # names of all forms; numbers of providers; the second look
    | {"care", "condition", "drug", "exam", "lab", "procedure", "visit"}  # of the lexicons
    | {"hl7v2", "x12", "fhir", "c-cda", "dicom"}  # clinical formats
)
"""Kinds that the scan finds besides those that the file of weights names."""


def unknown_names(policy: CompiledPolicy, settings: Settings) -> Iterator[Problem]:
    """Warnings of clients, tenants, listeners and kinds of findings in conditions that are not there.

    Files of clients or of tuning that cannot be read are told of where they are proved: what they hold is not asked.
    """
    known = _known(policy.named, settings)
    told = {one.where for one in policy.warnings}
    for one in policy.named:
        names = known.get(one.what)
        if names is None or one.where in told or one.word in names:
            continue
        if one.what != "finding":
            what = (
                f"no client has the tenant `{one.word}`" if one.what == "tenant" else f"no {one.what} is `{one.word}`"
            )
        elif one.word.lower() in names or one.word.lower().startswith("unreadable: "):
            continue
        else:
            what = f"the scan finds nothing of the kind `{one.word}`"
        yield Problem(where=one.where, what=f"{what}: this never holds", hint=closest(one.word, names))


def _known(named: Collection[Named], settings: Settings) -> Mapping[str, Collection[str]]:
    """The names there are, by what they name; what nobody can tell is left out."""
    asked = {one.what for one in named}
    known: dict[str, Collection[str]] = {"listener": {listener.name for listener in settings.listeners}}
    if asked & {"client", "tenant"}:
        with contextlib.suppress(ProblemsError):
            clients = load_clients(settings.clients_dir)
            known |= {"client": clients.clients.keys(), "tenant": {client.tenant for client in clients}}
    if "finding" in asked and not entry_points(group="postern.detectors"):  # these find what they like
        with contextlib.suppress(ProblemsError):
            known["finding"] = _kinds(settings)
    return known


def _kinds(settings: Settings) -> frozenset[str]:
    weights = Weights.parse((resources.files("relay.scan") / "data" / "weights.yaml").read_bytes())
    kinds = {*_UNWEIGHED, *weights.identifiers, *weights.health, *(group.value for group in FindingGroup)}
    if settings.scan.tuning is not None:
        own = load_tuning(settings.scan.tuning)
        for one in (own, *own.clients.values()):
            kinds |= {shape.kind for shape in one.shapes} | {term.kind for _, term in one.terms}
    return frozenset(kinds)
