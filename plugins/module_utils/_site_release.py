# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a static site on the host of its web server: replaced as a whole, or not at all.

The directory of a site has one release, which is named by its digest, and the symbolic link C(current) to it. The file
C(applied) says which release and configuration the web server has loaded, so that a run that was killed is resumed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Mapping, Sequence

TASK_OPTIONS: dict[str, dict[str, Any]] = {
    "directory": {"type": "path", "required": True},
    "server_name": {"type": "str"},
    "path": {"type": "path", "default": "/var/lib/matrix-site"},
    "web_server": {"type": "str", "choices": ["nginx", "none"], "default": "nginx"},
    "tls_certificate": {"type": "path"},
    # Paths are no secrets.
    "tls_certificate_key": {"type": "path", "no_log": False},
    "acme_webroot": {"type": "path"},
    "listen_addresses": {"type": "list", "elements": "str", "default": []},
    "map_hash": {"type": "bool", "default": True},
    "log_path": {"type": "path"},
    "sample": {"type": "int", "default": 20},
}
"""The options of the module C(site_deployment) that a task sets. Its action plugin sets the others."""
CURRENT = "current"
APPLIED = "applied"
RELEASE = re.compile("[0-9a-f]{64}")
NEW = ".new"
"""Suffix of what is not complete yet."""
COMMAND_TIMEOUT = 120
"""Maximum time of a command in seconds."""
MAX_OUTPUT = 2000
"""Maximum number of characters of a command's output in a message."""
RESERVE = 16 * 1024 * 1024
"""Number of bytes that stay free on the file system."""
BLOCK = 4096


class DeploymentError(Exception):
    """The site cannot be put onto this host. Nothing has changed, or everything is as before."""


class Deployment:
    """The directory of one site.

    :param root: directory of the site. Its parent directories are created as well.
    :param release: digest of the release that must be there.
    :param files: configuration files by path, outside of the release.
    """

    def __init__(self, root: str, release: str, files: Mapping[str, str]) -> None:
        if RELEASE.fullmatch(release) is None:
            raise DeploymentError("release is not a digest")
        self._root = Path(root)
        self._release = release
        self._files = {Path(path): text for path, text in files.items()}
        self._current = self._root / CURRENT

    @property
    def has_release(self) -> bool:
        """Whether the release is the current one, and complete."""
        return self._target() == self._release and (self._root / self._release).is_dir()

    def changes(self) -> list[str]:
        """Return the paths that are not as they must be."""
        found = [] if self.has_release else [str(self._current)]
        found += [str(path) for path, text in self._files.items() if _read(path) != text]
        return found

    @property
    def is_applied(self) -> bool:
        """Whether the web server has loaded this release and these files."""
        return not self.changes() and _read(self._root / APPLIED) == self._applied()

    def assert_space(self, size: int, number_of_files: int) -> None:
        """Assert that the file system has room for a release and its archive.

        :raises DeploymentError: if it has not.
        """
        existing = next(path for path in [self._root, *self._root.parents] if path.exists())
        needed = 2 * (size + BLOCK * number_of_files) + RESERVE
        free = shutil.disk_usage(str(existing)).free
        if free < needed:
            raise DeploymentError(
                f"{existing} has {free // 1024**2:,} MiB of free space, and the site needs {needed // 1024**2:,}"
                " MiB: free some space, or set site_path to another file system"
            )

    def unpack(self, archive: str) -> None:
        """Unpack an archive as the release. Other files stay as they are."""
        self._make_root()
        new = self._root / f"{self._release}{NEW}"
        shutil.rmtree(str(new), ignore_errors=True)
        try:
            _extract(archive, new)
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            shutil.rmtree(str(new), ignore_errors=True)
            raise DeploymentError(f"cannot unpack the site: {error}") from error
        final = self._root / self._release
        shutil.rmtree(str(final), ignore_errors=True)
        # All files are on the disk before something refers to them.
        os.sync()
        new.rename(final)

    def apply(self, test: Sequence[str], reload: Sequence[str]) -> None:
        """Switch to the release and the files, have the web server test them, and load them.

        :param test: command that fails if the configuration is not valid; empty without a web server.
        :param reload: command that loads the configuration.
        :raises DeploymentError: if a command fails. The release and the files are then those of before.
        """
        if self._current.exists() and not self._current.is_symlink():
            raise DeploymentError(f"{self._current} is not a symbolic link: remove it, and run again")
        self._make_root()
        applied = self._root / APPLIED
        previous, contents = self._target(), {path: _read(path) for path in [*self._files, applied]}
        _restore(applied, None)
        try:
            self._link(self._release)
            for path, text in self._files.items():
                _write(path, text)
            _run(test)
            _run(reload)
        except BaseException:
            for path, content in contents.items():
                _restore(path, content)
            self._link(previous)
            if previous != self._release:
                shutil.rmtree(str(self._root / self._release), ignore_errors=True)
            raise
        _write(applied, self._applied())
        self._remove_others()

    def _applied(self) -> str:
        texts = {str(path): hashlib.sha256(text.encode()).hexdigest() for path, text in self._files.items()}
        return json.dumps({"release": self._release, "files": texts}, sort_keys=True) + "\n"

    def _target(self) -> str | None:
        try:
            return os.readlink(str(self._current))
        except OSError:
            return None

    def _link(self, target: str | None) -> None:
        if target is None:
            with suppress(FileNotFoundError):
                self._current.unlink()
            return
        new = self._root / f"{CURRENT}{NEW}"
        with suppress(FileNotFoundError):
            new.unlink()
        new.symlink_to(target)
        new.replace(self._current)

    def _make_root(self) -> None:
        for path in [*reversed(self._root.parents), self._root]:
            if not path.exists():
                path.mkdir(mode=0o755)
                path.chmod(0o755)

    def _remove_others(self) -> None:
        """Remove releases that are not the current one, also those that a killed run has left."""
        for path in self._root.iterdir():
            if path.name != self._release and RELEASE.fullmatch(path.name.replace(NEW, "")) and not path.is_symlink():
                shutil.rmtree(str(path))


def assert_certificate(certificate: str, key: str | None) -> None:
    """Assert that a TLS certificate and a private key belong together. C(nginx -t) does not find all that do not.

    :raises DeploymentError: if not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An empty password: otherwise, a key with one would wait for input.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror or str(error)
        raise DeploymentError(
            f"{certificate} and {key} are not a TLS certificate and its private key ({reason}): correct"
            " site_tls_certificate and site_tls_certificate_key"
        ) from error


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, text: str) -> None:
    """Replace a file atomically. It contains no secrets."""
    new = path.with_name(f".{path.name}{NEW}")
    with suppress(FileNotFoundError):
        new.unlink()
    with open(os.open(str(new), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    new.replace(path)


def _restore(path: Path, content: str | None) -> None:
    if content is not None:
        _write(path, content)
        return
    with suppress(FileNotFoundError):
        path.unlink()


def _run(command: Sequence[str]) -> None:
    if not command:
        return
    words = " ".join(command)
    # Debian's PATH of an unprivileged user, which sudo may keep, has no sbin.
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/local/sbin:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeploymentError(f"{words}: {error}") from error
    if done.returncode:
        raise DeploymentError(f"{words}: {done.stdout.decode('utf-8', 'replace')[-MAX_OUTPUT:].strip()}")


def _extract(archive: str, target: Path) -> None:
    """Unpack files only, below the target, readable by the web server and owned by this user."""
    _make_directory(target)
    with tarfile.open(archive, "r:gz") as source:
        for entry in source:
            parts = Path(entry.name).parts
            if not entry.isreg() or ".." in parts or entry.name.startswith("/"):
                raise ValueError(f"{entry.name!r} is not allowed in an archive of a site")
            path = target.joinpath(*parts)
            _make_directory(path.parent)
            content = source.extractfile(entry)
            with open(os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
                if content is not None:
                    shutil.copyfileobj(content, file, 1024 * 1024)
                os.fchmod(file.fileno(), 0o644)


def _make_directory(path: Path) -> None:
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir()
        path.chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
