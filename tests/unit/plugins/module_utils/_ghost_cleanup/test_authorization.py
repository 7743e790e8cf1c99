# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authorization headers of remote servers: what is a claim, and what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.authorization import (
    AuthorizationError,
    parse_authorization,
)

OURS = "gone.example"
SIG = "A" * 86
GIVEN = {"origin": "far.example", "destination": OURS, "key": "ed25519:a_1", "sig": SIG}


def header(**changes: str | None) -> str:
    given = {**GIVEN, **changes}
    return "X-Matrix " + ",".join(f'{name}="{value}"' for name, value in given.items() if value is not None)


@pytest.mark.parametrize(
    "text",
    [
        header(),
        header(destination=None),
        f"x-matrix origin=far.example,destination={OURS},key=ed25519:a_1,sig={SIG}",
        f'X-Matrix  sig="{SIG}" , KEY = "ed25519:a_1",\tOrigin\t=\tfar.example',
        f'{header()},unknown="x y",other=1',
        f'X-Matrix origin="far\\.example",key="ed25519:\\a_1",sig="{SIG}=="',
        header() + " ",
    ],
)
def test_one_claim_in_many_forms(text: str) -> None:
    assert parse_authorization([text], OURS) == ("far.example", {"ed25519:a_1": SIG})


@pytest.mark.parametrize("origin", ["[2001:db8::1]:8448", "far.example:8448", "192.0.2.1"])
def test_origins(origin: str) -> None:
    assert parse_authorization([header(origin=origin)], OURS).origin == origin


def test_many_signatures() -> None:
    headers = [header(key=f"ed25519:k{number}") for number in range(5)]
    assert list(parse_authorization(headers, OURS).signatures) == [f"ed25519:k{number}" for number in range(5)]
    with pytest.raises(AuthorizationError, match="more than 5"):
        parse_authorization([*headers, header()], OURS)
    with pytest.raises(AuthorizationError, match="several origins"):
        parse_authorization([header(), header(origin="other.example")], OURS)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([], "no Authorization header"),
        ([""], "does not begin with X-Matrix"),
        (["X-Matrix"], "does not begin"),
        (["Bearer secret"], "does not begin"),
        ([f"Basic {header()}"], "does not begin"),
        ([header() + "\x00"], "does not begin"),
        ([header() + "\r\nX: 1"], "does not begin"),
        ([header(origin="f\xe4r.example")], "does not begin"),
        ([header() + ",x=" + "y" * 2048], "does not begin"),
        (["X-Matrix " + "a=b," * 400], "malformed"),
        (["X-Matrix " + "origin=" * 200], "malformed"),
        ([header() + ',origin="other.example"'], "malformed"),
        ([header() + ',ORIGIN="other.example"'], "malformed"),
        ([header()[:-1]], "malformed"),
        ([header() + ';x="1"'], "malformed"),
        (["X-Matrix ," + header()[9:]], "malformed"),
        ([header(origin=None)], "no origin"),
        ([header(key=None)], "no key"),
        ([header(sig=None)], "no sig"),
        ([header(destination="other.example")], "not the destination"),
        ([header(destination="")], "not the destination"),
        ([header(destination=OURS.upper())], "not the destination"),
        ([header(key="rsa:a_1")], "invalid key or sig"),
        ([header(key="ed25519:" + "a" * 65)], "invalid key or sig"),
        ([header(key="ed25519:a b")], "invalid key or sig"),
        ([header(sig="A" * 85)], "invalid key or sig"),
        ([header(sig="A" * 85 + "-")], "invalid key or sig"),
        ([header(sig="")], "invalid key or sig"),
        ([header(origin="a b")], "not a server name"),
        ([header(origin="../../etc/passwd")], "not a server name"),
        ([header(origin="a" * 231)], "not a server name"),
        ([header(origin=OURS)], "to itself"),
    ],
)
def test_what_is_refused(headers: list[str], message: str) -> None:
    with pytest.raises(AuthorizationError, match=message) as error:
        parse_authorization(headers, OURS)
    assert str(error.value).isprintable()
