"""One Chromium for all tests of a file; each test has contexts of its own in it."""

import pytest

from tests.support.browsing import a_chromium


@pytest.fixture(scope="module")
def chromium():
    with a_chromium() as browser:
        yield browser
