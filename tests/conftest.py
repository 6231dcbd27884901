"""What holds for all tests: a property says what is true, not how quickly a busy machine shows it."""

import pytest
from hypothesis import HealthCheck, settings

from relay.demo.authority import Authority

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority of the module's own."""
    return Authority(tmp_path_factory.mktemp("authority"))
