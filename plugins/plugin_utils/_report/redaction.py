# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Redaction of secrets and of user IDs in a certificate."""

from __future__ import annotations

import re
from typing import Any, Sequence
from urllib.parse import quote, unquote

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.digest import WIDEST, digest


class Redaction:
    """Replaces secrets in all texts and, unless I(ids), the IDs of local accounts.

    :param spared: a user ID that is not replaced: the operator's.
    """

    def __init__(self, server_name: str, salt: str, *, secrets: Sequence[str], ids: bool, spared: str | None) -> None:
        self._salt = salt
        self._secrets = [secret for secret in secrets if secret]
        self._ids = ids
        self._spared = spared
        self._pseudonyms: dict[str, str] = {}
        self._server_name = server_name
        # A longer server name is another server's.
        server = f"{re.escape(server_name)}(?!:\\d|[\\w.-]*\\w)"
        encoded = r"(?P<name>(?:[^\s/?%:@]|%(?!3[aA])[0-9a-fA-F]{2}){1,765})"
        # Old localparts may contain anything but a colon. If one with blanks is not all of a text, only what follows
        # its last @ can be distinguished from the words around it.
        self._whole = re.compile(f"@(?P<name>[^:]{{1,255}}):{server}")
        # As they are, and as they are in the path of a request. Bounded in length, since a text may be hostile.
        self._patterns = [
            re.compile(f"@(?P<name>[^\\s:]{{1,255}}):{server}"),
            re.compile(f"%40{encoded}%3[aA]{re.escape(quote(server_name, safe=''))}"),
            re.compile(f"@(?P<name>[^:@\n]{{1,255}}):{server}"),
        ]

    def __call__(self, value: Any) -> Any:
        """Return the same value with all texts redacted, but for the salt and the digests."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {self._text(k): item if k in ("salt", "digests") else self(item) for k, item in value.items()}
        return [self(item) for item in value] if isinstance(value, list) else value

    def _text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "********")
        if self._ids or ("@" not in text and "%40" not in text):
            return text
        whole = self._whole.fullmatch(text)
        if whole is not None:
            return self._pseudonym(whole)
        for pattern in self._patterns:
            text = pattern.sub(self._pseudonym, text)
        return text

    def _pseudonym(self, found: re.Match[str]) -> str:
        """Return the beginning of the digest of a user ID, which is in the certificate's list of digests as well."""
        user_id = f"@{unquote(found['name'])}:{self._server_name}"
        if user_id == self._spared:
            return user_id
        if user_id not in self._pseudonyms:
            # Computed once, since a digest is expensive by design.
            self._pseudonyms[user_id] = f"#{digest(user_id, self._salt)[:WIDEST]}"
        return self._pseudonyms[user_id]
