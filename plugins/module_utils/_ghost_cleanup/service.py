# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service as a process: C(matrix-ghost-cleanup --config FILE).

Nothing is sent to a remote server before the name has answered with the key of this service, found as remote servers
find it, and unless no homeserver answers there. That is tested again each hour.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import ssl
import stat
import sys
import threading
import time
from typing import NamedTuple, Sequence

from .._decommission.ghosts import Room
from .._decommission.sources import read_files
from .._decommission.witness import WitnessError, read_witness
from .._federation.connect import Settings
from .._federation.errors import FederationError, MissingRequirementError
from .._federation.pacing import Pacing
from .._federation.published_keys import assert_published, parse_key_answer
from .._federation.signing import SigningKey, read_key_file, read_signing_key
from .._synapse.client import Client
from .._text import plural, printable
from .cleanup import Cleanup
from .config import Config, ConfigError, read_config
from .inbound import Verifier
from .listener import HAS_AIOHTTP, Listener
from .self_test import SelfTest
from .static_site import SiteError
from .store import Limits, Store
from .web import public_app, status_app

WRONG_CONFIGURATION = 2
"""Exit code if the service can't begin, and would not the next time either."""
MAX_KEY_ANSWER = 512 * 1024
"""Maximum size of the key answer in bytes."""
MAX_TOKEN = 4096
"""Maximum length of an access token in characters."""
STOP_TIMEOUT = 5.0
"""Maximum time in seconds for requests that are under way when the service ends."""
LOG = logging.getLogger("matrix_ghost_cleanup")


class _Formatter(logging.Formatter):
    """One line for each event; tracebacks have several. Names of remote servers can't contain control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


class Keys(NamedTuple):
    """The files with keys."""

    key_text: str
    key: SigningKey
    answer: bytes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until it gets SIGTERM or SIGINT. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="matrix-ghost-cleanup",
        description="Answers under the name of a Matrix homeserver that is gone, and removes its ghosts.",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="configuration of the service, as JSON")
    path = parser.parse_args(argv).config
    _set_up_log()
    try:
        if not HAS_AIOHTTP:
            raise MissingRequirementError("aiohttp")
        config = read_config(path)
        service = Service(config, read_keys(config), read_files(config.rooms_paths, config.server_name))
        return asyncio.run(service.run())
    except (FederationError, SiteError, ValueError, OSError) as error:
        LOG.error("%s", error)
        return WRONG_CONFIGURATION


def _set_up_log() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    LOG.setLevel(logging.INFO)


def read_keys(config: Config) -> Keys:
    """Read the signing key and the key answer, and assert that they belong together.

    :raises FederationError: if not, or if one can't be read.
    """
    text = read_key_file(config.signing_key_path)
    if stat.S_IMODE(os.stat(config.signing_key_path).st_mode) & stat.S_IROTH:
        raise ConfigError(
            f"signing_key_path: all users can read {config.signing_key_path}: run chmod 600 {config.signing_key_path}"
        )
    key = read_signing_key(text)
    try:
        with open(config.key_answer_path, "rb") as file:
            answer = file.read(MAX_KEY_ANSWER)
        body = json.loads(answer)
    except OSError as error:
        raise ConfigError(f"key_answer_path: {config.key_answer_path}: {error.strerror}: correct the path") from None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ConfigError(f"key_answer_path: {config.key_answer_path} is not a JSON object: create the file again")
    try:
        assert_published(key, parse_key_answer(body, config.server_name), time.time())
    except FederationError as error:
        raise ConfigError(f"key_answer_path: {error}") from None
    return Keys(text, key, answer)


def _read_token(path: str) -> str:
    """Return the access token in a file.

    :raises ConfigError: if it can't be read. The message contains no part of the file.
    """
    try:
        with open(path, encoding="ascii") as file:
            return file.read(MAX_TOKEN).strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"witness_token_path: {path} can't be read: correct the path, or its permissions") from None


class Service:
    """The web part in this thread, the engine in threads of its own, and the checks of the name in one more."""

    def __init__(self, config: Config, keys: Keys, rooms: Sequence[Room]) -> None:
        """Open the state file.

        :raises StoreError: it can't be used.
        :raises ValueError: a setting of the connections is invalid.
        """
        self._config = config
        self._keys = keys
        self._settings = Settings(
            ca_path=config.ca_path,
            proxy=config.proxy,
            ip_allowlist=config.ip_allowlist,
            timeout=float(config.timeout),
            pacing=Pacing(config.max_concurrent, float(config.max_rate)),
        )
        self._verifier = Verifier.open(config.server_name, self._settings)
        self._store = Store(
            config.state_path, config.server_name, Limits(config.max_servers, config.max_rooms), time.time()
        )
        self._cleanup = Cleanup(config, self._store, key_id=keys.key.key_id)
        self._cleanup.rejected = lambda: self._verifier.rejected
        self._cleanup.add_sources(rooms)
        self._context = _tls_context(config)

    async def run(self) -> int:
        """Serve until a signal ends it."""
        ended = asyncio.Event()
        loop = asyncio.get_event_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        listeners = await self._listen()
        check = SelfTest(self._config, self._keys.key_text, self._settings, self._cleanup)
        check.start()
        if self._config.witness_url is not None:
            threading.Thread(target=self._ask_witness, args=(self._config.witness_url,), daemon=True).start()
        await ended.wait()
        LOG.info("ending")
        check.stop()
        for listener in listeners:
            await listener.close()
        self._verifier.close()
        # In a thread, so that requests that are being answered can end meanwhile.
        has_ended = await loop.run_in_executor(None, self._cleanup.stop, STOP_TIMEOUT)
        self._store.close()
        LOG.info("ended")
        if not has_ended or check.is_alive():
            # What is under way was written down. Threads that wait for a remote server would delay the end.
            logging.shutdown()
            os._exit(0)
        return 0

    def _ask_witness(self, url: str) -> None:
        """Add the rooms of the witness. Without them, the service does what else it can."""
        config = self._config
        try:
            with Client(url, _read_token(str(config.witness_token_path)), verify=config.ca_path or True) as client:
                rooms = read_witness(client, config.server_name)
        except (ConfigError, WitnessError) as error:
            LOG.error("%s", error)
            return
        LOG.info("the witness is in %s with ghosts", plural(len(rooms), "room", "rooms"))
        self._cleanup.add_rooms(rooms)

    async def _listen(self) -> list[Listener]:
        config = self._config
        public = Listener(public_app(config, self._keys.answer, self._verifier, self._cleanup.heard))
        await public.start(config.listen, self._context)
        scheme = "HTTP" if self._context is None else "TLS"
        LOG.info("answers for %s with the key %s", config.server_name, self._keys.key.key_id)
        LOG.info("listens at %s (%s)", ", ".join(config.listen), scheme)
        listeners = [public]
        if config.status_listen is not None:
            listeners.append(Listener(status_app(self._cleanup.status)))
            await listeners[-1].start([config.status_listen])
            LOG.info("shows its status at http://%s/status", config.status_listen)
        return listeners

    def _reload(self) -> None:
        """Read the certificate again. Connections that are open keep the old one."""
        if self._context is None:
            return
        try:
            _load_certificate(self._context, self._config)
            LOG.info("has read its certificate again")
        except ConfigError as error:
            LOG.error("%s", error)


def _tls_context(config: Config) -> ssl.SSLContext | None:
    if config.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificate(context, config)
    return context


def _load_certificate(context: ssl.SSLContext, config: Config) -> None:
    try:
        context.load_cert_chain(str(config.tls_certificate), config.tls_certificate_key)
    except (OSError, ValueError) as error:
        raise ConfigError(f"tls_certificate, tls_certificate_key: {error}: correct the paths, or the files") from None


if __name__ == "__main__":
    raise SystemExit(main())
