# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The status in its three forms. Names and reasons are those of remote servers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.status import (
    ServerStatus,
    Status,
    next_step,
    to_html,
    to_json,
    to_metrics,
)

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e\"'&\n\\"
FAR = ServerStatus("far.example:8448", 7, 3, 4, 12, "ghosts", "409 <b>", 1_700_000_000, None)
STATUS = Status(
    server_name="gone.example",
    key_id="ed25519:a_new",
    started=1_700_000_000,
    now=1_700_003_600,
    problem="",
    servers=(FAR,),
    servers_total=1,
    rooms_total=7,
    pairs={"confirmed": 3, "ghosts": 4},
    ghosts=4,
    removed=12,
    transactions=1234,
    rejected=5,
    dropped=0,
    requests=67,
    last_ghost=1_700_003_000,
    last_heard=None,
    can_be_replaced=False,
)


class Page(HTMLParser):
    """The elements, attributes and words of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _value in attrs)

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"


def metrics(status: Status) -> dict[str, float]:
    """The values of the metrics. Each line has the form that Prometheus reads."""
    found, declared = {}, set()
    for line in to_metrics(status).splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _hash, _type, name, kind = line.split()
            assert kind == ("counter" if name.endswith("_total") else "gauge")
            declared.add(name)
            continue
        sample = re.fullmatch(
            r'(matrix_ghost_cleanup_[a-z_]+)((?:\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*\})?) ([0-9]+)', line
        )
        assert sample is not None, line
        assert sample[1] in declared
        found[sample[1].removeprefix("matrix_ghost_cleanup_") + sample[2]] = float(sample[3])
    return found


def test_json() -> None:
    found = json.loads(json.dumps(to_json(STATUS)))
    assert (found["ghosts"], found["pairs"], found["last_heard"]) == (4, {"confirmed": 3, "ghosts": 4}, None)
    assert found["servers"][0]["server"] == "far.example:8448"


def test_page() -> None:
    page = Page(to_html(STATUS))
    for text in ("Ghosts of gone.example", "far.example:8448", "409 <b>", "10 min ago", "never", "1,234 verified"):
        assert text in page.words
    assert "more servers" not in page.words
    assert "20 more servers" in Page(to_html(replace(STATUS, servers_total=21))).words


def test_metrics() -> None:
    found = metrics(STATUS)
    assert found['info{server_name="gone.example",key_id="ed25519:a_new"}'] == 1
    assert (found["ghosts"], found["ghosts_removed_total"], found["transactions_total"]) == (4, 12, 1234)
    assert (found["ready"], found["can_be_replaced"], found["last_heard_timestamp_seconds"]) == (1, 0, 0)
    assert (found['pairs{state="ghosts"}'], found['pairs{state="refused"}']) == (4, 0)
    assert found['server_ghosts{server="far.example:8448"}'] == 4
    assert found['server_confirmed_rooms{server="far.example:8448"}'] == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"problem": "the key answer is another one"}, "Nothing is sent yet: the key answer is another one"),
        ({"can_be_replaced": True}, "can be replaced by a static answer"),
        ({}, "removes the ghosts that are left"),
        ({"ghosts": 0, "pairs": {"unreachable": 1}}, "asks servers that have not confirmed"),
        ({"ghosts": 0, "pairs": {"confirmed": 1}}, "keep the service running"),
    ],
)
def test_next_step(changes: dict[str, object], words: str) -> None:
    status = replace(STATUS, **changes)  # type: ignore[arg-type]
    assert words in next_step(status)
    assert words in Page(to_html(status)).words
    assert metrics(status)["ready"] == (0 if status.problem else 1)


def test_hostile_texts() -> None:
    server = replace(FAR, server=HOSTILE, state=HOSTILE, reason=HOSTILE)
    status = replace(STATUS, servers=(server, FAR), problem=HOSTILE, key_id=HOSTILE, pairs={HOSTILE: 1, "ghosts": 2})
    text = to_html(status)
    page = Page(text)
    assert "script" not in page.elements and not [name for name in page.attributes if name.startswith("on")]
    assert "\x1b" not in text and "\u202e" not in text
    found = metrics(status)
    assert [name for name in found if "server=" in name] == [
        f'server_{name}{{server="far.example:8448"}}' for name in ("ghosts", "rooms", "confirmed_rooms")
    ]
    assert not [name for name in found if "script" in name and not name.startswith("info{")]


def test_metrics_have_labels_of_a_hundred_servers() -> None:
    servers = tuple(replace(FAR, server=f"{number}.example") for number in range(1000))
    found = metrics(replace(STATUS, servers=servers, servers_total=1000))
    assert len([name for name in found if name.startswith("server_ghosts")]) == 100
    assert 'server_ghosts{server="0.example"}' in found
