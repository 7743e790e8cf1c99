# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions of Synapse that are known to behave badly when they are retired.

By Synapse's changelog up to 1.157.1, whose entries the references are. None of it was reproduced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Tuple

Version = Tuple[int, int, int, bool]
"""Major, minor, patch, and whether it is a final release."""

OLDEST = "1.93.0"
"""The first version in whose lists locked accounts can be seen, and where a room's shutdown survives a restart."""


@dataclass(frozen=True)
class KnownIssue:
    """What happens, and what to do.

    :param since: the first version that has it, if that is known.
    :param mended: the final releases that mended it; several if older versions were mended, too, the newest last.
    :param reference: the changelog's entry.
    """

    since: str | None
    mended: tuple[str, ...]
    summary: str
    reference: str

    def concerns(self, version: Version) -> bool:
        """Whether a version has it. A release candidate may not yet have what the release mends."""
        if self.since is not None and version[:3] < _final(self.since)[:3]:
            return False
        return version < _final(self.mended[-1]) and not any(
            version[:2] == mend[:2] and version >= mend for mend in map(_final, self.mended)
        )


KNOWN_ISSUES = (
    KnownIssue(
        None,
        (OLDEST,),
        "this collection is not made for versions older than this: accounts that are locked can't be listed, and a"
        " restart of Synapse forgets the shutdown of a room",
        "#16328, #15488",
    ),
    KnownIssue(
        None,
        ("1.104.0",),
        "servers that were never reached before may never be told of the leaves, not even when they are back. Upgrade"
        " before the decommissioning",
        "#16925",
    ),
    KnownIssue(
        None,
        ("1.104.0",),
        "knocks on rooms of other servers are not taken back when an account is deactivated",
        "#17010",
    ),
    KnownIssue(
        "1.52.0",
        ("1.107.0",),
        "Synapse's list of the rooms that a destination has yet to be told of has those of all other destinations, too,"
        " so that what is said of who has been told is wrong both ways. Upgrade before the retirement",
        "#17077",
    ),
    KnownIssue(
        None,
        ("1.120.1",),
        "an invite that was made to do so breaks the sync of the account that is invited, so that an admin can't be"
        " made to turn down its invites",
        "CVE-2024-52815",
    ),
    KnownIssue(
        "1.122.0",
        ("1.123.0",),
        "if it was upgraded to this version a short time ago, a long update of the database may keep all events from"
        " being sent. Wait until it is over",
        "#18091",
    ),
    KnownIssue(
        None,
        ("1.124.0",),
        "where auto_accept_invites is enabled, accounts that are deactivated go on accepting invites, and are in rooms"
        " again. Disable it",
        "#18073",
    ),
    KnownIssue(
        None,
        ("1.124.0",),
        "in rare cases the state of a room is lost, and then nobody can leave it any more",
        "#18107, #18130, #18131",
    ),
    KnownIssue(
        None,
        ("1.127.1",),
        "a single event made by another server can stop all federation, so that no server is told. Upgrade before the"
        " retirement",
        "CVE-2025-30355",
    ),
    KnownIssue(
        "1.128.0",
        ("1.129.0",),
        "where a Matrix Authentication Service handles login, a token that it could not be asked about once stays"
        " refused: should the operator's be, restart Synapse before the drain",
        "#18339",
    ),
    KnownIssue(
        None,
        ("1.137.0",),
        "in rare cases the history of a room is damaged, and then nobody can leave it any more",
        "#18746",
    ),
    KnownIssue(
        None,
        ("1.138.4", "1.139.2"),
        "a local user can break the sending to other servers, at random, so that leaves do not reach them. Upgrade"
        " before the decommissioning",
        "CVE-2025-61672, #17097",
    ),
    KnownIssue(
        "1.140.0",
        ("1.147.0",),
        "it uses more and more memory, and may be restarted when it runs out of it: leaves that were not sent yet are"
        " lost, and their ghosts are removed on the remote servers",
        "#19416",
    ),
    KnownIssue(
        None,
        ("1.154.0",),
        "a session with a refresh token may live on for a while after it was ended",
        "#19483",
    ),
    KnownIssue(
        None,
        ("1.155.0",),
        "where many to-device messages wait for a server, it takes nothing any more, the leaves included. Upgrade"
        " before the decommissioning",
        "#19617",
    ),
)


def known_issues(version: str) -> list[KnownIssue]:
    """What is known of a version, as Synapse names it; of one that makes no sense, nothing is."""
    parsed = _parse(version)
    return [issue for issue in KNOWN_ISSUES if issue.concerns(parsed)] if parsed else []


def rejoins_when_erased(version: str) -> bool:
    """Whether an account that is erased before it has left its rooms may join some of them again, after it has.

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
