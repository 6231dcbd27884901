"""What roles take off the shelf: vault, signing keys, scan engine, DSN writer."""

import datetime as dt
import os
from collections.abc import Iterator

from relay.config.delivery import DkimDomainSettings
from relay.config.keyfiles import load_ring, load_signing_keys, read_signing_key
from relay.config.settings import Settings
from relay.core.address import Address
from relay.core.errors import Problem, ProblemsError
from relay.mail.dsn import DsnOptions, DsnWriter
from relay.observe.labels import LabelLimits
from relay.observe.metrics import SharedMetrics
from relay.protect.dkim import SignerSet, SigningKey
from relay.protect.sealing import RingVault


def open_vault(settings: Settings) -> RingVault:
    """The vault over the key ring in ``keys_dir``.

    Raises:
        ProblemsError: there is no ring, others can read it, or it is damaged.
    """
    return RingVault(load_ring(settings.keys_dir), os.urandom)


def load_signers(settings: Settings) -> SignerSet:
    """Every DKIM key: those in ``dkim.dir`` and those that the settings name.

    Raises:
        ProblemsError: a key that cannot be read, is too short, or that others can read.
    """
    named = (key for domain in settings.dkim.domains for key in _named(domain))
    return SignerSet((*load_signing_keys(settings.dkim.dir), *named))


def _named(domain: DkimDomainSettings) -> Iterator[SigningKey]:
    for key in domain.keys:
        path = key.key.path()
        if path is None:
            hint = "start through the systemd unit that loads it, or name a file instead"
            raise ProblemsError(Problem(where=key.key.place, what="CREDENTIALS_DIRECTORY is not set", hint=hint))
        yield read_signing_key(
            path,
            domain=domain.domain,
            selector=key.selector,
            active_from=_midnight(key.valid_from) or 0.0,
            active_until=_midnight(key.valid_until),
        )


def _midnight(day: dt.date | None) -> float | None:
    return None if day is None else dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp()


def shared_metrics(settings: Settings) -> SharedMetrics:
    """This process's part of the metrics that all processes share below ``run_dir``."""
    directory = settings.run_dir / "metrics"
    directory.mkdir(mode=0o770, parents=True, exist_ok=True)
    limits = settings.metrics
    return SharedMetrics(
        directory, LabelLimits(recipient_domains=limits.recipient_domains, sending_domains=limits.sending_domains)
    )


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
