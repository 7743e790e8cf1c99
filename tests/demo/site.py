# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replace a real homeserver by a static site: ``make demo-site``.

Three Synapse servers run on the loopback interface, in ``.cache/demo-site``. The first is decommissioned. The second
stays in a room of it, and the third joins that room afterwards, while nginx or Caddy serves the static site. Nothing
else is changed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from lab import ApiError, Lab, MissingError
from lab.files import write_private
from lab.lounge import Lounge
from lab.web_servers import Caddy, Nginx, WebServer

from .__main__ import DIRECTORY, inventory, run_playbook, title

SITE_DIRECTORY = DIRECTORY.with_name("demo-site")
BASE_PORT = 18520
QUESTIONS = (
    "a new server joins the room by its ID",
    "a new server joins the room by its alias",
    "a remote server loads a picture that it has not cached",
)


def main() -> int:
    started = time.monotonic()
    title("Start three Synapse servers that federate with each other")
    with Lab(SITE_DIRECTORY, ("retiring", "staying", "new"), base_port=BASE_PORT) as lab:
        retiring, staying, new = (lab[name] for name in ("retiring", "staying", "new"))
        lounge = Lounge(retiring, staying)
        print(f"{lounge.alias} was created on {retiring.server_name}, and {staying.server_name} is in it.")

        def ask() -> list[str]:
            return [
                outcome(lambda: lounge.join(new, lounge.room_id)),
                outcome(lambda: lounge.join(new, lounge.alias)),
                outcome(lambda: lounge.load(staying)),
            ]

        title("ansible-playbook matrixops.synapse.decommission, with decommission_site: true")
        password = SITE_DIRECTORY / "vault-password"
        write_private(password, "of the demo")
        site = {
            "decommission_archive": True,
            "decommission_archive_vault_password_file": str(password),
            "decommission_site": True,
            "decommission_site_media": "avatars",
            "decommission_site_operator": "the demo",
            "decommission_site_list_rooms": True,
        }
        exit_code = run_playbook(inventory(retiring, SITE_DIRECTORY, **site))
        without = ask()
        (path,) = (SITE_DIRECTORY / "decommission-reports").glob("*-site")
        title("Start a web server with the static site")
        with start(Nginx, Caddy, make=lambda kind: kind(retiring.directory, path, retiring.ports[0])) as web_server:
            print(f"{web_server.program} answers under {retiring.server_name}.")
            lounge.end_backoff(staying)
            with_site = ask()

        title("Result")
        for question, before, after in zip(QUESTIONS, without, with_site, strict=True):
            print(f"{question}:\n  without the site: {before}\n  with the site:    {after}")
        done = exit_code == 0 and not retiring.running and with_site == ["yes"] * 3 and "yes" not in without
        minutes, seconds = divmod(round(time.monotonic() - started), 60)
        print(f"\n{'Done' if done else 'FAILED'}, in {minutes} min {seconds} s. The site is {path}.")
        return 0 if done else 1


def start(*kinds: type[WebServer], make: Callable[[type[WebServer]], WebServer]) -> WebServer:
    """The first of these web servers that is installed."""
    for kind in kinds:
        try:
            web_server = make(kind)
            _path = web_server.executable
        except MissingError:
            continue
        return web_server
    raise MissingError("neither nginx nor caddy is installed: install the package nginx")


def outcome(action: Callable[[], object]) -> str:
    """What a client gets: C(yes), or the error."""
    try:
        action()
    except ApiError as error:
        return f"no, {error}"
    return "yes"


if __name__ == "__main__":
    sys.exit(main())
