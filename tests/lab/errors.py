# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong with a lab."""


class LabError(Exception):
    """The lab can't do that here and now."""


class MissingError(LabError):
    """This machine lacks a program that the lab needs: a reason to skip a test."""
