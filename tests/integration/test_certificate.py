# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate, from runs of the whole playbook: on real servers, and on a stub of one with 100 accounts and 40
destinations, whose certificate is opened in a browser."""

from __future__ import annotations

import base64
import email.utils
import json
import multiprocessing
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.matrixops.synapse.plugins.module_utils._digest import digest
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    OPERATOR,
    SERVER,
    TOKEN,
    FederatedSimulation,
    matrix_error,
    room_id,
    user,
)
from lab.waiting import PATIENCE
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import text_to_be_present_in_element
from selenium.webdriver.support.wait import WebDriverWait

from .conftest import IN_PROCESS, ROOT, Federation, RunPlaybook
from .test_playbook import PLAYBOOK

SCHEMA = json.loads((ROOT / "roles/decommission/files/certificate.schema.json").read_text())
IMAGE = ROOT / "docs/images/certificate.png"
ACCOUNTS, DESTINATIONS, ROOMS = 100, 40, 40
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


def test_certificate_of_a_retirement(federation: Federation, run_playbook: RunPlaybook, tmp_path: Path) -> None:
    """Checked through the other server, and the retired one's own records."""
    directory = tmp_path / "decommission-reports"
    retiring, made = federation.retiring, federation.population
    to_close = federation.to_close
    host = federation.role_variables
    checked = run_playbook(PLAYBOOK, {"a": host}, "--check")
    assert checked.returncode == 0, checked.stdout
    assert not directory.exists()

    # What is there, and is none, is neither lost nor believed.
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
    assert set(certificate["milestones"]) == {"started", "first_wave_ended", "second_wave_ended"}
    closed = certificate["accounts"]["closed"]
    accounts = retiring.accounts()
    gone = {account["name"] for account in accounts if account["deactivated"]}
    assert to_close <= gone and closed["total"] == len(gone)
    width = closed["width"]
    listed = {closed["digests"][i : i + width] for i in range(0, len(closed["digests"]), width)}
    assert listed == {digest(user_id, closed["salt"])[:width] for user_id in gone}
    opened = certificate["accounts"]["open"]["counts"]
    assert sum(sum(states.values()) for states in opened.values()) == len(accounts) - len(gone)
    assert certificate["accounts"]["before"]["counts"]["appservice"]
    ledger = certificate["ledger"]
    print(ledger)
    assert [proof["found"] for proof in certificate["proof"]] == [0, 0, 0, ledger["destinations_total"]]
    # What the other server shows it was not told of.
    assert not federation.ghosts() or federation.staying.server_name in str(ledger["destinations"])
    assert certificate["propagation"][-1][1:5] == [
        ledger["summary"][state] for state in ("delivered", "pending", "unreachable", "unknown")
    ]
    (drain,) = certificate["drains"]
    assert drain["timeline"][-1][1:] == [drain["deactivated"], drain["parted"]]
    for page in (path.read_text(), path.with_suffix(".html").read_text()):
        assert retiring.admin_token not in page and "syt_" not in page
        assert not [user_id for user_id in to_close if user_id in page]
        assert made.operator in page
    assert f"{retiring.server_name}: powered off" in done.stdout

    # A run that fails does so still, and says it in the same certificate.
    later = run_playbook(PLAYBOOK, {"a": {**host, "decommission_access_token": "syt_wrong"}})
    assert later.returncode == 2, later.stdout
    again = read(directory, path.stem)
    assert again["created"] == certificate["created"] and again["state"] == "powered_off"
    (preflight,) = [stage for stage in again["stages"] if stage["stage"] == "preflight"]
    assert [attempt["result"] for attempt in preflight["attempts"]] == ["done", "failed"]
    assert "M_UNKNOWN_TOKEN" in preflight["attempts"][-1]["reason"]
    assert "syt_wrong" not in path.read_text()


# On a stub


class Homeserver(FederatedSimulation):
    """Half of the destinations take everything at once, most others by the second poll, and the last two nothing."""

    def __init__(self) -> None:
        names = [f"user{number}" for number in range(ACCOUNTS)]
        rooms = [f"room{number}" for number in range(ROOMS)]
        joined = {name: [rooms[(i + step) % ROOMS] for step in (0, 7)] for i, name in enumerate(names)}
        mock: Any = SimpleNamespace(add_callback=lambda *_arguments: None)
        accounts = [user(name, displayname=HOSTILE) for name in names]
        super().__init__(mock, user("op", admin=True), *accounts, op=rooms[:3], **joined)
        self.names = [f"matrix{number:02}.example.net" for number in range(DESTINATIONS - 1)] + [HOSTILE]
        self.position = 1000
        self.polls = 0
        self.sent: dict[str, dict[str, int]] = {name: {} for name in self.names}
        self.log: dict[str, list[tuple[int, int]]] = {name: [(-1, self.position)] for name in self.names}
        for number, name in enumerate(self.names):
            for room in (rooms[number], rooms[(number + 1) % ROOMS]):
                self.federate(room, server=name)
                self.sent[name][room_id(room)] = self.position
        self.errors[f"POST deactivate {REFUSED}"] = [(400, matrix_error("M_UNKNOWN", f"{REFUSED} {HOSTILE}"))] * 2

    def _answer(self, request: Any) -> tuple[int, dict[str, str], str]:
        status, headers, body = super()._answer(request)
        if "/v2/users?" in request.url and "deactivated=false" in request.url:
            listed = json.loads(body)
            body = json.dumps({"users": [account for account in listed["users"] if not account["deactivated"]]})
        return status, headers, body

    def _send(self, room: str) -> None:
        super()._send(room)
        self.position += 1
        for member in self.remote.get(room, ()):
            name = member.partition(":")[2]
            self.sent[name][room] = self.position
            self.log[name].append((self.polls, self.position))

    def _taken(self, number: int, name: str) -> int:
        if number >= DESTINATIONS - 2:
            return 1000
        delay = 1 if number > DESTINATIONS / 2 else 0
        return max(position for polls, position in self.log[name] if polls + delay < self.polls)

    def _destination(self, number: int, name: str) -> dict[str, Any]:
        dead = number >= DESTINATIONS - 2
        now = int(time.time() * 1000)
        return {
            "destination": name,
            "retry_last_ts": now if dead else 0,
            "retry_interval": 600_000 if dead else 0,
            "failure_ts": now - 40 * 86_400_000 if dead else None,
            "last_successful_stream_ordering": self._taken(number, name),
        }

    def _act(self, before: str, last: str, user_id: str) -> tuple[int, Any]:
        if last == "destinations":
            self.polls += 1
            return 200, {"destinations": [self._destination(*pair) for pair in enumerate(self.names)]}
        if last == "rooms" and before != "v1":
            rows = [{"room_id": room, "stream_ordering": at} for room, at in self.sent[before].items()]
            return 200, {"rooms": rows, "total": len(rows)}
        if last == "server_version":
            return 200, {"server_version": f"1.163.0 {HOSTILE}"}
        if last == "auth_metadata":
            return 404, matrix_error("M_UNRECOGNIZED", "no")
        if (before, last) == ("v3", "login"):
            return 200, {"flows": []}
        if last == "available":
            return 403, matrix_error("M_FORBIDDEN", "closed")
        return super()._act(before, last, user_id)


def serve(pipe: Any) -> None:
    homeserver = Homeserver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = f"http://stub{self.path}"
            asked: Any = SimpleNamespace(method=self.command, url=url, headers=self.headers, body=body)
            status, _headers, answer = homeserver._answer(asked)
            self.send_response_only(status)
            self.send_header("Date", email.utils.formatdate(usegmt=True))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer.encode())))
            self.end_headers()
            self.wfile.write(answer.encode())

        do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - as the library has it

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        pipe.send(server.server_address[1])
        server.serve_forever()


class Retired:
    """What two runs of the playbook left: in the first, the server would not close one account."""

    def __init__(self, directory: Path) -> None:
        context = multiprocessing.get_context("fork")
        ours, its = context.Pipe()
        process = context.Process(target=serve, args=(its,), daemon=True)
        process.start()
        try:
            variables = {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "decommission_base_url": f"http://127.0.0.1:{ours.recv()}",
                "decommission_access_token": TOKEN,
                "decommission_confirm": SERVER,
                "decommission_propagation_period": "12s",
                "decommission_poll_interval": 1,
                "decommission_settling_time": 1,
                "decommission_last_leaves_timeout": 15,
                "decommission_power_off_tasks": str(directory / "off.yml"),
                "decommission_afterlife": True,
                "decommission_afterlife_signing_key_path": str(directory / "signing.key"),
                "decommission_afterlife_vault_password_file": "password",
                "ansible_become": False,
            }
            (directory / "signing.key").write_text(f"ed25519 a_1 {SEED}\n")
            (directory / "password").write_text("correct horse")
            archive = directory / f"decommission-reports/{SERVER}-afterlife/signing.key.vault"
            off = {"ansible.builtin.assert": {"that": f"'{archive}' is file"}, "name": "The keys are archived by now"}
            (directory / "off.yml").write_text(json.dumps([off]))
            inventory = directory / "inventory.json"
            inventory.write_text(json.dumps({"matrix_retiring": {"hosts": {"stub": variables}}}))
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
        self.page = self.directory / f"{SERVER}.html"
        self.certificate = read(self.directory, SERVER)


@pytest.fixture(scope="module")
def retired(tmp_path_factory: pytest.TempPathFactory) -> Retired:
    return Retired(tmp_path_factory.mktemp("retired"))


def test_failure_is_one(retired: Retired) -> None:
    """It is in the certificate, with its reason as it was said, without the name, and the host has failed."""
    first, second = retired.runs
    assert first.returncode == 2, first.stdout
    assert second.returncode == 0, second.stdout
    failed = retired.failed
    assert failed["state"] == "failed"
    assert results(failed) == {"preflight": "done", "prepare": "done", "drain": "failed"}
    drain = failed["stages"][2]
    (failure,) = drain["failures"]
    alias = f"#{digest(REFUSED, failed['salt'])[:10]}"
    assert failure["subject"] == alias
    assert failure["reason"].endswith(f"{alias} {HOSTILE}")
    assert HOSTILE in drain["attempts"][0]["reason"]
    text = (retired.directory / f"{SERVER}.json").read_text()
    assert REFUSED not in text and TOKEN not in text and OPERATOR in text


def test_run_that_goes_on(retired: Retired) -> None:
    certificate = retired.certificate
    assert certificate["created"] == retired.failed["created"]
    assert certificate["state"] == "powered_off"
    drain = certificate["stages"][2]
    assert [attempt["result"] for attempt in drain["attempts"]] == ["failed", "done"]
    assert drain["failures"] == []
    assert certificate["accounts"]["before"]["counts"]["user"]["active"] == ACCOUNTS
    assert certificate["accounts"]["closed"]["total"] == ACCOUNTS
    assert len(certificate["drains"]) == 2
    assert certificate["ledger"]["summary"]["total"] == DESTINATIONS
    not_told = {row["destination"] for row in certificate["ledger"]["destinations"]}
    assert HOSTILE in not_told and len(not_told) == 2
    assert [warning["kind"] for warning in certificate["warnings"]] == ["never_told"]
    assert len((retired.directory / f"{SERVER}.json").read_text()) < 100_000


def test_afterlife_kit_is_made_before_the_power_off(retired: Retired) -> None:
    """Not before the gate has opened; and what could hold it up is seen before anybody is closed."""
    first, second = retired.runs
    assert "The after-life kit can be made" in first.stdout and "Keep what is needed afterwards" not in first.stdout
    assert "The keys are archived by now" in second.stdout
    archive = retired.directory / f"{SERVER}-afterlife/signing.key.vault"
    vault = VaultLib([("default", VaultSecret(b"correct horse"))])
    assert vault.decrypt(archive.read_text()) == f"ed25519 a_1 {SEED}\n".encode()
    shown = [path.read_text() for path in retired.directory.rglob("*") if path.is_file()]
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


def test_page_runs_nothing_and_loads_nothing(retired: Retired, browser: Chrome) -> None:
    browser.get_log("performance")
    show(browser, retired.page, 1200, 900)
    assert browser.title == f"The retirement of {SERVER}"
    assert HOSTILE in browser.find_element(By.TAG_NAME, "main").text
    assert len(browser.find_elements(By.TAG_NAME, "script")) == 1 and not browser.find_elements(By.TAG_NAME, "img")
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in asked if event["method"] == "Network.requestWillBeSent"]
    # The browser's own pages are made of many.
    urls = [request["request"]["url"] for request in sent if request["documentURL"] == retired.page.as_uri()]
    assert [url for url in urls if not url.startswith("data:")] == [retired.page.as_uri()]
    assert not [request for request in sent if request["request"]["url"].startswith("http")]
    assert messages_of(browser) == []


@nightly
def test_charts_show_the_numbers(retired: Retired, browser: Chrome) -> None:
    show(browser, retired.page, 1200, 900)
    certificate = retired.certificate
    expected: list[tuple[float, float]] = []
    offset = (0.0, 0.0)
    for drain in certificate["drains"]:
        expected += [(offset[0] + at, offset[1] + parted) for at, _deactivated, parted in drain["timeline"]]
        offset = expected[-1]
    # That of the anchors comes later.
    assert offset[1] > ACCOUNTS * 0.8
    shown = points(browser, "accounts", "first")
    assert shown == [pytest.approx(point, abs=offset[1] / 1000 + 0.05) for point in expected]
    told = points(browser, "servers", "first")
    # Each stands until the next.
    assert [y for _x, y in told[::2]] == [pytest.approx(point[1], abs=0.1) for point in certificate["propagation"]]
    start = certificate["milestones"]["first_wave_ended"]
    starts = [max(point[0] - start, 0) for point in certificate["propagation"]]
    assert [x for x, _y in told[::2]] == [pytest.approx(at, abs=0.1) for at in starts]
    assert told[-1][1] == pytest.approx(DESTINATIONS - 2, abs=0.1)
    rows = browser.find_elements(By.CSS_SELECTOR, "#numbers-servers tbody tr")
    assert len(rows) == len(certificate["propagation"])
    assert "2 were never told" in browser.find_element(By.ID, "chart-servers-desc").get_attribute("textContent")


@nightly
def test_tables_and_the_check_of_an_account(retired: Retired, browser: Chrome, tmp_path: Path) -> None:
    """Of more rows than this run has: the page is made anew."""
    from ansible_collections.matrixops.synapse.plugins.plugin_utils._page import certificate_page

    row = retired.certificate["ledger"]["destinations"][0]
    names = [f"matrix{number}.example.net" for number in range(1, 31)] + [HOSTILE]
    many = [{**row, "destination": name, "rooms_total": number * 7 % 31} for number, name in enumerate(names)]
    ledger = {**retired.certificate["ledger"], "destinations": many, "destinations_total": 31}
    page = tmp_path / "page.html"
    page.write_text(certificate_page({**retired.certificate, "ledger": ledger}))
    show(browser, page, 1200, 900)

    def rows() -> list[str]:
        return [r.text for r in browser.find_elements(By.CSS_SELECTOR, "#destinations tbody tr") if r.is_displayed()]

    search = browser.find_element(By.ID, "destinations-search")
    assert len(rows()) == 31
    search.send_keys("MATRIX7")
    assert len(rows()) == 1 and "matrix7.example.net" in rows()[0]
    assert browser.find_element(By.ID, "destinations-found").text == "1 of 31"
    search.send_keys(Keys.CONTROL, "a", Keys.BACKSPACE)
    assert len(rows()) == 31
    head = browser.find_elements(By.CSS_SELECTOR, "#destinations th")[4]
    # With the keyboard alone.
    for order, expected in (("ascending", list(range(31))), ("descending", list(range(30, -1, -1)))):
        head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        assert head.get_attribute("aria-sort") == order
        cells = browser.find_elements(By.CSS_SELECTOR, "#destinations td:nth-child(5)")
        assert [int(cell.text) for cell in cells] == expected

    for user_id, says in ((f"@user1:{SERVER}", " was here, and is closed."), (f"@user999:{SERVER}", " is not among")):
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
  const ink = light(parse(element.closest("svg") ? style.fill : style.color));
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
def test_it_can_be_read(
    retired: Retired, browser: Chrome, tmp_path: Path, name: str, width: int, height: int, scheme: str
) -> None:
    """Nothing is wider than the window, all text stands out by WCAG's measure, whatever can be used has a name."""
    show(browser, retired.page, width, height, scheme)
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
def test_print(retired: Retired, browser: Chrome) -> None:
    show(browser, retired.page, 800, 1000, media="print")
    assert not browser.find_element(By.CSS_SELECTOR, "form.check").is_displayed()
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
