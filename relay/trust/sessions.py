"""What became of our own TLS sessions, counted by policy as RFC 8460 asks, and written as the report of a day."""

import datetime as dt
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from relay.trust.tlsrpt import FailureDetail, PolicyReport, PolicyType, ReportError, ResultType, TlsReport, read_policy

MAX_POLICIES: Final = 20
"""Policies of one domain told apart in one tally."""
MAX_DETAILS: Final = 200
"""Ways to fail told apart in one tally; further ones are counted together, by result alone."""
DAY: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedPolicy:
    """The policy that a session was held to.

    Attributes:
        kind: which kind.
        strings: its text, line by line; of TLSA records one a line.
        mx: host patterns of an MTA-STS policy; the host of TLSA records.
    """

    kind: PolicyType
    strings: tuple[str, ...] = ()
    mx: tuple[str, ...] = ()


NO_POLICY: Final = AppliedPolicy(kind=PolicyType.NONE)
"""The domain publishes none: a session is good when it has TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a session has less TLS than was wanted.

    Attributes:
        result: in the words of RFC 8460.
        detail: one clause for operators.
    """

    result: ResultType
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """One session.

    Attributes:
        domain: whose mail it was for, A-labels.
        policy: what it was held to.
        at: unix seconds.
        fault: how it failed; ``None``: it did not.
        host, address: whom it met.
        source: the address we came from.
    """

    domain: str
    policy: AppliedPolicy
    at: float
    fault: Fault | None = None
    host: str = ""
    address: str = ""
    source: str = ""

    @property
    def day(self) -> str:
        """The UTC day it belongs to, such as ``2026-11-22``."""
        return day_of(self.at)


def day_of(at: float) -> str:
    """The UTC day of a time."""
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()


def begin_of(day: str) -> float:
    """When a UTC day begins, unix seconds."""
    return dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC).timestamp()


class Tally:
    """Sessions of one domain on one day, counted; bounded, whatever the domain's servers do."""

    def __init__(self, policies: Iterable[PolicyReport] = ()) -> None:
        self._counts: dict[_PolicyKey, list[int]] = {}
        self._details: dict[_PolicyKey, dict[FailureDetail, int]] = {}
        self._ways = 0
        for one in policies:
            self._add_report(one)

    def add(self, seen: SessionResult) -> None:
        """Count a session."""
        policy, fault = seen.policy, seen.fault
        key = self._room((policy.kind.value, seen.domain, policy.strings, policy.mx))
        self._counts[key][fault is not None] += 1
        if fault is not None:
            way = FailureDetail(
                result=fault.result.value, count=0, sending_ip=_public(seen.source), receiving_ip=seen.address,
                receiving_host=seen.host, reason=fault.detail[:200],
            )  # fmt: skip
            self._add_way(key, way, 1)

    def policies(self) -> tuple[PolicyReport, ...]:
        """What was counted."""
        return tuple(
            PolicyReport(
                kind=key[0], domain=key[1], strings=key[2], mx=key[3], succeeded=good, failed=bad,
                details=tuple(_counted(way, count) for way, count in self._details.get(key, {}).items()),
            )
            for key, (good, bad) in self._counts.items()
        )  # fmt: skip

    def encode(self) -> bytes:
        """For the store."""
        return orjson.dumps([_policy_json(one) for one in self.policies()])

    def _add_report(self, one: PolicyReport) -> None:
        key = self._room((one.kind, one.domain, one.strings, one.mx))
        self._counts[key][0] += one.succeeded
        self._counts[key][1] += one.failed
        for way in one.details:
            self._add_way(key, _counted(way, 0), way.count)

    def _room(self, key: "_PolicyKey") -> "_PolicyKey":
        """The policy's own place; when there are too many, one for all of its kind, without its text."""
        if key not in self._counts and len(self._counts) >= MAX_POLICIES:
            key = (key[0], key[1], (), ())
        self._counts.setdefault(key, [0, 0])
        return key

    def _add_way(self, key: "_PolicyKey", way: FailureDetail, count: int) -> None:
        ways = self._details.setdefault(key, {})
        if way not in ways and self._ways >= MAX_DETAILS:
            way = FailureDetail(result=way.result, count=0)
        self._ways += way not in ways
        ways[way] = ways.get(way, 0) + count


def _public(address: str) -> str:
    """The address when it means something outside; those behind NAT are nobody else's business."""
    return address if address and ipaddress.ip_address(address).is_global else ""


_PolicyKey = tuple[str, str, tuple[str, ...], tuple[str, ...]]


def _counted(way: FailureDetail, count: int) -> FailureDetail:
    return FailureDetail(
        result=way.result, count=count, sending_ip=way.sending_ip, receiving_ip=way.receiving_ip,
        receiving_host=way.receiving_host, reason=way.reason,
    )  # fmt: skip


def decode_policies(data: bytes) -> tuple[PolicyReport, ...]:
    """What :meth:`Tally.encode` wrote.

    Raises:
        ReportError: it did not write this.
    """
    try:
        return tuple(read_policy(one) for one in orjson.loads(data))
    except (orjson.JSONDecodeError, TypeError) as error:
        raise ReportError("remembered sessions cannot be read") from error


# --- writing ----------------------------------------------------------------


def write_report(report: TlsReport) -> bytes:
    """The report as JSON (RFC 8460 section 4.4)."""
    return orjson.dumps(
        {
            "organization-name": report.organization,
            "date-range": {"start-datetime": _time(report.begin), "end-datetime": _time(report.end)},
            "contact-info": report.contact,
            "report-id": report.report_id,
            "policies": [_policy_json(one) for one in report.policies],
        }
    )


def _time(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _policy_json(one: PolicyReport) -> Mapping[str, Any]:
    policy: dict[str, Any] = {"policy-type": one.kind, "policy-domain": one.domain}
    if one.strings:
        policy["policy-string"] = one.strings
    if one.mx:
        policy["mx-host"] = one.mx
    summary = {"total-successful-session-count": one.succeeded, "total-failure-session-count": one.failed}
    whole: dict[str, Any] = {"policy": policy, "summary": summary}
    if one.details:
        whole["failure-details"] = [_detail_json(way) for way in one.details]
    return whole


def _detail_json(way: FailureDetail) -> Mapping[str, Any]:
    named = {
        "sending-mta-ip": way.sending_ip,
        "receiving-ip": way.receiving_ip,
        "receiving-mx-hostname": way.receiving_host,
        "failure-reason-code": way.reason,
    }
    known = {name: value for name, value in named.items() if value}
    return {"result-type": way.result, "failed-session-count": way.count, **known}
