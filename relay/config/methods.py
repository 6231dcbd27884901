"""Which methods of protection a configuration has."""

from relay.config.settings import Settings
from relay.core.decision import MethodName


def configured_methods(settings: Settings) -> frozenset[MethodName]:
    """The methods that serve copies here; a rule's others are passed over, and ``postern policy check`` warns."""
    return frozenset({MethodName.TLS, *([MethodName.PORTAL] if settings.portal is not None else [])})
