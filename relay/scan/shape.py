"""What a shape is: a cheap trigger for the set of all, the exact pattern, and what judges its value."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.core.phi import FindingGroup
from relay.scan.validate import Validator


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One shape of an identifier or code, in RE2 over Latin-1 octets, case-insensitive.

    Attributes:
        kind: the finding's kind, and its entry in the weights file.
        regex: group 1 is the value.
        trigger: something shorter that every match contains. All triggers are one automaton, and counted repetitions
            make it large and slow to build on text it has not seen: so they stand in ``regex`` alone.
        group: what it is evidence of.
        valid: judges the value.
        refine: the kind by what stands before the value, given the text before it and the value; empty for none.
        sensitive: the specially protected kind, or empty.
    """

    kind: str
    regex: bytes
    trigger: bytes
    group: FindingGroup = FindingGroup.IDENTIFIER
    valid: Validator = bool
    refine: Callable[[bytes, bytes], str] | None = None
    sensitive: str = ""
