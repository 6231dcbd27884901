"""What goes into the judge and what it works with. Only :class:`~relay.core.phi.Finding` leaves, without text."""

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

from relay.core.phi import FindingGroup

SUBJECT: Final = "subject"


@dataclass(frozen=True, slots=True)
class Passage:
    """Normalised text of one part.

    Attributes:
        part: the part's name in findings: ``subject``, ``header:NAME``, or a MIME part number.
        text: what was read there.
    """

    part: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A word or phrase of a lexicon.

    Attributes:
        kind: the finding's kind.
        weight: 0 to 1, how much it says that a text is about someone's health.
        sensitive: the specially protected kind, or empty.
    """

    kind: str
    weight: float
    sensitive: str = ""


class Hit(NamedTuple):
    """Something found, in characters of the joined text; lives only while one message is judged.

    A named tuple, not a dataclass: a message can have hundreds, and it is made four times as fast.
    """

    kind: str
    group: FindingGroup
    start: int
    end: int
    weight: float
    norm: bytes
    sensitive: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The one readable file of weights (``relay/scan/data/weights.yaml``)."""

    version: str
    near: int
    window: int
    beyond: float
    gentle: float
    bond: float
    possible: float
    likely: float
    certain: float
    levels: dict[str, float]
    identifiers: dict[str, float]
    health: dict[str, float]
    implies: dict[str, float]
    contact: frozenset[str]
    contact_cap: float
    manner: dict[str, float]

    @classmethod
    def parse(cls, source: bytes) -> "Weights":
        """Read the file.

        Raises:
            ValueError: a key is missing or no number.
        """
        raw: Any = yaml.load(source, Loader=yaml.CSafeLoader)
        try:
            return cls(
                version=str(raw["version"]),
                near=int(raw["near"]),
                window=int(raw["window"]),
                beyond=float(raw["beyond"]),
                gentle=float(raw["gentle"]),
                bond=float(raw["bond"]),
                levels={name: float(value) for name, value in raw["levels"].items()},
                identifiers={name: float(value) for name, value in raw["identifiers"].items()},
                health={name: float(value) for name, value in raw["health"].items()},
                implies={name: float(value) for name, value in raw["implies"].items()},
                contact=frozenset(raw["contact"]),
                contact_cap=float(raw["contact_cap"]),
                manner={name: float(raw["manner"][name]) for name in ("likely",)},
                **{name: float(raw["thresholds"][name]) for name in ("possible", "likely", "certain")},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("the weights file lacks an entry or has one of the wrong kind") from error
