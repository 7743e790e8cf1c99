# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes of power levels, in check mode first, which must predict the result and write nothing."""

from __future__ import annotations

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.demotion import Demotion, demote
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.handover import (
    Handover,
    Recipient,
    hand_over,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver


def hand(homeserver: Homeserver, client: Client, *named: Recipient) -> Handover:
    """Hand over; in check mode first, which must say the same and write nothing."""
    predicted = hand_over(client, named, dry_run=True)
    assert homeserver.writes == []
    done = hand_over(client, named, dry_run=False)
    assert homeserver.borrowed == []
    assert done.aborted is None
    assert done == predicted
    return done


def lower(homeserver: Homeserver, client: Client) -> Demotion:
    """Demote; in check mode first, which must say the same and write nothing."""
    before = len(homeserver.writes)
    predicted = demote(client, dry_run=True)
    assert len(homeserver.writes) == before
    done = demote(client, dry_run=False)
    assert homeserver.borrowed == []
    assert done.aborted is None
    assert done == predicted
    return done
