# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: site
short_description: Write the static site that answers for a decommissioned server
version_added: 1.0.0
description:
  - Writes the directory C(<server>-site) on the controller, beside the certificate. Its C(www) has the files to
    publish. With the configuration for nginx or Caddy beside it, a web server answers for the keys of the server, for
    the aliases that M(matrixops.synapse.synapse_site) has collected, and for the media that
    M(matrixops.synapse.synapse_media) has downloaded.
  - The role P(matrixops.synapse.site#role) puts the site onto a host.
  - The module runs on the controller only. The site has no private key and no account.
author:
  - matrixops (@matrixops)
options:
  directory:
    description:
      - Directory of the certificates. A relative path is relative to the directory that Ansible was started in.
    type: path
    required: true
  server_name:
    description:
      - Name of the server.
    type: str
    required: true
  key_answer:
    description:
      - The signed key answer, as RV(matrixops.synapse.archive#module:key_answer) has it.
    type: dict
    required: true
  operator:
    description:
      - Who ran the server, for the page that people see.
    type: str
    default: ""
  contact:
    description:
      - A Matrix ID, an e-mail address or a URL, for the page, and for C(/.well-known/matrix/support).
    type: str
    default: ""
  text:
    description:
      - A paragraph for the page.
    type: str
    default: ""
  list_rooms:
    description:
      - Whether the page lists the aliases that the site answers for, with the names of the rooms.
    type: bool
    default: false
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what it would change, without changing it.
    support: full
  diff_mode:
    description: Says in diff mode what it changed, or in check mode would change.
    support: none
  idempotent:
    description: Run again with the same options, with nothing else changed in between, it changes nothing.
    support: full
  platform:
    description: Where it can be run.
    platforms: posix
    support: full
seealso:
  - module: matrixops.synapse.synapse_site
  - module: matrixops.synapse.archive
"""

EXAMPLES = r"""
- name: Archive the signing keys, with a key for the static site
  matrixops.synapse.archive:
    directory: ./decommission-reports
    server_name: example.org
    vault_password_file: ~/.vault-password
    key_valid_for: 315360000
  become: true
  register: archive

- name: Write the static site
  matrixops.synapse.site:
    directory: ./decommission-reports
    server_name: example.org
    key_answer: "{{ archive.key_answer }}"
    operator: Example Association
    contact: admin@example.org
"""

RETURN = r"""
path:
  description: Path of the site.
  returned: always
  type: str
files:
  description:
    - Number of files that were written or removed or, in check mode, would be. Media are not among them.
  returned: success
  type: int
summary:
  description: What the site has, as in C(site.json).
  returned: success, not in check mode
  type: dict
  contains:
    rooms:
      description: Number of rooms.
      type: int
    aliases:
      description: Number of aliases.
      type: int
    media_files:
      description: Number of media.
      type: int
    media_bytes:
      description: Size of all media in bytes.
      type: int
    sha256:
      description: Digest of all published files.
      type: str
"""
