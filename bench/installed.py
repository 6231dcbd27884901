"""What the benchmark needs of the system, installed where we may; and the two small programs it is built with."""

import os
import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
_BUILD: Final = (("gcc", "/usr/bin/gcc"), ("libssl-dev", "/usr/include/openssl/ssl.h"))


def install(packages: list[str]) -> None:
    """Install Debian packages; whether they are there then is for the caller to see."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "install", "--yes", "--quiet", *packages], env=environment, check=False)


def need(*packages: tuple[str, str]) -> None:
    """Make sure that programs or files are there.

    Args:
        packages: Debian package, and a path that it brings.

    Raises:
        SystemExit: one is missing and cannot be installed.
    """
    absent = [package for package, path in packages if not Path(path).exists()]
    if absent and os.geteuid() == 0:
        install(absent)
        absent = [package for package, path in packages if not Path(path).exists()]
    if absent:
        raise SystemExit(f"please install: apt-get install {' '.join(absent)}")


def build(directory: Path) -> tuple[Path, Path]:
    """Compile the sink and the shim that slows fsync.

    Raises:
        SystemExit: it does not work.
    """
    need(*_BUILD)
    sink, shim = directory / "sink", directory / "slow.so"
    _compile("-O2", "-pthread", "-o", str(sink), str(HERE / "sink.c"), "-lssl", "-lcrypto")
    _compile("-O2", "-shared", "-fPIC", "-o", str(shim), str(HERE / "slow.c"), "-ldl")
    return sink, shim


def _compile(*arguments: str) -> None:
    done = subprocess.run(["gcc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"gcc {' '.join(arguments)}:\n{done.stderr}")
