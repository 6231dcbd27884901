"""What a domain of ours publishes of its mail servers' TLS: records, and the policy file (RFC 8461, RFC 8460)."""

import hashlib

from relay.core.address import Address
from relay.trust.mta_sts import Policy


def policy_id(policy: Policy) -> str:
    """The id for the TXT record: a new one with each change of the policy, and only then (RFC 8461 section 3.1)."""
    return hashlib.sha256(policy.text().encode()).hexdigest()[:32]


def records(domain: str, policy: Policy, reports: Address | None = None) -> tuple[str, ...]:
    """The DNS records, as lines of a zone file."""
    found = [f'_mta-sts.{domain}. IN TXT "v=STSv1; id={policy_id(policy)};"']
    if reports is not None:
        # Separators inside an address of the list are written as %2C, %21 and %3B (RFC 8460 section 3).
        mailbox = str(reports).replace("%", "%25").replace(",", "%2C").replace("!", "%21").replace(";", "%3B")
        found.append(f'_smtp._tls.{domain}. IN TXT "v=TLSRPTv1; rua=mailto:{mailbox}"')
    return tuple(found)
