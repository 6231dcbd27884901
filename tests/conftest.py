"""What holds for all tests: a property says what is true, not how quickly a busy machine shows it."""

import pytest
import structlog
from hypothesis import HealthCheck, settings

from relay.demo.authority import Authority

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority of the module's own."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True, scope="session")
def _loggers_follow_the_configuration():
    """A module's logger that is kept from one test's configuration would be deaf to what a later test captures."""
    configure = structlog.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **given: configure(**given | {"cache_logger_on_first_use": False}))
        yield
