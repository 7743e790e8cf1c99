# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the name answers with the key of this service, as remote servers find it, and no homeserver answers there.

Until then nothing is sent to a remote server. It is checked again each hour.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from typing import Callable

from .._decommission.retry_schedule import backoff
from .._federation.client import FederationClient
from .._federation.connect import Settings, connect
from .._federation.errors import FederationError, SigningKeyError
from .._federation.notaries import assert_not_known_otherwise
from .cleanup import Cleanup
from .config import Config, ConfigError

INTERVAL = 3600.0
"""Seconds from one check to the next one."""
FIRST_RETRY, MAX_RETRY = 1, 300
"""Seconds from a check that has failed to the next one: doubled each time."""
LOG = logging.getLogger("matrix_ghost_cleanup")


class SelfTest(threading.Thread):
    """Starts, pauses and resumes the engine by what answers under the name."""

    def __init__(
        self,
        config: Config,
        key_text: str,
        settings: Settings,
        cleanup: Cleanup,
        *,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        """
        :param key_text: content of a signing key file of Synapse.
        :param wait: waits for some seconds, and returns whether to end.
        """
        super().__init__(name="self-test", daemon=True)
        self._config = config
        self._key_text = key_text
        self._settings = settings
        self._cleanup = cleanup
        self._ended = threading.Event()
        self._wait = wait or self._ended.wait
        self._has_started = False

    def stop(self) -> None:
        """End after the current check."""
        self._ended.set()

    def run(self) -> None:
        """Check again and again. The connection of the first check that succeeds is that of the engine."""
        tries = 0
        with ExitStack() as stack:
            while not self._ended.is_set():
                try:
                    self._check(stack)
                    tries, delay = 0, INTERVAL
                except FederationError as error:
                    self._fail(str(error))
                    tries += 1
                    delay = backoff(tries, FIRST_RETRY, MAX_RETRY)
                if self._wait(delay):
                    return

    def _check(self, stack: ExitStack) -> None:
        with ExitStack() as attempt:
            client = self._connect(attempt)
            if not self._has_started:
                stack.enter_context(attempt.pop_all())
        name = self._config.server_name
        if not self._has_started:
            LOG.info("%s answers with the key of this service: begins", name)
            self._has_started = True
            self._cleanup.start(client)
        elif self._cleanup.problem:
            LOG.info("%s answers with the key of this service: resumes", name)
            self._cleanup.resume()

    def _connect(self, stack: ExitStack) -> FederationClient:
        """Return a client, once it is certain that the name is that of this service.

        :raises FederationError: if it is not, or can't be reached.
        """
        name = self._config.server_name
        try:
            # No remote server is asked yet.
            connection = stack.enter_context(connect(name, self._key_text, self._settings, (), require_key_answer=True))
        except ValueError as error:
            raise ConfigError(str(error)) from None
        except SigningKeyError as error:
            raise ConfigError(
                f"{name} does not lead to this service: check its DNS records, firewall, certificate and reverse proxy."
                f" {str(error).rpartition('require_key_answer: ')[2]}"
            ) from None
        if connection.homeserver:
            raise ConfigError(
                f"{connection.homeserver} answers under {name}, so that its homeserver is not gone: decommission it, or"
                " correct server_name"
            )
        if not self._has_started:
            assert_not_known_otherwise(connection.client, self._config.servers)
        return connection.client

    def _fail(self, problem: str) -> None:
        # Once for each problem: the next checks fail for the same reason.
        if self._cleanup.problem != problem:
            LOG.error("nothing is sent: %s", problem)
        self._cleanup.pause(problem)
