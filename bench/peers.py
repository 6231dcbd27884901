"""The relays that operators would use instead: Postfix with rspamd, Postfix with OpenDKIM and pcre checks, Haraka.

Each does Postern's work as far as it can: takes mail from loopback, looks for some 30 patterns, signs with RSA-2048,
keeps the message on disk before its 250, and relays it to the sink. What they need comes from Debian packages and, for
Haraka, from npm into a directory of its own. All of them need root: Postfix does.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from cases import SinkTls
from contenders import SINK_NAME, Setting, with_environment
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from installed import install

from relay.demo.ports import free_port

DOMAIN: Final = "clinic.example"
_PACKAGE: Final = json.dumps(
    # Versions that every registry has: a mirror may lag behind what Haraka's dependencies ask for.
    {
        "name": "postern-bench",
        "private": True,
        "overrides": {"encoding-japanese": "2.2.0", "libmime": "5.3.7", "libqp": "2.1.1"},
    }
)
_READY: Final = 40.0
_HARAKA: Final = Path.home() / ".cache" / "postern-bench" / "haraka"
PATTERNS: Final = (
    r"\b\d{3}-\d{2}-\d{4}\b",
    r"\b\d{9}\b",
    r"\b[1-9][AC-HJ-NP-RT-Y][AC-HJ-NP-RT-Y\d]\d-?[AC-HJ-NP-RT-Y][AC-HJ-NP-RT-Y\d]\d-?[AC-HJ-NP-RT-Y]{2}\d\d\b",
    r"(?i)\bMRN\s*[:#]?\s*\d{5,10}\b",
    r"(?i)\bmedical record (?:no|number)\s*[:#]?\s*\d+",
    r"(?i)\bmember id\s*[:#]?\s*[A-Z0-9]{6,14}\b",
    r"(?i)\bdate of birth\s*:?\s*\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}",
    r"(?i)\bDOB\s*:?\s*\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}",
    r"\(\d{3}\) ?\d{3}-\d{4}\b",
    r"\b\d{3}-\d{3}-\d{4}\b",
    r"\b4\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}\b",
    r"\b5[1-5]\d{2}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}\b",
    r"(?i)\bpassport\s*(?:no|number)?\s*:?\s*[A-Z0-9]{8,9}\b",
    r"(?i)\bICD-?10\b.{0,20}\b[A-TV-Z]\d{2}(?:\.\d{1,4})?\b",
    r"\b[A-TV-Z]\d{2}\.\d{1,4}\b",
    r"(?i)\bHbA1c\b",
    r"(?i)\bhemoglobin a1c\b",
    r"(?i)\b(?:metformin|insulin|glipizide)\b",
    r"(?i)\b(?:lisinopril|amlodipine|losartan)\b",
    r"(?i)\b(?:sertraline|fluoxetine|lithium)\b",
    r"(?i)\bchemotherapy\b",
    r"(?i)\b(?:carcinoma|lymphoma|melanoma)\b",
    r"(?i)\bhypertension\b",
    r"(?i)\btype [12] diabetes\b",
    r"(?i)\bHIV[ -]?(?:positive|negative|test)\b",
    r"(?i)\bbiopsy\b.{0,40}\bresult",
    r"(?i)\bdiagnos(?:is|ed)\b.{0,40}\bwith\b",
    r"(?i)\batrial fibrillation\b",
    r"(?i)\bdepression\b.{0,40}\btreat",
    r"(?i)\bpatient\s*(?:id|name)?\s*:\s*[A-Z][a-z]+",
)
"""What the peers look for: regular expressions that all three engines read alike."""


class Peer:
    """What peers have in common.

    Attributes:
        name: as in the results.
        packages: Debian packages, each with a program of its own.
    """

    name = ""
    packages: tuple[tuple[str, str], ...] = ()

    def missing(self) -> list[str]:
        """What is not there, after an attempt to install it."""
        if os.geteuid() != 0:
            return ["root"]
        absent = [package for package, program in self.packages if not Path(program).exists()]
        if absent:
            install(absent)
        return [package for package, program in self.packages if not Path(program).exists()]

    def version(self) -> str:
        listed = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Package} ${Version}, ", *(name for name, _ in self.packages)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return listed.stdout.rstrip(", ")

    @contextlib.asynccontextmanager
    async def running(self, setting: Setting) -> AsyncIterator[int]:
        port = free_port()
        make_key(setting.directory / "dkim.pem")
        self.start(setting, port)
        try:
            await answering(port)
        except RuntimeError as error:
            said = "\n".join(file.read_text(errors="replace")[-1500:] for file in setting.directory.glob("*.out"))
            raise RuntimeError(f"{error}\n{said}") from None
        yield port

    def start(self, setting: Setting, port: int) -> None:
        raise NotImplementedError


class PostfixRspamd(Peer):
    """Postfix; rspamd as its milter signs and looks for the patterns, with nothing else switched on."""

    name = "postfix-rspamd"
    packages = (("postfix", "/usr/sbin/postfix"), ("rspamd", "/usr/bin/rspamd"))

    def start(self, setting: Setting, port: int) -> None:
        milter = free_port()
        start_rspamd(setting, milter)
        start_postfix(setting, port, milter)


class PostfixOpenDkim(Peer):
    """Postfix with header and body checks by pcre; OpenDKIM as its milter signs."""

    name = "postfix-opendkim"
    packages = (
        ("postfix", "/usr/sbin/postfix"),
        ("postfix-pcre", "/usr/lib/postfix/postfix-pcre.so"),
        ("opendkim", "/usr/sbin/opendkim"),
    )

    def start(self, setting: Setting, port: int) -> None:
        milter = free_port()
        config = setting.directory / "opendkim.conf"
        config.write_text(
            f"Socket inet:{milter}@127.0.0.1\nDomain {DOMAIN}\nSelector bench\nKeyFile {setting.directory}/dkim.pem\n"
            "RequireSafeKeys no\nMode s\nCanonicalization relaxed/relaxed\nSignatureAlgorithm rsa-sha256\n"
            "OversignHeaders From\nInternalHosts 127.0.0.1\nBackground no\nSyslog no\n"
        )
        setting.group.start(["opendkim", "-x", str(config)], **quiet(setting, "opendkim"))
        checks = setting.directory / "checks.pcre"
        checks.write_text("".join(f"{_postfix_pattern(one)} WARN found\n" for one in PATTERNS))
        start_postfix(setting, port, milter, f"header_checks = pcre:{checks}", f"body_checks = pcre:{checks}")


class Haraka(Peer):
    """Haraka with two processes, its DKIM plugin, and a plugin that looks for the patterns."""

    name = "haraka"
    packages = (("nodejs", "/usr/bin/node"), ("npm", "/usr/bin/npm"))

    def missing(self) -> list[str]:
        if absent := super().missing():
            return absent
        _HARAKA.mkdir(parents=True, exist_ok=True)
        if not self._program.exists():
            (_HARAKA / "package.json").write_text(_PACKAGE)
            command = ["npm", "install", "--no-audit", "--no-fund", "--omit=optional", "Haraka", "haraka-plugin-dkim"]
            subprocess.run(command, cwd=_HARAKA, check=False)
        return [] if self._program.exists() else ["Haraka from npm"]

    @property
    def _program(self) -> Path:
        return _HARAKA / "node_modules" / "Haraka" / "bin" / "haraka"

    def version(self) -> str:
        package = json.loads((_HARAKA / "node_modules" / "Haraka" / "package.json").read_text())
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        return f"Haraka {package['version']}, node {node}"

    def start(self, setting: Setting, port: int) -> None:
        home = setting.directory / "haraka"
        write_haraka(home, setting, port)
        options = quiet(setting, "haraka")
        options["env"] |= {
            "SINK": str(setting.sink),
            "SINK_NAME": SINK_NAME,
            "NODE_EXTRA_CA_CERTS": str(setting.authority.root),
        }
        setting.group.start(["node", str(self._program), "-c", str(home)], **options)


PEERS: Final = (PostfixRspamd(), PostfixOpenDkim(), Haraka())


# --- parts ----------------------------------------------------------------


def make_key(path: Path) -> None:
    """A throw-away RSA-2048 key that the peers' several users can read."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    path.chmod(0o644)


def quiet(setting: Setting, name: str) -> dict[str, Any]:
    log = (setting.directory / f"{name}.out").open("wb")
    return {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": with_environment(setting)}


async def answering(port: int) -> None:
    """Wait for a 220.

    Raises:
        RuntimeError: none came.
    """
    end = time.monotonic() + _READY
    while time.monotonic() < end:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                greeting = await reader.readline()
                writer.write(b"QUIT\r\n")
                writer.close()
                if greeting.startswith(b"220"):
                    return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"nothing answers on port {port}")


def _postfix_pattern(pattern: str) -> str:
    """A pcre table folds case unless the flag ``i`` is given: the reverse of everybody else."""
    return f"/{_bare(pattern)}/{'' if pattern.startswith('(?i)') else 'i'}"


def _bare(pattern: str) -> str:
    """Without its flag, ready to stand between slashes."""
    return pattern.removeprefix("(?i)").replace("/", "\\/")


def start_postfix(setting: Setting, port: int, milter: int, *more: str) -> None:
    """A Postfix of its own: configuration, queue and log below the setting's directory."""
    home = setting.directory / "postfix"
    for name in ("conf", "queue", "data", "log"):
        (home / name).mkdir(parents=True)
    shutil.chown(home / "data", "postfix")
    main = [
        "compatibility_level = 3.6", f"queue_directory = {home}/queue", f"data_directory = {home}/data",
        "meta_directory = /etc/postfix", f"maillog_file = {home}/log/mail.log", f"maillog_file_prefixes = {home}/log",
        "inet_interfaces = 127.0.0.1", "inet_protocols = ipv4", "myhostname = relay.clinic.example", "mydestination =",
        "local_recipient_maps =", "alias_maps =", "mynetworks = 127.0.0.0/8",
        f"relayhost = [127.0.0.1]:{setting.sink}", "smtpd_peername_lookup = no", "biff = no",
        "smtpd_recipient_restrictions = permit_mynetworks, reject",
        "smtpd_recipient_limit = 1000", "smtpd_client_recipient_rate_limit = 0",
        "import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_PRELOAD POSTERN_BENCH_FSYNC_MS",
        f"smtpd_milters = inet:127.0.0.1:{milter}", "milter_default_action = tempfail", *more,
    ]  # fmt: skip
    if setting.case.tls is not SinkTls.NONE:
        main += [
            "smtp_tls_security_level = secure", f"smtp_tls_secure_cert_match = {SINK_NAME}",
            f"smtp_tls_CAfile = {setting.authority.root}",
            "smtp_tls_session_cache_database = btree:${data_directory}/scache",
        ]  # fmt: skip
    if setting.case.tls is SinkTls.KEPT:
        main.append("smtp_tls_connection_reuse = yes")
    (home / "conf" / "main.cf").write_text("\n".join(main) + "\n")
    services = "".join(f"{line}\n" for line in (f"127.0.0.1:{port} inet n - n - - smtpd", *_SERVICES))
    (home / "conf" / "master.cf").write_text(services)
    Path("/etc/postfix/main.cf").touch()  # its tools look for the usual file even when told of another
    setting.group.start(["postfix", "-c", str(home / "conf"), "start-fg"], **quiet(setting, "postfix"))


_SERVICES: Final = (
    "pickup unix n - n 60 1 pickup", "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr",
    "tlsproxy unix - - n - 0 tlsproxy", "tlsmgr unix - - n 1000? 1 tlsmgr",
    "rewrite unix - - n - - trivial-rewrite", "bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce",
    "trace unix - - n - 0 bounce", "verify unix - - n - 1 verify", "flush unix n - n 1000? 0 flush",
    "proxymap unix - - n - - proxymap", "smtp unix - - n - - smtp", "relay unix - - n - - smtp",
    "error unix - - n - - error", "retry unix - - n - - error", "discard unix - - n - - discard",
    "anvil unix - - n - 1 anvil", "scache unix - - n - 1 scache", "postlog unix-dgram n - n - 1 postlogd",
)  # fmt: skip


def start_rspamd(setting: Setting, milter: int) -> None:
    home = setting.directory / "rspamd"
    home.mkdir()
    shutil.chown(home, "_rspamd")
    rules = ["config.regexp = config.regexp or {}"]
    for number, pattern in enumerate(PATTERNS):
        flag = "i" if pattern.startswith("(?i)") else ""
        rules.append(
            f"config.regexp['B{number}'] = {{ re = [==[/{_bare(pattern)}/{flag}{{sa_body}}]==], score = 1.0 }}"
        )
    (home / "rules.lua").write_text("\n".join(rules) + "\n")
    (home / "rspamd.conf").write_text(
        f'options {{ pidfile = "{home}/pid"; filters = "dkim,regexp";'
        ' dns { nameserver = "127.0.0.1:9"; timeout = 0.1s; }'
        f' control_socket = "{home}/control mode=0600"; local_addrs = []; explicit_modules = []; }}\n'
        f'logging {{ type = "file"; filename = "{home}/log"; level = "notice"; }}\n'
        'metric { name = "default"; actions { reject = 1000; } }\n'
        f'worker "rspamd_proxy" {{ bind_socket = "127.0.0.1:{milter}"; milter = yes; timeout = 30s; count = 2;'
        ' upstream "local" { default = yes; self_scan = yes; } }\n'
        'modules { path = "/usr/share/rspamd/plugins/dkim_signing.lua"; }\n'
        f'lua = "{home}/rules.lua";\n'
        'dkim_signing { sign_local = true; allow_username_mismatch = true; sign_networks = ["127.0.0.0/8"];'
        f' use_domain = "header"; use_esld = false; domain {{ {DOMAIN} {{ selector = "bench";'
        f' path = "{setting.directory}/dkim.pem"; }} }} }}\n'
    )
    command = ["rspamd", "-u", "_rspamd", "-g", "_rspamd", "-c", str(home / "rspamd.conf"), "-f", "-i"]
    setting.group.start(command, **quiet(setting, "rspamd"))
    end = time.monotonic() + _READY
    while time.monotonic() < end and not _listens(milter):
        time.sleep(0.1)


def _listens(port: int) -> bool:
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    return wanted in " ".join(Path("/proc/net/tcp").read_text().split())


_RELAY_JS: Final = """
exports.hook_connect = (next, connection) => { connection.relaying = true; next(); };
exports.hook_rcpt = (next) => next(OK);
exports.hook_get_mx = (next) => next(OK, {
  priority: 0, exchange: '127.0.0.1', from_dns: process.env.SINK_NAME, port: Number(process.env.SINK),
});
"""
_SCAN_JS: Final = """
const patterns = require('fs').readFileSync(__dirname + '/../patterns.txt', 'utf8').split('\\n').filter(Boolean)
  .map((one) => one.startsWith('(?i)') ? new RegExp(one.slice(4), 'i') : new RegExp(one));
exports.hook_data_post = (next, connection) => {
  connection.transaction.message_stream.get_data((data) => {
    const text = data.toString('latin1');
    const found = patterns.filter((one) => one.test(text)).length;
    if (found) connection.transaction.add_header('X-Scan', String(found));
    next();
  });
};
"""


def write_haraka(home: Path, setting: Setting, port: int) -> None:
    tls = setting.case.tls is not SinkTls.NONE
    files = {
        "package.json": '{"name": "bench", "version": "1.0.0"}',
        "patterns.txt": "\n".join(PATTERNS) + "\n",
        "plugins/to_sink.js": _RELAY_JS,
        "plugins/look_for.js": _SCAN_JS,
        "config/smtp.ini": f"listen=127.0.0.1:{port}\nnodes=2\nspool_dir={home}/spool\n",
        "config/me": "relay.clinic.example\n",
        "config/loglevel": "WARN\n",
        "config/log.ini": "[main]\nlevel=WARN\n",
        "config/plugins": "to_sink\nlook_for\ndkim\n",
        "config/outbound.ini": f"local_mx_ok=true\nconcurrency_max=100\nenable_tls={str(tls).lower()}\n",
        "config/tls.ini": "[outbound]\nrejectUnauthorized=true\n",
        "config/dkim.ini": "[sign]\nenabled=true\n[verify]\nenabled=false\n",
        f"config/dkim/{DOMAIN}/private": (setting.directory / "dkim.pem").read_text(),
        f"config/dkim/{DOMAIN}/selector": "bench\n",
    }
    for name, text in files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    # Without this file of its own it fails to greet.
    shutil.copy(_HARAKA / "node_modules" / "Haraka" / "config" / "connection.ini", home / "config")
    (home / "queue").mkdir()
    (home / "node_modules").symlink_to(_HARAKA / "node_modules")
