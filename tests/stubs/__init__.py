# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands for servers in tests: a fake homeserver, stubs of remote Matrix servers, and declared answers.

The package C(homeserver) is the one fake of Synapse and its admin API. C(helpers) has what most unit tests need.
"""
