# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-ins for docker and kubectl, with which the guides are tested, print what the real commands print.

That of systemctl is compared on a real machine, by the tests of the method systemd.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from lab.docker import IMAGE, SERVER, Docker
from lab.kubernetes import ApiServer, Workload

from .conftest import ROOT

CLUSTER_PORT = 19303
PROJECT = {"version": "3", "services": {"synapse": {"image": IMAGE, "command": SERVER, "restart": "always"}}}


def stand_in(directory: Path, command: str, *arguments: str) -> str:
    """What the stand-in of a command prints."""
    program = ROOT / "tests/stubs/commands" / command
    state = {"STUB_CONTAINER": str(directory / "container"), "STUB_WORKLOADS": str(directory / "workloads")}
    return output([sys.executable, program, *arguments], **state)


def output(command: Sequence[str | Path], **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, check=True
    )
    return done.stdout


def has_all_of(real: object, stub: object) -> bool:
    """Whether a value has all keys of another, with values of the same types."""
    if isinstance(stub, dict):
        return isinstance(real, dict) and all(key in real and has_all_of(real[key], stub[key]) for key in stub)
    if isinstance(stub, list):
        return isinstance(real, list) and bool(real) and all(has_all_of(real[0], item) for item in stub)
    return type(real) is type(stub)


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        ({"a": {"b": 1, "c": 2}}, True),
        ({"a": {"b": "1"}}, False),
        ({"a": {"c": 1}}, False),
        ({"a": [{"b": 1}]}, False),
    ],
)
def test_the_comparison(real: object, expected: bool) -> None:
    assert has_all_of(real, {"a": {"b": 7}}) is expected
    assert has_all_of([real], [{"a": {"b": 7}}]) is expected


@pytest.mark.nightly(category="variations")
def test_docker(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(json.dumps(PROJECT))
    docker.run(*docker.compose, "up", "-d", directory=tmp_path)
    listed = docker.run(*docker.compose, "ps", "--all", "--quiet", directory=tmp_path)
    assert len(listed) == len(stand_in(tmp_path, "docker", "compose", "ps", "--all", "--quiet")), "a line with an ID"

    def real(*arguments: str) -> str:
        return docker.run("docker", *arguments)

    def stub(*arguments: str) -> str:
        return stand_in(tmp_path, "docker", *arguments)

    states = []
    for change in ([], ["update", "--restart", "no"], ["stop", "--"]):
        found = []
        for run in (real, stub):
            if change:
                run(*change, listed.strip())
            found += json.loads(run("inspect", "--type", "container", "--", listed.strip()))
        theirs, ours = found
        # A container without ports. The stand-in has one that is not published.
        assert ours.pop("NetworkSettings")["Ports"] == {"8009/tcp": None} and theirs["NetworkSettings"]["Ports"] == {}
        assert has_all_of(theirs, ours)
        for container in found:
            state, restart = container["State"], container["HostConfig"]["RestartPolicy"]
            states.append((state["Status"], state["Running"], restart["Name"], restart["MaximumRetryCount"]))
    assert states[::2] == states[1::2] and states[-1][:3] == ("exited", False, "no")
    helps = [" ".join(run("update", "--help").split()) for run in (stub, real)]
    assert helps[0] in helps[1]


@pytest.mark.nightly(category="variations")
def test_kubectl(skip_or_fail: Callable[[str], NoReturn], tmp_path: Path) -> None:
    """The real one asks a stub of the API server."""
    if not shutil.which("kubectl"):
        skip_or_fail("no kubectl here (package kubernetes-client)")
    name = "ess-synapse-main"
    labels = {"labels": {"app.kubernetes.io/managed-by": "Helm"}}
    with ApiServer(CLUSTER_PORT, [Workload("StatefulSet", name, metadata=labels)]) as cluster:
        config = cluster.write_kubeconfig(tmp_path / "kubeconfig")

        def real(*arguments: str) -> str:
            return output(["kubectl", "--kubeconfig", config, "--namespace", "ess", *arguments])

        def stub(*arguments: str) -> str:
            return stand_in(tmp_path, "kubectl", "--namespace", "ess", *arguments)

        workload, path = f"statefulset/{name}", f"/apis/apps/v1/namespaces/ess/statefulsets/{name}/scale"
        for pods in ([f"pod/{name}-0"], []):
            for command in (["get", workload, "--output", "json"], ["get", "--raw", path]):
                assert has_all_of(json.loads(real(*command)), json.loads(stub(*command)))
            for run in (real, stub):
                scale = json.loads(run("get", "--raw", path))
                assert scale["spec"]["replicas"] == scale["status"]["replicas"] == len(pods)
                listed = run("get", "pods", "--output", "name", "--selector", scale["status"]["selector"])
                assert listed.split() == pods
            for command in (
                ["auth", "can-i", "patch", f"statefulsets.apps/{name}", "--subresource=scale"],
                ["scale", "--replicas=0", workload],
            ):
                assert real(*command) == stub(*command)
