# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Report what Synapse's own package computes for events. Run by the Python that has Synapse; no server is started.

The first line of output lists the room versions. Then each line of input is an object with C(room_version),
C(event), and for events that are signed C(server_name), C(key_id) and C(public_base64); each is answered by a line.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from signedjson.key import decode_verify_key_bytes
from signedjson.sign import verify_signed_json
from synapse.api.room_versions import RoomVersion, RoomVersions
from synapse.crypto.event_signing import check_event_content_hash
from synapse.events import make_event_from_dict
from synapse.events.utils import prune_event
from synapse.events.validator import EventValidator
from synapse.federation.federation_base import event_from_pdu_json
from unpaddedbase64 import decode_base64

VERSIONS: dict[str, RoomVersion] = {
    version.identifier: version for version in vars(RoomVersions).values() if isinstance(version, RoomVersion)
}


def compute(request: dict[str, Any]) -> dict[str, Any]:
    """Parse an event as if a remote server had sent it, and return what Synapse makes of it."""
    # Synapse refuses a greater depth from remote servers, although room versions 1 to 5 allow it.
    parse = event_from_pdu_json if request["event"]["depth"] < 2**53 else make_event_from_dict
    event = parse(request["event"], VERSIONS[request["room_version"]])
    redacted = prune_event(event).get_pdu_json()
    redacted.pop("unsigned", None)
    answer = {"event_id": event.event_id, "redacted": redacted}
    if "key_id" in request:
        EventValidator().validate_new(event, None)
        key = decode_verify_key_bytes(request["key_id"], decode_base64(request["public_base64"]))
        verify_signed_json(redacted, request["server_name"], key)
        answer["content_hash_matches"] = check_event_content_hash(event)
    return answer


def main() -> None:
    print(json.dumps(sorted(VERSIONS)))
    for line in sys.stdin:
        try:
            answer = compute(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
