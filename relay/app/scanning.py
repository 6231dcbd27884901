"""The scan as every role has it: one set of limits, one tuning by the operator."""

from collections.abc import Callable

from relay.config.settings import Settings
from relay.config.tuning import load_tuning
from relay.extract.client import ScanService, ScanServiceLimits
from relay.extract.engine import EngineLimits, ScanEngine, load_judge
from relay.mail.leaf import MimeLimits
from relay.scan.judge import ScanLimits
from relay.scan.tuning import Tuning


def engine_limits(settings: Settings) -> EngineLimits:
    """Limits of reading and judging, the same in workers and helper."""
    return EngineLimits(
        mime=MimeLimits(
            depth=settings.limits.mime_depth, parts=settings.limits.mime_parts, bytes=settings.scan.read_size
        ),
        scan=ScanLimits(findings=settings.scan.max_findings),
    )


def tuning(settings: Settings) -> Tuning | None:
    """The operator's own patterns, terms, exclusions and weights; ``None`` when there are none.

    Raises:
        ProblemsError: the file cannot be read, or every fault in it.
    """
    return load_tuning(settings.scan.tuning) if settings.scan.tuning is not None else None


def engine(settings: Settings, digest: Callable[[str], str]) -> ScanEngine:
    """The engine for what is read on the spot.

    Args:
        settings: limits and tuning.
        digest: keyed digest of a finding (``Vault.digest``).

    Raises:
        ProblemsError: the tuning cannot be used, or a test in it fails.
    """
    limits = engine_limits(settings)
    own = tuning(settings)
    built = ScanEngine(load_judge(digest, limits.scan, own), limits)
    if own is not None:
        built.prove(own)
    return built


def service(settings: Settings, digest: Callable[[str], str]) -> ScanService:
    """The scanner: on the spot where that is quick, else in the helper.

    Raises:
        ProblemsError: the tuning cannot be used.
    """
    return ScanService(
        engine(settings, digest),
        settings.run_dir / "extract.sock",
        digest,
        ScanServiceLimits(inline=settings.scan.inline_limit, deadline=settings.scan.timeout),
    )
