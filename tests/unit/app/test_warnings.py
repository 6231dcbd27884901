"""Where the configuration asks for no delay warnings there are none, not even for copies that live longer."""

from relay.app.options import accept_options, retry_options
from relay.config.load import load
from relay.core.decision import Treatment
from relay.delivery.schedule import warn_at
from tests.support.configs import furnish

CONFIG = """\
hostname: relay.clinic.example
listeners:
  - {name: ehr, kind: submission, address: 127.0.0.1, port: 0, certificate: tls/good.pem, key: tls/good.key}
delivery: {expire: 5d, warn: 0}
"""


def test_no_warning_is_wanted_of_a_copy_that_a_rule_lets_live_longer(tmp_path):
    etc = furnish(tmp_path)
    (etc / "postern.yaml").write_text(CONFIG)
    settings = load(etc / "postern.yaml")
    longer = Treatment(expire_after=10 * 86_400.0)
    assert warn_at(longer, retry_options(settings), accepted_at=0) is None
    assert accept_options(settings).times.warn_after is None
