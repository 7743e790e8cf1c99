# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""This collection beside what one would use instead, on real servers: ``make bench``.

`plan` says what is measured, and in which order; `drain`, `listing`, `fleet` and `ghosts` measure. They start the
`contenders`, of which `bare` and `asking` are the collection's code without Ansible, as processes of their own
(`processes`), on servers that are filled once and restored before each run (`servers`), or on `stubs` and
`remote_servers`. Each run becomes a line of a file (`results`). `figures` has medians, `claims` says who is better by
how much, and `report` and `chart` make what docs/maintainers/benchmarks.md shows.
"""
