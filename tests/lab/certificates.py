# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A certificate authority of the lab's own, which only its servers trust."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import trustme


def issue(ca_file: Path, directories: Iterable[Path]) -> None:
    """Write a new authority's certificate, and ``tls.crt`` and ``tls.key`` for loopback to each directory."""
    issue_for(ca_file, dict.fromkeys(directories, ("localhost", "127.0.0.1")))


def issue_for(ca_file: Path, identities: Mapping[Path, Sequence[str]]) -> None:
    """Write a new authority's certificate, and ``tls.crt`` and ``tls.key`` for these names to each directory."""
    authority = trustme.CA(organization_name="matrixops.synapse lab")
    authority.cert_pem.write_to_path(ca_file)
    for directory, names in identities.items():
        certificate = authority.issue_cert(*names)
        certificate.private_key_pem.write_to_path(directory / "tls.key")
        (directory / "tls.crt").unlink(missing_ok=True)
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(directory / "tls.crt", append=True)
