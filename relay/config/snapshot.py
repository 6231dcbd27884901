"""A validated configuration as content-addressed bytes: one process validates, the others take exactly that."""

import hashlib
from pathlib import Path

import orjson
from pydantic import ValidationError

from relay.config.settings import Settings
from relay.core.errors import Problem, ProblemsError


def snapshot(settings: Settings) -> tuple[str, bytes]:
    """SHA-256 (hex) and canonical JSON (keys sorted, every default and ``auto`` worked out) of the settings.

    Equal settings give equal bytes; secrets are not in it, only where they are.
    """
    content = orjson.dumps(settings.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest(), content


def from_snapshot(content: bytes, sha256: str = "") -> Settings:
    """The settings in a snapshot; with ``sha256`` only if it is that one.

    Raises:
        ProblemsError: other bytes than the hash names, or of another version of Postern.
    """
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise ProblemsError(Problem(where=f"snapshot {sha256[:12]}", what="its bytes are not what its name says"))
    try:
        return Settings.model_validate(orjson.loads(content), context={"base": Path("/")})
    except (orjson.JSONDecodeError, ValidationError) as error:
        hint = "reload the configuration"
        problem = Problem(where="snapshot", what="was written by another version of Postern or damaged", hint=hint)
        raise ProblemsError(problem) from error
