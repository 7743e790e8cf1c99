# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate of runs of the whole playbook: on real servers, and on a stub with 100 accounts, whose certificate is
opened in a browser with 40 remote servers."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.digest import digest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.page import certificate_page
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.record import conclude
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    SERVER,
    TOKEN,
    matrix_error,
    room_id,
    user,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from ansible_collections.matrixops.synapse.tests.stubs.homeserver.transport import serving
from lab.waiting import PATIENCE
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import text_to_be_present_in_element
from selenium.webdriver.support.wait import WebDriverWait

from .conftest import IN_PROCESS, ROOT, Federation, RunPlaybook
from .test_playbook import PLAYBOOK

SCHEMA = json.loads((ROOT / "roles/decommission/files/certificate.schema.json").read_text())
IMAGE = ROOT / "docs/images/certificate.png"
ACCOUNTS, SERVERS, ROOMS = 100, 40, 40
STATES = ("confirmed", "ghosts", "refused", "unreachable", "unconfirmed")
HOSTILE = (
    "{{ 7 * 7 }} {% raw %} <script>document.title = 'owned'</script> <img src=http://127.0.0.1/x onerror=alert(1)>"
)
REFUSED = f"@user7:{SERVER}"
SEED = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"


def read(directory: Path, name: str) -> dict[str, Any]:
    """A certificate, which is as its schema says."""
    path = directory / f"{name}.json"
    certificate: dict[str, Any] = json.loads(path.read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(certificate)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    return certificate


def results(certificate: dict[str, Any]) -> dict[str, str]:
    return {stage["stage"]: stage["attempts"][-1]["result"] for stage in certificate["stages"]}


# On real servers


def test_certificate_of_a_decommissioning(federation: Federation, run_playbook: RunPlaybook, tmp_path: Path) -> None:
    """Compared with the remote server, and with the decommissioned one's own records."""
    directory = tmp_path / "decommission-reports"
    retiring, made = federation.retiring, federation.population
    to_close = federation.to_close
    host = federation.role_variables
    checked = run_playbook(PLAYBOOK, {"a": host}, "--check")
    assert checked.returncode == 0, checked.stdout
    assert not directory.exists()

    # A file that is no certificate is neither overwritten nor read.
    directory.mkdir(mode=0o700)
    (directory / f"{retiring.server_name.replace(':', '_')}-garbage.json").write_text("{")
    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    (path,) = [path for path in directory.glob("*.json") if "garbage" not in path.name]
    certificate = read(directory, path.stem)
    assert certificate["server"]["name"] == retiring.server_name
    assert certificate["state"] == "powered_off"
    stages = ["preflight", "prepare", "drain", "leave_rooms", "propagate", "verify", "power_off"]
    assert results(certificate) == dict.fromkeys(stages, "done")
    assert set(certificate["milestones"]) == {"started", "left_federated_rooms"}
    deactivated = certificate["accounts"]["deactivated"]
    accounts = retiring.accounts()
    gone = {account["name"] for account in accounts if account["deactivated"]}
    assert to_close <= gone and deactivated["total"] == len(gone)
    width, digests = deactivated["width"], deactivated["digests"]
    listed = {digests[i : i + width] for i in range(0, len(digests), width)}
    assert listed == {digest(user_id, deactivated["salt"])[:width] for user_id in gone}
    active = certificate["accounts"]["active"]["counts"]
    assert sum(sum(states.values()) for states in active.values()) == len(accounts) - len(gone)
    assert certificate["accounts"]["before"]["counts"]["appservice"]
    remote = certificate["remote_servers"]
    print(remote)
    assert [proof["exceptions"] for proof in certificate["proof"]] == [0, 0, 0, 0]
    # The remote server's own answer.
    (row,) = remote["servers"]
    assert (row["server"], row["state"]) == (federation.staying.server_name, "confirmed")
    assert row["text"] in done.stdout and not federation.ghosts()
    assert certificate["propagation"][-1][1:] == [remote["summary"][state] for state in STATES]
    (drain,) = certificate["drains"]
    assert drain["timeline"][-1][1:] == [drain["deactivated"], drain["left_all_rooms"]]
    for page in (path.read_text(), path.with_suffix(".html").read_text()):
        assert retiring.admin_token not in page and "syt_" not in page
        assert not [user_id for user_id in to_close if user_id in page]
        assert made.operator in page
    assert f"{retiring.server_name}: powered off" in done.stdout

    assert certificate["power_off"]["verified"] is False, "the homeserver is left running"

    # A later run that fails does not change it, and one that succeeds writes another one.
    before = {each: each.read_bytes() for each in directory.iterdir()}
    later = run_playbook(PLAYBOOK, {"a": {**host, "decommission_access_token": "syt_wrong"}})
    assert later.returncode == 2 and "M_UNKNOWN_TOKEN" in later.stdout, later.stdout
    assert {each: each.read_bytes() for each in directory.iterdir()} == before
    again = run_playbook(PLAYBOOK, {"a": {**host, "decommission_power_off": False}})
    assert again.returncode == 0, again.stdout
    assert read(directory, path.stem)["state"] == "verified"
    (kept,) = directory.glob("*.finished-*.json")
    assert (kept.read_bytes(), kept.with_suffix(".html").read_bytes()) == (
        before[path],
        before[path.with_suffix(".html")],
    )


# On a stub


def filled_homeserver() -> Homeserver:
    """A homeserver that refuses to deactivate one account at first."""
    names = [f"user{number}" for number in range(ACCOUNTS)]
    rooms = [f"room{number}" for number in range(ROOMS)]
    homeserver = Homeserver()
    homeserver.version = f"1.163.0 {HOSTILE}"
    joined = {name: [rooms[(i + step) % ROOMS] for step in (0, 7)] for i, name in enumerate(names)}
    homeserver.populate(*(user(name, displayname=HOSTILE) for name in names), op=rooms[:3], **joined)
    for number in range(SERVERS):
        homeserver.federate(rooms[number], rooms[(number + 1) % ROOMS], server=f"matrix{number:02}.example.net")
    refusal = 400, matrix_error("M_UNKNOWN", f"{REFUSED} {HOSTILE}")
    homeserver.faults[f"POST deactivate {REFUSED}"] = [refusal] * 2
    return homeserver


def serve(pipe: Any) -> None:
    homeserver = filled_homeserver()

    def answer(sent: Any) -> Any:
        # The controller's clock is real, and the two are compared.
        homeserver.now = int(time.time())
        return homeserver.answer(sent)

    with serving(answer) as url:
        pipe.send(url)
        signal.pause()


def with_remote_servers(certificate: dict[str, Any]) -> dict[str, Any]:
    """The same after checks of 40 remote servers: two have not confirmed, and one has a hostile name."""

    def row(name: str, state: str, reason: str, *can_kick: str) -> dict[str, Any]:
        open_room = {"room_id": room_id("x"), "state": state, "reason": reason, "ghosts": 1, "can_kick": list(can_kick)}
        return {
            "server": name,
            "state": state,
            "rooms": 2,
            "confirmed_rooms": 2 - bool(reason),
            "removed": 0,
            "confirmed_at": None if reason else ended,
            "unreachable_since": started if state == "unreachable" else None,
            "reason": reason,
            "text": f"{name}: {state}; confirmed, {2 - bool(reason)} of 2 rooms",
            "open_rooms": [open_room] if reason else [],
            "open_rooms_total": int(bool(reason)),
        }

    started = certificate["milestones"]["left_federated_rooms"]
    ended = started + 30
    history = [[started + 1, 0, 0, 0, 0, 40], [started + 4, 20, 3, 1, 1, 15], [started + 11, 38, 0, 1, 1, 0]]
    remote = {
        **certificate["remote_servers"],
        "at": ended,
        "checked": True,
        "message": "38 of 40 remote servers confirmed",
        "summary": {**dict(zip(STATES, history[-1][1:], strict=True)), "pairs": 80, "pairs_confirmed": 78},
        "servers": [
            row("acl.example.net", "refused", "denied by a server ACL of the room", "@mod:example.net"),
            row(HOSTILE, "unreachable", HOSTILE),
            *(row(f"matrix{number:02}.example.net", "confirmed", "") for number in range(SERVERS - 2)),
        ],
        "servers_total": SERVERS,
    }
    return conclude({**certificate, "remote_servers": remote, "propagation": history}, certificate["updated"])


class Decommissioned:
    """The certificate of two runs of the playbook. In the first, the server refuses to deactivate one account.

    :ivar certificate: of these runs.
    :ivar shown: the same with the results of checks of remote servers.
    :ivar page: the page of that.
    """

    def __init__(self, directory: Path) -> None:
        context = multiprocessing.get_context("fork")
        ours, its = context.Pipe()
        process = context.Process(target=serve, args=(its,), daemon=True)
        process.start()
        try:
            variables = {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "decommission_base_url": ours.recv(),
                "decommission_access_token": TOKEN,
                "decommission_confirm": SERVER,
                "decommission_propagation_period": "12s",
                "decommission_poll_interval": 1,
                "decommission_ghost_checks": False,
                "decommission_power_off_tasks": str(directory / "off.yml"),
                # These tasks leave the homeserver running.
                "decommission_power_off_timeout": 0,
                "decommission_archive": True,
                "decommission_signing_key_path": str(directory / "signing.key"),
                "decommission_archive_vault_password_file": "password",
                "ansible_become": False,
            }
            (directory / "signing.key").write_text(f"ed25519 a_1 {SEED}\n")
            (directory / "password").write_text("correct horse")
            archive = directory / f"decommission-reports/{SERVER}-archive/signing.key.vault"
            off = {
                "ansible.builtin.assert": {"that": f"'{archive}' is file"},
                "name": "Assert that the keys are archived",
            }
            (directory / "off.yml").write_text(json.dumps([off]))
            inventory = directory / "inventory.json"
            inventory.write_text(json.dumps({"matrix_decommission": {"hosts": {"stub": variables}}}))
            command = [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, PLAYBOOK]
            environment = {**os.environ, **IN_PROCESS}
            self.runs = [
                subprocess.run(command, cwd=directory, env=environment, text=True, capture_output=True, check=False),
            ]
            self.failed = read(directory / "decommission-reports", SERVER)
            self.runs.append(
                subprocess.run(command, cwd=directory, env=environment, text=True, capture_output=True, check=False)
            )
        finally:
            process.terminate()
            process.join()
        self.directory = directory / "decommission-reports"
        self.certificate = read(self.directory, SERVER)
        self.shown = with_remote_servers(self.certificate)
        self.page = directory / "page.html"
        self.page.write_text(certificate_page(self.shown))


@pytest.fixture(scope="module")
def decommissioned(tmp_path_factory: pytest.TempPathFactory) -> Decommissioned:
    return Decommissioned(tmp_path_factory.mktemp("decommissioned"))


def test_a_failed_stage_fails_the_run(decommissioned: Decommissioned) -> None:
    """The certificate has its reason without the user ID, and the host has failed."""
    first, second = decommissioned.runs
    assert first.returncode == 2, first.stdout
    assert second.returncode == 0, second.stdout
    failed = decommissioned.failed
    assert failed["state"] == "failed"
    assert results(failed) == {"preflight": "done", "prepare": "done", "drain": "failed"}
    drain = failed["stages"][2]
    (failure,) = drain["failures"]
    alias = f"#{digest(REFUSED, failed['salt'])[:10]}"
    assert failure["subject"] == alias
    assert failure["reason"].endswith(f"{alias} {HOSTILE}")
    assert HOSTILE in drain["attempts"][0]["reason"]
    text = (decommissioned.directory / f"{SERVER}.json").read_text()
    assert REFUSED not in text and TOKEN not in text and OPERATOR in text


def test_a_resumed_run(decommissioned: Decommissioned) -> None:
    certificate = decommissioned.certificate
    assert certificate["created"] == decommissioned.failed["created"]
    assert certificate["state"] == "powered_off"
    drain = certificate["stages"][2]
    assert [attempt["result"] for attempt in drain["attempts"]] == ["failed", "done"]
    assert drain["failures"] == []
    assert certificate["accounts"]["before"]["counts"]["user"]["active"] == ACCOUNTS
    assert certificate["accounts"]["deactivated"]["total"] == ACCOUNTS
    assert len(certificate["drains"]) == 2
    remote = certificate["remote_servers"]
    assert remote["checked"] is False
    assert remote["summary"]["servers"] == remote["summary"]["unconfirmed"] == SERVERS
    assert [finding["kind"] for finding in certificate["findings"]] == ["not_verified", "not_checked"]
    assert "No remote server was checked" in (decommissioned.directory / f"{SERVER}.html").read_text()
    assert len((decommissioned.directory / f"{SERVER}.json").read_text()) < 100_000


def test_the_archive_is_written_before_the_power_off(decommissioned: Decommissioned) -> None:
    """After the gate has opened. Its prerequisites are checked before the first account is deactivated."""
    first, second = decommissioned.runs
    assert "Check the prerequisites of the archive" in first.stdout and "Write the archive" not in first.stdout
    assert "Assert that the keys are archived" in second.stdout
    archive = decommissioned.directory / f"{SERVER}-archive/signing.key.vault"
    vault = VaultLib([("default", VaultSecret(b"correct horse"))])
    assert vault.decrypt(archive.read_text()) == f"ed25519 a_1 {SEED}\n".encode()
    shown = [path.read_text() for path in decommissioned.directory.rglob("*") if path.is_file()]
    assert not [text for text in (first.stdout, second.stdout, *shown) if SEED in text]


# In a browser

nightly = pytest.mark.nightly(category="browser")


@pytest.fixture(scope="module")
def browser(skip_or_fail: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if not all(programs.values()):
        skip_or_fail("no chromium or chromedriver here (packages chromium and chromium-driver)")
    options = ChromeOptions()
    options.binary_location = str(programs["chromium"])
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "hide-scrollbars",
        f"user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = Chrome(options=options, service=ChromeService(programs["chromedriver"]))
    yield started
    started.quit()


def show(browser: Chrome, page: Path, width: int, height: int, scheme: str = "light", media: str = "screen") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features, "media": media})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


def messages_of(browser: Chrome) -> list[str]:
    """What the page has written to the console, or the browser has because of it."""
    messages = [str(entry["message"]) for entry in browser.get_log("browser")]
    return [message for message in messages if not message.startswith("chrome://")]


def screenshot(browser: Chrome, path: Path) -> bytes:
    image = base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image)
    return image


def points(browser: Chrome, chart: str, kind: str) -> list[tuple[float, float]]:
    """What a line of a chart shows: the seconds, unless these are logarithmic, and the number."""
    svg = browser.find_element(By.CSS_SELECTOR, f"#chart-{chart} svg")
    span, most = (float(str(svg.get_attribute(f"data-{name}"))) for name in ("span", "most"))
    path = str(svg.find_element(By.CSS_SELECTOR, f"path.line.{kind}").get_attribute("d"))
    found = [tuple(map(float, point.split())) for point in re.split("[ML]", path)[1:]]
    return [((x - 64) / 556 * span, (256 - y) / 240 * most) for x, y in found]


def test_page_runs_nothing_and_loads_nothing(decommissioned: Decommissioned, browser: Chrome) -> None:
    browser.get_log("performance")
    show(browser, decommissioned.page, 1200, 900)
    assert browser.title == f"Decommissioning of {SERVER}"
    assert HOSTILE in browser.find_element(By.TAG_NAME, "main").text
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1 and not browser.find_elements(By.TAG_NAME, "img")
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in asked if event["method"] == "Network.requestWillBeSent"]
    # The browser's own pages are made of many.
    urls = [request["request"]["url"] for request in sent if request["documentURL"] == decommissioned.page.as_uri()]
    assert [url for url in urls if not url.startswith("data:")] == [decommissioned.page.as_uri()]
    assert not [request for request in sent if request["request"]["url"].startswith("http")]
    assert messages_of(browser) == []


@nightly
def test_charts_show_the_numbers(decommissioned: Decommissioned, browser: Chrome) -> None:
    show(browser, decommissioned.page, 1200, 900)
    certificate = decommissioned.shown
    expected: list[tuple[float, float]] = []
    offset = (0.0, 0.0)
    for drain in certificate["drains"]:
        expected += [(offset[0] + at, offset[1] + left) for at, _deactivated, left in drain["timeline"]]
        offset = expected[-1]
    assert offset[1] > ACCOUNTS * 0.8
    shown = points(browser, "accounts", "first")
    assert shown == [pytest.approx(point, abs=offset[1] / 1000 + 0.05) for point in expected]
    confirmed = points(browser, "servers", "first")
    # A state holds until the next check.
    assert [y for _x, y in confirmed[::2]] == [pytest.approx(point[1], abs=0.1) for point in certificate["propagation"]]
    start = certificate["milestones"]["left_federated_rooms"]
    starts = [point[0] - start for point in certificate["propagation"]]
    assert [x for x, _y in confirmed[::2]] == [pytest.approx(at, abs=0.1) for at in starts]
    assert confirmed[-1][1] == pytest.approx(SERVERS - 2, abs=0.1)
    assert len(browser.find_elements(By.CSS_SELECTOR, "#chart-servers path.area")) == len(STATES)
    rows = browser.find_elements(By.CSS_SELECTOR, "#numbers-servers tbody tr")
    assert len(rows) == len(certificate["propagation"])
    assert "2 not confirmed" in browser.find_element(By.ID, "chart-servers-desc").get_attribute("textContent")


@nightly
def test_tables_and_the_check_of_an_account(decommissioned: Decommissioned, browser: Chrome, tmp_path: Path) -> None:
    remote = decommissioned.shown["remote_servers"]
    names = [f"matrix{number}.example.net" for number in range(1, 31)] + [HOSTILE]
    many = [
        {**remote["servers"][0], "server": name, "text": f"{name}: refused", "rooms": number * 7 % 31}
        for number, name in enumerate(names)
    ]
    remote = {**remote, "servers": many, "servers_total": 31}
    page = tmp_path / "page.html"
    page.write_text(certificate_page({**decommissioned.shown, "remote_servers": remote}))
    show(browser, page, 1200, 900)

    def rows() -> list[str]:
        return [r.text for r in browser.find_elements(By.CSS_SELECTOR, "#servers tbody tr") if r.is_displayed()]

    search = browser.find_element(By.ID, "servers-search")
    assert len(rows()) == 31
    search.send_keys("MATRIX7")
    assert len(rows()) == 1 and "matrix7.example.net" in rows()[0]
    assert browser.find_element(By.ID, "servers-found").text == "1 of 31"
    search.send_keys(Keys.CONTROL, "a", Keys.BACKSPACE)
    assert len(rows()) == 31
    head = browser.find_elements(By.CSS_SELECTOR, "#servers th")[3]
    # With the keyboard alone.
    for order, expected in (("ascending", list(range(31))), ("descending", list(range(30, -1, -1)))):
        head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        assert head.get_attribute("aria-sort") == order
        cells = browser.find_elements(By.CSS_SELECTOR, "#servers td:nth-child(4)")
        assert [int(cell.text) for cell in cells] == expected

    known = " was an account of this server and is deactivated."
    for user_id, says in ((f"@user1:{SERVER}", known), (f"@user999:{SERVER}", " is not among")):
        field = browser.find_element(By.ID, "check")
        field.clear()
        field.send_keys(user_id, Keys.ENTER)
        WebDriverWait(browser, PATIENCE).until(text_to_be_present_in_element((By.ID, "checked"), user_id))
        assert browser.find_element(By.ID, "checked").text.startswith(user_id + says)
    assert messages_of(browser) == []


CONTRAST = """
const parse = (text) => text.match(/[0-9.]+/g).map(Number);
const light = (rgb) => {
  const curve = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = rgb.slice(0, 3).map((c) => curve(c / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const bad = [];
for (const element of document.querySelectorAll("main *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || element.closest("script, style, svg defs, title, desc")) continue;
  const style = getComputedStyle(element);
  const ink = light(parse(element.closest("svg") && !element.closest("foreignObject") ? style.fill : style.color));
  const paper = light(ground(element));
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (ratio < 4.5) bad.push([element.textContent.slice(0, 40), ratio]);
}
return bad;
"""


@nightly
@pytest.mark.parametrize(
    ("name", "width", "height", "scheme"),
    [("desktop", 1200, 1380, "light"), ("phone", 390, 1600, "light"), ("dark", 1200, 1380, "dark")],
)
def test_it_is_legible(
    decommissioned: Decommissioned, browser: Chrome, tmp_path: Path, name: str, width: int, height: int, scheme: str
) -> None:
    """Nothing is wider than the window, all text has the contrast of WCAG AA, and all controls have a name."""
    show(browser, decommissioned.page, width, height, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(CONTRAST) == []
    for field in browser.find_elements(By.CSS_SELECTOR, "input"):
        assert field.accessible_name
    for table in browser.find_elements(By.CSS_SELECTOR, "table"):
        assert table.find_elements(By.TAG_NAME, "caption")
    keep = os.environ.get("SCREENSHOTS")
    image = screenshot(browser, Path(keep or tmp_path) / f"certificate-{name}.png")
    assert 20_000 < len(image) < 300_000
    assert IMAGE.stat().st_size < 300_000


@nightly
def test_print(decommissioned: Decommissioned, browser: Chrome) -> None:
    show(browser, decommissioned.page, 800, 1000, media="print")
    assert not browser.find_element(By.CSS_SELECTOR, "form.check").is_displayed()
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
