"""What roles take off the shelf: vault, signing keys, scan engine, DSN writer."""

from relay.app.entropy import ENTROPY
from relay.config.keyfiles import load_ring
from relay.config.settings import Settings
from relay.config.signing_keys import configured_signing_keys
from relay.core.address import Address
from relay.mail.dsn import DsnOptions, DsnWriter
from relay.observe.labels import LabelLimits
from relay.observe.metrics import SharedMetrics
from relay.protect.dkim import SignerSet
from relay.protect.sealing import RingVault


def open_vault(settings: Settings) -> RingVault:
    """The vault over the key ring in ``keys_dir``.

    Raises:
        ProblemsError: there is no ring, others can read it, or it is damaged.
    """
    directory = settings.keys_dir
    # A message sealed by a process that reloaded a moment earlier names a version this one does not know yet.
    return RingVault(load_ring(directory), ENTROPY, reload=lambda: load_ring(directory))


def load_signers(settings: Settings) -> SignerSet:
    """Every DKIM key: those in ``dkim.dir`` and those that the settings name.

    Raises:
        ProblemsError: a key that cannot be read, is too short, or that others can read.
    """
    return SignerSet(configured_signing_keys(settings.dkim))


def label_limits(settings: Settings) -> LabelLimits:
    """How many domains get a label of their own."""
    metrics = settings.metrics
    return LabelLimits(recipient_domains=metrics.recipient_domains, sending_domains=metrics.sending_domains)


def shared_metrics(settings: Settings) -> SharedMetrics:
    """This process's part of the metrics that all processes share below ``run_dir``."""
    directory = settings.run_dir / "metrics"
    directory.mkdir(mode=0o770, parents=True, exist_ok=True)
    return SharedMetrics(directory, label_limits(settings))


def dsn_writer(settings: Settings) -> DsnWriter:
    """Who writes our notices."""
    return DsnWriter(
        DsnOptions(
            reporting_mta=settings.dsn.reporting_mta,
            postmaster=Address.parse(settings.dsn.postmaster),
            from_name=settings.dsn.from_name,
            help=settings.dsn.help,
        )
    )
