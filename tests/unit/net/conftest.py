"""What the tests of connections share."""

import pytest

from tests.support.net import contexts


@pytest.fixture(scope="module")
def tls(authority):
    """The client's contexts, which trust the module's authority."""
    return contexts(authority)
