# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Complete listings of the admin API.

Synapse numbers the items of a listing, and each page begins at a number. If the order changes between two pages, or an
item is removed, then others move to a page that was already read, and are missed.
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from .answer import Answer, JsonDict
from .client import Client
from .errors import FatalError

PAGE_SIZE = 10_000
"""Items of a page. Synapse sorts all items for each page, so that few large pages cost it less than many small ones."""
MAX_LISTINGS = 4
"""Maximum number of times that the items are listed, until none is missing."""


def list_pages(
    client: Client, path: str, *, params: Mapping[str, Any] | None = None, next_key: str = "next_token"
) -> Iterator[Answer]:
    """Yield the pages of a listing.

    :raises SynapseError: also if a page token comes twice, which would never end.
    """
    query: JsonDict = {"limit": PAGE_SIZE, **(params or {})}
    seen = set()
    while True:
        page = client.get(path, params=query)
        yield page
        token = page.get(next_key)
        if token is None:
            return
        if not isinstance(token, (str, int)) or token in seen:
            raise page.error(f"has {token!r} for a page token, which is not one or was one before")
        seen.add(token)
        query["from"] = token


def list_all(
    client: Client,
    path: str,
    key: str,
    *,
    name_key: str,
    total_key: str = "total",
    params: Mapping[str, Any] | None = None,
    next_key: str = "next_token",
) -> Iterator[Answer]:
    """Yield the items of a listing, each once. If some are missing by its total, they are listed again.

    :param params: of the query. The order must not depend on anything that changes.
    :param key: the key of the items in a page.
    :param name_key: the key of the name of an item.
    :param total_key: the key of the number of all items in a page.
    :raises FatalError: if some are still missing after C(MAX_LISTINGS) listings.
    """
    yielded: set[str] = set()
    for _listing in range(MAX_LISTINGS):
        names: set[str] = set()
        totals: list[int] = []
        for page in list_pages(client, path, params=params, next_key=next_key):
            totals.append(page.take(total_key, int))
            for item in page.objects(key):
                name = item.take(name_key, str)
                names.add(name)
                if name not in yielded:
                    yielded.add(name)
                    yield item
        # With an item that is removed, the total decreases, and the first item of the next page may be missing.
        if len(names) >= totals[-1] >= max(totals):
            return
    raise FatalError.of(
        page.error(
            f"lists {len(names):,} {key}, but there are {max(totals):,}, in each of {MAX_LISTINGS} listings",
            problem="short list",
        )
    )
