#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: matrix_site_info
short_description: Gather the answers of the static site of a decommissioned server
version_added: 1.0.0
description:
  - Sends the requests that remote servers send to the static site of a decommissioned server, and compares the answers
    with the expected ones.
  - The site is found by its server name, as remote servers find it. The requests are not signed.
  - One of the requests is a transaction without an origin. It appears in the log of transactions of the site as a line
    without a valid origin.
  - An unexpected answer is not a failure. See RV(ok).
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.federation.remote
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.info_module
requirements:
  - python >= 3.8
  - requests
  - signedjson
  - dnspython
options:
  server_name:
    description:
      - Name of the decommissioned server.
    type: str
    required: true
  key_id:
    description:
      - ID of a key that the site must publish in C(verify_keys). By default, any valid key answer is accepted.
    type: str
  aliases:
    description:
      - Aliases that the site must resolve. Each is requested in all forms in which implementations encode it.
    type: list
    elements: dict
    default: []
    suboptions:
      alias:
        description: Alias of O(server_name).
        type: str
        required: true
      room_id:
        description: Room ID that the site must return.
        type: str
        required: true
  media:
    description:
      - Media files that the site must serve, both as a plain file and as C(multipart/mixed).
    type: list
    elements: dict
    default: []
    suboptions:
      media_id:
        description: Media ID.
        type: str
        required: true
      length:
        description: Length of the file in bytes.
        type: int
        required: true
  sample:
    description:
      - Maximum number of aliases, and of media files, to request. If there are more, a sample that is evenly
        distributed over the list is requested.
    type: int
    default: 20
  wait:
    description:
      - Maximum time in seconds to repeat the requests until all answers are the expected ones, for example after a
        reload of the web server.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Check the static site of old.example
  matrixops.synapse.matrix_site_info:
    server_name: old.example
    aliases:
      - alias: "#lounge:old.example"
        room_id: "!abcdefghijklmnopqr:old.example"
  delegate_to: localhost
  register: site
  failed_when: site is failed or not site.ok
"""

RETURN = r"""
ok:
  description: Whether all answers are the expected ones.
  returned: success
  type: bool
answers:
  description: The requests and their answers, in the order of the checks.
  returned: success
  type: list
  elements: dict
  contains:
    method:
      description: Method of the request.
      type: str
    path:
      description: Path and query of the request.
      type: str
    expected:
      description: What is expected.
      type: str
    status:
      description: HTTP status of the answer. V(0) if there is no usable answer.
      type: int
    ok:
      description: Whether the answer is the expected one.
      type: bool
    reason:
      description:
        - Why RV(answers[].ok) is false, in at most 300 characters. May quote the answer. Empty if it is as expected.
      type: str
  sample:
    - method: GET
      path: /_matrix/federation/v1/version
      expected: version of the static site
      status: 200
      ok: false
      reason: "the answer is from Synapse: stop that homeserver, or correct the DNS records"
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import FederationError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.site_checks import (
    CheckResult,
    Expected,
    check_site,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation_module import REMOTE_OPTIONS, settings
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable

OPTIONS: dict[str, dict[str, Any]] = {
    "server_name": {"type": "str", "required": True},
    "key_id": {"type": "str", "no_log": False},
    "aliases": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "alias": {"type": "str", "required": True},
            "room_id": {"type": "str", "required": True},
        },
    },
    "media": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "media_id": {"type": "str", "required": True},
            "length": {"type": "int", "required": True},
        },
    },
    "sample": {"type": "int", "default": 20},
    **REMOTE_OPTIONS,
    "wait": {"type": "int", "default": 0},
}
INTERVAL = 1.0
"""Time in seconds until requests are repeated."""


def answer(result: CheckResult) -> dict[str, Any]:
    """Return a result as the module returns it."""
    return {
        "method": result.check.method,
        "path": printable(result.check.target),
        "expected": printable(result.check.expected),
        "status": result.status,
        "ok": not result.reason,
        "reason": result.reason,
    }


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    params = module.params
    for option in ("sample", "timeout"):
        if params[option] < 1:
            module.fail_json(msg=f"{option} is {params[option]}: set it to 1 or more")
    expected = Expected(
        params["server_name"],
        key_id=params["key_id"],
        aliases={entry["alias"]: entry["room_id"] for entry in params["aliases"]},
        media={entry["media_id"]: entry["length"] for entry in params["media"]},
        sample=params["sample"],
    )
    reached_by = settings(params)
    try:
        results = check_site(expected, reached_by)
        deadline = time.monotonic() + params["wait"]
        while any(result.reason for result in results) and time.monotonic() < deadline:
            time.sleep(INTERVAL)
            results = check_site(expected, reached_by)
    except (FederationError, ValueError) as error:
        module.fail_json(msg=printable(str(error)))
    module.exit_json(
        changed=False,
        ok=not any(result.reason for result in results),
        answers=[answer(result) for result in results],
    )


if __name__ == "__main__":
    main()
