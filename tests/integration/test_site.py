# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What remote servers can still do with the name of a server that is off: without its static site, and with it.

Judged by these servers: one that stays in the room, and others that join it only now.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from compatibility import environments
from lab import ApiError, Lab, MissingError
from lab.api import quote
from lab.lounge import Lounge
from lab.waiting import wait_until
from lab.web_servers import Caddy, Nginx, WebServer

from .conftest import ROOT, RunPlaybook
from .test_playbook import PLAYBOOK

SERVERS = ("a", "b", "c", "d")
OLD = "1.93"
PASSWORD = "correct horse"
EMAIL = "somebody@private.example"
ODD = 'odd~*"{$HOME}☂'


class World:
    """A is decommissioned, and b stays in its room. C and d are in no room of it."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.reports = directory / "reports"
        self.password_file = directory / "password"
        self.password_file.write_text(PASSWORD)
        self.a, self.b = lab["a"], lab["b"]
        self.lounge = Lounge(self.a, self.b)
        emails = {"threepids": [{"medium": "email", "address": EMAIL}]}
        self.a.admin("PUT", f"/v2/users/{quote(self.lounge.account(self.a).user_id)}", json=emails)
        self.aliases = [self.lounge.alias, self.lounge.add_alias(ODD), self.lounge.add_alias("Lounge")]

    @property
    def host(self) -> dict[str, Any]:
        return {
            **self.a.role_variables,
            "decommission_power_off_tasks": str(Path(__file__).with_name("power_off.yml")),
            # These tasks leave the homeserver running.
            "decommission_power_off_timeout": 0,
            "off_marker": str(self.a.directory / "powered_off"),
            "decommission_propagation_period": "1h",
            "decommission_poll_interval": 1,
            "decommission_early_exit": True,
            "decommission_report_dir": str(self.reports),
            "decommission_archive": True,
            "decommission_archive_vault_password_file": str(self.password_file),
            "decommission_release_aliases": True,
            "decommission_site": True,
            "decommission_site_media": "avatars",
            "decommission_site_operator": "Example <b>Association</b>",
            "decommission_site_contact": "admin@example.org",
            "decommission_site_list_rooms": True,
        }

    @property
    def site(self) -> Path:
        (path,) = self.reports.glob("*-site")
        return path

    @property
    def archive(self) -> Path:
        (path,) = self.reports.glob("*-archive")
        return path


@pytest.fixture(
    scope="module",
    params=[pytest.param(None, id="newest"), pytest.param(OLD, marks=pytest.mark.nightly(category="versions"))],
)
def world(
    request: pytest.FixtureRequest, skip_or_fail: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    try:
        python = environments.synapse(request.param) if request.param else None
        with Lab(ROOT / ".cache/tests/site", SERVERS, base_port=18900, synapse_python=python) as lab:
            yield World(lab, tmp_path_factory.mktemp("site"))
    except (MissingError, environments.MissingPythonError) as missing:
        skip_or_fail(str(missing))


@pytest.fixture
def off(world: World, run_playbook: RunPlaybook) -> World:
    """The server is decommissioned, once, and off."""
    if not world.reports.exists():
        done = run_playbook(PLAYBOOK, {"a": world.host})
        assert done.returncode == 0, done.stdout
        shown = " ".join(done.stdout.split())
        assert "For a static site: 1 federated room created here, 3 aliases of federated rooms, 1 media file" in shown
        assert "Static site: keys for 3650d, aliases: federated, media: avatars (1 media file (0.0 MB) of" in shown
        assert (world.a.directory / "powered_off").exists()
        world.a.stop()
    return world


def test_without_the_site(off: World) -> None:
    """All three fail, so that the tests with it show something."""
    with pytest.raises(ApiError, match="No create event"):
        off.lounge.join(off.lab["c"], off.lounge.room_id)
    with pytest.raises(ApiError, match="502"):
        off.lounge.resolve(off.b)
    with pytest.raises(ApiError, match="502"):
        off.lounge.load(off.b)


@pytest.mark.parametrize(("kind", "newcomer"), [(Nginx, "c"), (Caddy, "d")])
def test_with_the_site(off: World, kind: type[WebServer], newcomer: str, skip_or_fail: Callable[[str], None]) -> None:
    server, lounge = off.lab[newcomer], off.lounge
    try:
        web_server = kind(off.a.directory, off.site, off.a.ports[0])
        web_server.start()
    except MissingError as missing:
        skip_or_fail(str(missing))
    try:
        lounge.join(server, lounge.room_id)
        assert lounge.has_member(server)
        assert [lounge.resolve(off.b, alias) for alias in off.aliases] == [lounge.room_id] * 3
        with pytest.raises(ApiError, match="404"):
            lounge.resolve(off.b, f"#none:{off.a.server_name}")
        server.leave(lounge.account(server).token, lounge.room_id)
        wait_until(lambda: not lounge.has_member(server), "b knows that the newcomer has left")
        lounge.join(server, lounge.alias)
        wait_until(lambda: lounge.has_member(server), "b knows that the newcomer has joined")
        lounge.end_backoff(server)
        assert lounge.load(server) == lounge.picture
        assert lounge.load(server, "thumbnail", "?width=32&height=32&method=crop").startswith(b"\x89PNG")
    finally:
        web_server.stop()


def test_nothing_secret_is_published(off: World) -> None:
    keys = VaultLib([("default", VaultSecret(PASSWORD.encode()))]).decrypt(
        (off.archive / "signing.key.vault").read_text()
    )
    secrets = [line.split()[2] for line in keys.splitlines()]
    assert len(secrets) == 2, "that of the homeserver, and that of the site"
    secrets += [
        off.a.admin_token.encode(),
        off.lounge.account(off.a).token.encode(),
        b"@somebody",
        b"somebody",
        EMAIL.encode(),
    ]
    for path in (path for path in off.site.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not [secret for secret in secrets if secret in content], path


def test_certificate(off: World) -> None:
    (path,) = off.reports.glob("*.json")
    site = json.loads(path.read_text())["site"]
    summary = json.loads((off.site / "site.json").read_text())
    assert {key: site[key] for key in ("rooms", "aliases", "media_files", "sha256")} == {
        "rooms": 1,
        "aliases": 3,
        "media_files": 1,
        "sha256": summary["sha256"],
    }
    # As anybody can compute it.
    digest = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    published = subprocess.run(["sh", "-c", digest], cwd=off.site / "www", capture_output=True, text=True, check=True)
    assert published.stdout.split()[0] == summary["sha256"]
