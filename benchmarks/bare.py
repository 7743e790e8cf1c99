# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules do, without Ansible: ``list FILE``.

C(BASE_URL) and C(TOKEN) in the environment select the server.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import list_users
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client

if __name__ == "__main__":
    _list, file = sys.argv[1:]
    with Client(os.environ["BASE_URL"], os.environ["TOKEN"]) as client:
        Path(file).write_text(str(sum(1 for _user in list_users(client))))
