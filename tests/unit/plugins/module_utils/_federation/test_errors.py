# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import inspect

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation import errors
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import (
    MAX_MESSAGE,
    FederationError,
    MissingRequirementError,
    RedirectError,
    UnreachableError,
    printable,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode, 日本語", "plain, ünïcode, 日本語"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("two\r\nlines", "two\\r\\nlines"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_what_a_terminal_would_obey_or_hide_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(FederationError(text)) == shown


@pytest.mark.parametrize("text", ["x" * (MAX_MESSAGE + 1), "\x1b" * MAX_MESSAGE, "x" * 10_000_000])
def test_a_message_is_bounded(text: str) -> None:
    message = str(FederationError(text))
    assert len(message) == MAX_MESSAGE
    assert message.endswith("…")


def test_a_message_of_the_maximum_length_is_left_alone() -> None:
    assert str(FederationError("x" * MAX_MESSAGE)) == "x" * MAX_MESSAGE


def test_a_missing_requirement_names_both_packages() -> None:
    assert str(MissingRequirementError("signedjson")) == (
        "the Python library signedjson is missing: install python3-signedjson (Debian package) or signedjson (pip)"
    )


def test_a_redirect_keeps_its_target_and_shows_it_escaped() -> None:
    error = RedirectError(302, "https://a/\x1b")
    assert error.location == "https://a/\x1b"
    assert str(error) == "redirected (HTTP 302) to https://a/\\x1b"


def test_all_errors_have_one_base() -> None:
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    assert len(classes) >= 8
    assert all(issubclass(error, FederationError) for error in classes)
    assert issubclass(errors.AddressNotAllowedError, UnreachableError)
