"""Our own MTA-STS policies, from the settings, and the web server for them."""

import ssl
from collections.abc import Mapping

from relay.config.settings import Settings
from relay.config.tls import OwnDomainSettings
from relay.core.ports import Metrics
from relay.intake.tls import server_context
from relay.net.policyhost import PolicyHost, PolicyHostOptions
from relay.trust.mta_sts import Mode, Policy


def policy_of(one: OwnDomainSettings) -> Policy:
    """The policy of one domain."""
    return Policy(mode=Mode(one.mode.value), max_age=int(one.max_age), mx=one.mx)


def policy_files(settings: Settings) -> Mapping[str, bytes]:
    """The policy file of each domain."""
    return {one.domain: policy_of(one).text().encode() for one in settings.tls.publish.domains}


def policy_context(settings: Settings) -> ssl.SSLContext | None:
    """The web server's TLS; ``None`` where there is no web server.

    Raises:
        ProblemsError: certificate or key cannot be used.
    """
    publish = settings.tls.publish
    key = publish.key.path() if publish.key is not None else None
    if publish.address is None or publish.certificate is None or key is None:
        return None
    return server_context(publish.certificate, key)


def policy_host(settings: Settings, metrics: Metrics) -> PolicyHost | None:
    """The web server, not started.

    Raises:
        ProblemsError: certificate or key cannot be used.
    """
    context, publish = policy_context(settings), settings.tls.publish
    if context is None:
        return None
    options = PolicyHostOptions(address=str(publish.address), port=publish.port, policies=policy_files(settings))
    return PolicyHost(options, context, metrics=metrics)
