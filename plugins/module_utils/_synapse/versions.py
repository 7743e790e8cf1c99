# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions of Synapse with known issues that affect a decommissioning.

From Synapse's changelog up to 1.157.1, which the references point to. None of the issues was reproduced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Tuple

Version = Tuple[int, int, int, bool]
"""Major, minor, patch, and whether it is a final release."""

OLDEST = "1.93.0"
"""The oldest supported version: the first that lists locked accounts, and resumes a room shutdown after a restart."""


@dataclass(frozen=True)
class KnownIssue:
    """An issue of some versions of Synapse.

    :param since: the first affected version; C(None) if it is not known.
    :param fixed: the final releases with the fix, the newest last; several if the fix was backported.
    :param summary: what happens, and what to do.
    :param reference: the entry of the changelog.
    """

    since: str | None
    fixed: tuple[str, ...]
    summary: str
    reference: str

    def affects(self, version: Version) -> bool:
        """Whether a version has the issue. A release candidate may lack the fix that its final release has."""
        if self.since is not None and version[:3] < _final(self.since)[:3]:
            return False
        return version < _final(self.fixed[-1]) and not any(
            version[:2] == fix[:2] and version >= fix for fix in map(_final, self.fixed)
        )


KNOWN_ISSUES = (
    KnownIssue(
        None,
        (OLDEST,),
        "this version is not supported: locked accounts are not listed, and a restart of Synapse cancels the shutdown"
        " of a room",
        "#16328, #15488",
    ),
    KnownIssue(
        None,
        ("1.104.0",),
        "remote servers that were never reached before may never receive the leaves, even when they are back",
        "#16925",
    ),
    KnownIssue(
        None,
        ("1.104.0",),
        "knocks on remote rooms are not withdrawn when an account is deactivated",
        "#17010",
    ),
    KnownIssue(
        "1.52.0",
        ("1.107.0",),
        "the list of rooms with pending events of a destination contains those of all destinations, so the reported"
        " state of propagation is wrong",
        "#17077",
    ),
    KnownIssue(
        None,
        ("1.120.1",),
        "a crafted invite breaks the sync of the invited account, so its invites cannot be rejected",
        "CVE-2024-52815",
    ),
    KnownIssue(
        "1.122.0",
        ("1.123.0",),
        "after a recent upgrade to this version, a long database update may block all outgoing events. Wait until the"
        " update has finished",
        "#18091",
    ),
    KnownIssue(
        None,
        ("1.124.0",),
        "with auto_accept_invites enabled, deactivated accounts still accept invites and join rooms. Disable"
        " auto_accept_invites",
        "#18073",
    ),
    KnownIssue(
        None,
        ("1.124.0",),
        "in rare cases the state of a room is lost, and no account can leave the room any more",
        "#18107, #18130, #18131",
    ),
    KnownIssue(
        None,
        ("1.127.1",),
        "a single crafted event of a remote server can stop all federation, so no remote server receives the leaves",
        "CVE-2025-30355",
    ),
    KnownIssue(
        "1.128.0",
        ("1.129.0",),
        "with a Matrix Authentication Service, a token whose check has failed once stays refused. If this happens to"
        " the token of the operator, restart Synapse before the drain",
        "#18339",
    ),
    KnownIssue(
        None,
        ("1.137.0",),
        "in rare cases the history of a room is damaged, and no account can leave the room any more",
        "#18746",
    ),
    KnownIssue(
        None,
        ("1.138.4", "1.139.2"),
        "a local user can disturb outgoing federation at random, so that leaves do not reach remote servers",
        "CVE-2025-61672, #17097",
    ),
    KnownIssue(
        "1.140.0",
        ("1.147.0",),
        "memory use grows until Synapse may be restarted: leaves that were not sent yet are lost, and their ghosts have"
        " to be removed on the remote servers",
        "#19416",
    ),
    KnownIssue(
        None,
        ("1.154.0",),
        "a session with a refresh token may stay valid for a while after it was ended",
        "#19483",
    ),
    KnownIssue(
        None,
        ("1.155.0",),
        "with many pending to-device messages for a remote server, it receives no more events, including the leaves",
        "#19617",
    ),
)
"""In the order of the fixes, so that the last issue of a version names the release with all fixes."""


def known_issues(version: str) -> list[KnownIssue]:
    """The known issues of a version as Synapse reports it; none if the version cannot be parsed."""
    parsed = _parse(version)
    return [issue for issue in KNOWN_ISSUES if issue.affects(parsed)] if parsed else []


def rejoins_when_erased(version: str) -> bool:
    """Whether an account that is erased before it has left its rooms may rejoin some of them later.

    #19542; seen with 1.120.2.
    """
    parsed = _parse(version)
    return parsed is not None and parsed < (1, 150, 0, True)


def _parse(version: str) -> Version | None:
    match = re.match(r"(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(rc\d+)?(?!\d)", version)
    if match is None:
        return None
    return int(match[1]), int(match[2]), int(match[3] or 0), match[4] is None


def _final(version: str) -> Version:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch, True
