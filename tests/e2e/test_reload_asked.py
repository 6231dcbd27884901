"""``postern reload`` on the running system: whoever changed something is told whether it was taken up."""

import asyncio
import json
import subprocess

import pytest

from tests.support.system import OPEN_POLICY, end, system


def reload(site, *arguments):
    """Run it to its end."""
    command = site.command("reload", "--timeout", "10m", *arguments)
    return subprocess.run(command, env=site.environment(), capture_output=True, text=True, timeout=700, check=False)


@pytest.mark.timeout(400)
async def test_who_changes_something_is_told_whether_it_was_taken_up(tmp_path):
    async with system(tmp_path) as (site, _net):
        policy = site.config.parent / "policies" / "main.yaml"
        policy.write_text(OPEN_POLICY.replace("id: rest", "id: second"))
        good = await asyncio.to_thread(reload, site)
        assert good.returncode == 0, good.stdout + good.stderr
        version = json.loads(site.postern("policy", "check", str(policy), "--json"))["version"]
        assert good.stdout == f"reloaded: policy {version}\n"

        policy.write_text(OPEN_POLICY.replace("methods:", "methds:"))
        bad = await asyncio.to_thread(reload, site)
        assert bad.returncode == 1
        assert "main.yaml:4" in bad.stdout
        assert "methds" in bad.stdout
        assert bad.stdout.startswith("error: ")
        assert bad.stdout.endswith("The reload was refused: what ran before runs on.\n")
        told = json.loads((await asyncio.to_thread(reload, site, "--json")).stdout)
        assert (told["result"], told["version"]) == ("refused", "")
        assert "main.yaml:4" in told["problems"][0]["where"]

        policy.write_text(OPEN_POLICY)
        assert (await asyncio.to_thread(reload, site)).returncode == 0
        await end(site)
        away = await asyncio.to_thread(reload, site)
        assert away.returncode == 1
        assert away.stderr == f"Error: Postern does not run here ({tmp_path / 'run'})\n"
