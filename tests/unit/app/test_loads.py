"""A process loads what it has a use for: what it does not is memory that each installation pays for."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("modules", "others"), [
    ("relay.roles, relay.app.admin", {"relay.scan.find", "relay.extract.engine", "relay.app.worker", "selectolax"}),
    ("relay.roles, relay.app.helper, relay.extract.helper", {"cryptography", "apsw", "dns", "relay.policy.compile"}),
], ids=["admin", "helper"])  # fmt: skip
def test_a_role_does_not_load_the_tools_of_others(modules, others):
    script = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert "relay.roles" in done.stdout.split()
    assert others & set(done.stdout.split()) == set()
