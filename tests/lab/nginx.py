# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How to run an nginx as an ordinary program, in a directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .errors import MissingError


def find_program(name: str) -> str:
    """The path of a server's program; Debian has them where only root looks for them."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise MissingError(f"{name} is missing: install the package {name}")
    return found


def nginx_config(directory: Path, errors: Path, http: str) -> str:
    """An nginx.conf.

    :param errors: the log of errors.
    :param http: the contents of ``http {}``, besides paths below ``directory``.
    """
    temporary = "".join(
        f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        # In one process, which runs as the same user as the tests, and can be killed and frozen as a whole.
        f"daemon off; master_process off; pid {directory}/nginx.pid; error_log {errors};"
        "events { worker_connections 512; }"
        f"http {{ {temporary} access_log {directory}/access.log; {http} }}"
    )


def nginx_command(directory: Path, errors: Path, *, check: bool = False) -> list[str]:
    """The program and its arguments: to run in the foreground, or to check the configuration only."""
    files = ("-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", str(errors))
    return [find_program("nginx"), *(["-t"] if check else []), *files]
