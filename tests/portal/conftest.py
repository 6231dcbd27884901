"""What the portal's tests share."""

import pytest

from tests.support.portal_site import a_site


@pytest.fixture
async def site(tmp_path):
    async with a_site(tmp_path) as site:
        yield site
