# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root that all hosts share: a small system of this machine's own release, with Synapse; built once and kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import LabError, MissingError
from ..lab import REPOSITORY

DIRECTORY = REPOSITORY / ".cache/hosts"
SERVICE = "matrix-synapse.service"
SERVICE_USER = "matrix-synapse"
LOGINS = {"root": "root", "deploy": "home/deploy"}

_REQUIREMENTS = REPOSITORY / "requirements/synapse.txt"
_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "python3",
    "python3-apt",
    "python3-dnspython",
    "python3-requests",
    "python3-signedjson",
    "python3-venv",
    "iproute2",
    "procps",
    "sudo",
)
_REPOSITORY = "/opt/packages"
#: What a host can install without a network, with all that these need.
_INSTALLABLE = ("caddy", "nginx", "python3-aiohttp")
#: The programs that hosts need on this machine, and Debian's packages of them.
_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "dpkg-deb": "dpkg",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}
_UNITS = {
    # As of the package of Debian's. Type=notify: the machine counts as running when Synapse answers.
    SERVICE: f"""\
[Unit]
Description=Synapse, a Matrix homeserver
Wants=lab-nameserver.service
After=network.target lab-nameserver.service

[Service]
Type=notify
NotifyAccess=main
User={SERVICE_USER}
WorkingDirectory=/var/lib/matrix-synapse
ExecStart=/opt/synapse/bin/python -m synapse.app.homeserver --config-path=/etc/matrix-synapse/homeserver.yaml \\
  --config-path=/etc/matrix-synapse/conf.d/
SyslogIdentifier=matrix-synapse
Restart=on-failure
RestartSec=3

[Install]
WantedBy=multi-user.target
""",
    # Synapse looks for SRV records, and gives up on a server name if nobody says that there are none.
    "lab-nameserver.service": """\
[Unit]
Description=A name server that knows no names: /etc/hosts has all that there are

[Service]
ExecStart=/usr/bin/python3 -S -E /usr/local/lib/lab-nameserver
TimeoutStopSec=2
""",
}
_NAMESERVER = """\
import socket

listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("127.0.0.1", 53))
while True:
    query, client = listener.recvfrom(4096)
    question = query[12 : query.find(b"\\0", 12) + 5]
    listener.sendto(query[:2] + bytes.fromhex("81830001000000000000") + question, client)
"""
_WANTED = ("systemd-networkd.service", "ssh.service", SERVICE)
_UNWANTED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
)
# Runs on this machine when the packages are installed, with the apt of the new root.
_DOWNLOAD = f"""\
set -eu
APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --download-only --yes -qq --no-install-recommends \
  install {" ".join(_INSTALLABLE)}
mkdir "$1{_REPOSITORY}"
mv "$1"/var/cache/apt/archives/*.deb "$1{_REPOSITORY}"
"""
# Runs in a mount namespace of its own, so that what it mounts goes with it.
_INSTALL_SYNAPSE = f"""\
set -eu
root=$1 ca=$2 requirements=$3
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
cp -L "$requirements" "$root/tmp/requirements.txt"
if [ -n "$ca" ]; then
  cp -L "$ca" "$root/tmp/ca.pem"
  export PIP_CERT=/tmp/ca.pem SSL_CERT_FILE=/tmp/ca.pem REQUESTS_CA_BUNDLE=/tmp/ca.pem
fi
chroot "$root" python3 -m venv /opt/synapse
chroot "$root" /opt/synapse/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \\
  --root-user-action=ignore --requirement /tmp/requirements.txt
chroot "$root" useradd --system --home-dir /var/lib/matrix-synapse --shell /usr/sbin/nologin {SERVICE_USER}
chroot "$root" useradd --create-home --shell /bin/bash --password '*' deploy
"""


def require_machine() -> None:
    """``MissingError`` if this machine can't have hosts."""
    if os.geteuid() != 0:
        raise MissingError("hosts that boot need root")
    if missing := sorted({package for program, package in _PROGRAMS.items() if not shutil.which(program)}):
        raise MissingError(f"hosts that boot need these packages of Debian's: {' '.join(missing)}")
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False).returncode:
        raise MissingError("hosts that boot need namespaces, and root may not make any here")


def build(directory: Path = DIRECTORY, *, report: Callable[[str], None] | None = None) -> Path:
    """The root, built unless it is there already."""
    require_machine()
    report = report or _report
    release = platform.freedesktop_os_release()
    parts = [release["VERSION_CODENAME"].encode(), platform.machine().encode()]
    parts += [file.read_bytes() for file in (_REQUIREMENTS, Path(__file__))]
    root = directory / f"base-{hashlib.sha256(b'-'.join(parts)).hexdigest()[:12]}"
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory), _open_umask():
        if not root.exists():
            _clear(directory)
            _build(root.with_name("new"), release, report)
            root.with_name("new").rename(root)
    return root


@contextmanager
def _open_umask() -> Iterator[None]:
    """The services of a host read files of root, whatever the umask of this process is."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _build(new: Path, release: dict[str, str], report: Callable[[str], None]) -> None:
    started = time.monotonic()
    log = new.with_name("build.log")
    suite = release["VERSION_CODENAME"]
    report(f"building the root of the hosts, once; the log is {log}")
    # Debian has it all in main; Ubuntu hasn't.
    components = "main,universe" if release["ID"] == "ubuntu" else "main"
    command = ["mmdebstrap", "--variant=minbase", f"--components={components}", "--dpkgopt=force-unsafe-io"]
    command += [f"--include={','.join(_PACKAGES)}", f"--customize-hook={_DOWNLOAD}"]
    _run([*command, suite, str(new)], log)
    report(f"{suite} is there after {time.monotonic() - started:.0f} s; installing Synapse")
    install = ["unshare", "--mount", "sh", "-c", _INSTALL_SYNAPSE, "sh", str(new), _ca_bundle(), str(_REQUIREMENTS)]
    _run(install, log, _pip_environment())
    _make_repository(new)
    _settle(new)
    report(f"the root is built, after {time.monotonic() - started:.0f} s")


def _make_repository(root: Path) -> None:
    """Make the packages that were downloaded a repository, and the only one that hosts know."""
    entries = []
    for package in sorted((root / _REPOSITORY.lstrip("/")).glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", package], stdout=subprocess.PIPE, text=True, check=True).stdout
        content = package.read_bytes()
        checksum = hashlib.sha256(content).hexdigest()
        entries.append(f"{control}Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {checksum}\n")
    (root / _REPOSITORY.lstrip("/") / "Packages").write_text("\n".join(entries))
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{_REPOSITORY} ./\n")


def _settle(root: Path) -> None:
    """What hosts have in common, and nothing of the machine that it was built on."""
    system = root / "etc/systemd/system"
    for name, text in _UNITS.items():
        (system / name).write_text(text)
    for name in _UNWANTED:
        (system / name).unlink(missing_ok=True)
        (system / name).symlink_to("/dev/null")
    wants = system / "multi-user.target.wants"
    for name in _WANTED:
        (wants / name).unlink(missing_ok=True)
        (wants / name).symlink_to((system if name in _UNITS else Path("/lib/systemd/system")) / name)
    (root / "usr/local/lib/lab-nameserver").write_text(_NAMESERVER)
    for name in ("etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id"):
        (root / name).unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text("UseDNS no\nGSSAPIAuthentication no\n")
    sudoers = root / "etc/sudoers.d/deploy"
    sudoers.write_text("deploy ALL=(ALL:ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    (root / "var/log/journal").mkdir(exist_ok=True)
    for name in ("etc/matrix-synapse", "etc/matrix-synapse/conf.d", "var/lib/matrix-synapse"):
        (root / name).mkdir(mode=0o755)


def _ca_bundle() -> str:
    """This machine's bundle of certificate authorities; mirrors of its own may need it."""
    names = (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt")
    return next((name for name in names if name and Path(name).is_file()), "")


def _pip_environment() -> dict[str, str]:
    """How pip is set up on this machine, as environment variables."""
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    environment = dict(os.environ)
    for line in listed.splitlines():
        name, _equals, value = line.partition("=")
        section, _dot, option = name.rpartition(".")
        if section in ("global", "install"):
            # A list is several lines in a file, and several words in the environment.
            words = " ".join(word for text in shlex.split(value) for word in text.replace("\\n", " ").split())
            environment.setdefault(f"PIP_{option.upper().replace('-', '_')}", words)
    # Files of this machine's are not to be found in there; certificates are copied.
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CONSTRAINT"):
        environment.pop(name, None)
    return environment | {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1", "LC_ALL": "C.UTF-8"}


def unmount_below(directory: Path) -> None:
    """Unmount all that is mounted in a directory, which is then safe to be removed."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if point.startswith(f"{directory}/"):
            subprocess.run(["umount", "--lazy", point], check=True)


def _clear(directory: Path) -> None:
    """Remove roots that are out of date or unfinished, but for those that a host still runs on."""
    mounts = Path("/proc/self/mountinfo").read_text()
    for old in [*directory.glob("base-*"), directory / "new"]:
        if f"lowerdir={old}," not in mounts:
            unmount_below(old)
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # If this process is killed, those that it has started go on, and hold the lock until they end.
        os.set_inheritable(lock.fileno(), True)
        yield


def _run(command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
    with log.open("wb") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            close_fds=False,  # the lock
            check=False,
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise LabError(f"{command[0]} failed while the root of the hosts was built; the last of {log}:\n{tail}")


def _report(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)
