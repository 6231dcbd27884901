"""The answers that the settings promise are the ones intake gives."""

import re

import pytest

from relay.config.reception import AuthSettings, ClientSettings, LimitSettings
from relay.intake import accept, limits, throttle
from relay.smtp import endofdata, server_replies

GIVEN = {
    "message_size": server_replies.TOO_BIG,
    "recipients": server_replies.TOO_MANY_RECIPIENTS,
    "bytes_in_flight": limits.NO_ROOM,
    "connections": limits.TOO_MANY,
    "command_line": server_replies.LONG_COMMAND,
    "auth_line": server_replies.LONG_AUTH_LINE,
    "message_line": endofdata.LONG_LINE,
    "messages_per_connection": server_replies.TOO_MANY_MESSAGES,
    "commands_per_connection": server_replies.TOO_MANY_COMMANDS,
    "idle_commands_per_connection": server_replies.TOO_MANY_IDLE,
    "auth_failures_per_connection": server_replies.TOO_MANY_FAILURES,
    "errors_per_connection": server_replies.TOO_MANY_ERRORS,
    "header_size": accept.BIG_HEADER,
    "received_hops": accept.LOOP,
    "queue_size": accept.FULL,
    "disk_reserve": accept.FULL,
    "failures_per_address": throttle.AUTH_THROTTLED,
    "failures_per_account": throttle.AUTH_THROTTLED,
    "messages_per_minute": throttle.RATE_EXCEEDED,
    "messages_per_hour": throttle.RATE_EXCEEDED,
}
FIELDS = {
    name: field for model in (LimitSettings, AuthSettings, ClientSettings) for name, field in model.model_fields.items()
}


@pytest.mark.parametrize(
    "name", [name for name, field in FIELDS.items() if re.search(r"\b[45]\d\d\b", field.description)]
)
def test_each_answer_that_a_setting_promises_is_given(name):
    code, _, enhanced = re.search(
        r"(?:then|answered|mail:) ?(?:then )?([45]\d\d)( (\d\.\d\.\d))?", FIELDS[name].description
    ).groups()
    assert code == str(GIVEN[name].code)
    assert enhanced in (None, str(GIVEN[name].enhanced))


def test_every_answer_here_belongs_to_a_setting():
    assert GIVEN.keys() <= FIELDS.keys()
