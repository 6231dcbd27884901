"""The JSON Schema of policy files, from which editors complete and underline."""

import json
from typing import Any

from relay.policy.schema import Condition, PolicyFile


def json_schema() -> str:
    """The schema as it stands in ``conf/policy.schema.json``."""
    schema: dict[str, Any] = PolicyFile.model_json_schema(by_alias=True)
    schema = _without_null(schema)
    schema["$defs"][Condition.__name__] |= {"minProperties": 1, "maxProperties": 1}
    rule = schema["$defs"]["Rule"]
    rule["oneOf"] = [{"required": [action]} for action in ("deliver", "hold", "reject")]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A policy file of Postern"}
    return json.dumps({**schema, **head}, indent=2, sort_keys=True) + "\n"


def _without_null(schema: Any) -> Any:
    """Leave out ``null``, which the reader refuses, and titles that only repeat the key."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: _without_null(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }
    choices = [choice for choice in kept.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1 and "anyOf" in kept:
        del kept["anyOf"]
        return {**choices[0], **kept}
    return {**kept, "anyOf": choices} if choices else kept
