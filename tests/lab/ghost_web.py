# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The web part of the service ``ghost_cleanup`` as a process of its own, with keys of remote servers from a file.

``python -m lab.ghost_web CONFIG``, where CONFIG is a JSON file: ``server_name``, ``site_path``, ``key_answer_path``,
``listen``, ``tls`` (certificate and key, or null), and ``keys`` (key answers of remote servers by name).
"""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import UnreachableError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.published_keys import (
    KeyAnswer,
    parse_key_answer,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.config import Config
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.inbound import Verifier
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.listener import Listener
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.web import public_app


async def serve(settings: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    name, keys = settings["server_name"], settings["keys"]

    def fetch(server: str) -> KeyAnswer:
        if server not in keys:
            raise UnreachableError(f"{server} does not exist")
        return parse_key_answer(keys[server], server)

    config = Config(name, "", settings["key_answer_path"], "", site_path=settings["site_path"])
    verifier = Verifier(name, fetch)
    key_answer = Path(settings["key_answer_path"]).read_bytes()
    listener = Listener(public_app(config, key_answer, verifier, lambda _origin, _rooms: None))
    context = None
    if settings["tls"] is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*settings["tls"])
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await listener.start(settings["listen"], context)
    await stopping.wait()
    await listener.close()
    verifier.close()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text())))
