#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site_deployment
short_description: Put the static site of a decommissioned server onto a web server
version_added: 1.0.0
description:
  - Transfers the directory that the role P(matrixops.synapse.decommission#role) has written on the controller to the
    host, as one archive, and configures nginx. The role P(matrixops.synapse.site#role) calls it; it has no use
    elsewhere.
  - The site is unpacked beside the previous one, and replaces it atomically. nginx is reloaded only if it accepts the
    new configuration. Otherwise, the previous site and configuration are restored.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.attributes
options:
  directory:
    description:
      - Directory of the site on the controller. A relative path is relative to the directory that Ansible was started
        in.
      - The module fails without changes if files were changed since the site was written.
    type: path
    required: true
  server_name:
    description:
      - Expected name of the decommissioned server. The module fails without changes if the site has another name.
    type: str
  path:
    description:
      - Directory on the host that has a directory for each site. It is created if it does not exist.
    type: path
    default: /var/lib/matrix-site
  web_server:
    description:
      - With V(nginx), nginx is configured in C(/etc/nginx/conf.d), and reloaded.
      - With V(none), configurations for Caddy and nginx are written to the directory of the site, for a web server that
        includes one of them. The one for nginx requires O(tls_certificate) and O(tls_certificate_key).
    type: str
    choices: [nginx, none]
    default: nginx
  tls_certificate:
    description:
      - Path on the host of the TLS certificate with its chain. Required with O(web_server=nginx).
    type: path
  tls_certificate_key:
    description:
      - Path on the host of the private key of O(tls_certificate).
    type: path
  acme_webroot:
    description:
      - Path on the host of a directory from which C(/.well-known/acme-challenge/) is served at port 80. Other requests
        at port 80 are redirected to HTTPS. By default, port 80 is not configured.
    type: path
  listen_addresses:
    description:
      - IP addresses to listen at. By default, all.
    type: list
    elements: str
    default: []
  map_hash:
    description:
      - Whether the configuration of nginx sets C(map_hash_max_size) and C(map_hash_bucket_size), which nginx accepts
        only once.
    type: bool
    default: true
  log_path:
    description:
      - Path on the host of the log of transactions. The default is in C(/var/log/nginx) or C(/var/log/caddy), and has
        the name of the server.
    type: path
  sample:
    description:
      - Maximum number of aliases, and of media files, to return.
    type: int
    default: 20
  release:
    description:
      - Digest of the site. The action plugin of this module sets it. It cannot be set in a task.
    type: str
  size:
    description:
      - Number of bytes of the site. The action plugin of this module sets it. It cannot be set in a task.
    type: int
  number_of_files:
    description:
      - Number of files of the site. The action plugin of this module sets it. It cannot be set in a task.
    type: int
  archive:
    description:
      - Path of the archive on the host. The action plugin of this module sets it. It cannot be set in a task.
    type: path
  files:
    description:
      - Configuration files by path. The action plugin of this module sets it. It cannot be set in a task.
    type: dict
    default: {}
  test:
    description:
      - Command that tests the configuration. The action plugin of this module sets it. It cannot be set in a task.
    type: list
    elements: str
    default: []
  reload:
    description:
      - Command that loads the configuration. The action plugin of this module sets it. It cannot be set in a task.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    details:
      - In check mode, the new configuration is not tested.
  diff_mode:
    support: none
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Put the site of old.example onto a web server
  matrixops.synapse.site_deployment:
    directory: ./decommission-reports/old.example-site
    tls_certificate: /etc/letsencrypt/live/old.example/fullchain.pem
    tls_certificate_key: /etc/letsencrypt/live/old.example/privkey.pem
  become: true
"""

RETURN = r"""
server_name:
  description: Name of the decommissioned server.
  returned: success
  type: str
path:
  description: Directory of the site on the host. Its entry C(current) is a link to what is served.
  returned: success
  type: str
sha256:
  description: Digest of the published files, as in C(site.json).
  returned: success
  type: str
changes:
  description: Paths on the host that were changed or, in check mode, would be.
  returned: success
  type: list
  elements: str
key_id:
  description: ID of the key that the site publishes as valid.
  returned: success
  type: str
log_path:
  description: Path of the log of transactions on the host, if it is known.
  returned: success
  type: str
created:
  description: Time when the site was written, in seconds since 1970.
  returned: success
  type: int
rooms:
  description: Number of rooms with aliases.
  returned: success
  type: int
aliases:
  description: Number of aliases.
  returned: success
  type: int
media_files:
  description: Number of media files.
  returned: success
  type: int
media_bytes:
  description: Size of the media files in bytes.
  returned: success
  type: int
sample_aliases:
  description: Sample of aliases, for M(matrixops.synapse.matrix_site_info).
  returned: success
  type: list
  elements: dict
  contains:
    alias:
      description: Alias.
      type: str
    room_id:
      description: Room ID.
      type: str
sample_media:
  description: Sample of media files, for M(matrixops.synapse.matrix_site_info).
  returned: success
  type: list
  elements: dict
  contains:
    media_id:
      description: Media ID.
      type: str
    length:
      description: Length in bytes.
      type: int
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.matrixops.synapse.plugins.module_utils._site_release import (
    TASK_OPTIONS,
    Deployment,
    DeploymentError,
    assert_certificate,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable

OPTIONS: dict[str, dict[str, Any]] = {
    **TASK_OPTIONS,
    "release": {"type": "str"},
    "size": {"type": "int"},
    "number_of_files": {"type": "int"},
    "archive": {"type": "path"},
    "files": {"type": "dict", "default": {}},
    "test": {"type": "list", "elements": "str", "default": []},
    "reload": {"type": "list", "elements": "str", "default": []},
}


def deploy(module: AnsibleModule) -> dict[str, Any]:
    """Put the site in place.

    :returns: the result. If I(needs_archive), nothing was changed, and the module must be run again with an archive.
    :raises DeploymentError: if that fails.
    """
    params = module.params
    if params["tls_certificate"] is not None and not (
        module.check_mode and not os.path.exists(params["tls_certificate"])
    ):
        assert_certificate(params["tls_certificate"], params["tls_certificate_key"])
    deployment = Deployment(params["path"], params["release"] or "", params["files"])
    if deployment.is_applied:
        return {"changed": False, "changes": []}
    result = {"changed": True, "changes": deployment.changes()}
    if not deployment.has_release and params["archive"] is None:
        deployment.assert_space(params["size"], params["number_of_files"])
        return {**result, "needs_archive": True}
    if not module.check_mode:
        if params["archive"] is not None:
            deployment.unpack(params["archive"])
        deployment.apply(params["test"], params["reload"])
    return result


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    try:
        result = deploy(module)
    except (DeploymentError, OSError) as error:
        module.fail_json(msg=f"No changes made: {printable(str(error))}", changed=False)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
