# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods of the power-off: real engines of Docker and Podman, and the real kubectl with a stub of its server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from lab.api import Json
from lab.docker import IMAGE, SERVER, Docker
from lab.kubernetes import ApiServer, Workload

from .conftest import IN_PROCESS, ROOT, Federation, RunPlaybook
from .test_playbook import PLAYBOOK

ROLE = ROOT / "roles/decommission"
PORT = 19301
CLUSTER_PORT = 19302
SHELL = ["/bin/busybox", "sh", "-c"]
URL = f"http://127.0.0.1:{PORT}"
PROJECT = {
    "version": "3",
    "services": {
        "synapse": {"image": IMAGE, "command": SERVER, "ports": [f"127.0.0.1:{PORT}:8008"], "restart": "always"},
        "worker": {"image": IMAGE, "command": SERVER, "restart": "on-failure", "depends_on": ["synapse"]},
        "mas": {"image": IMAGE, "command": SERVER, "restart": "unless-stopped", "volumes": ["data:/data"]},
    },
    "volumes": {"data": {}},
}
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


@dataclass
class Result:
    """What Ansible has printed, and how it ended."""

    output: str
    code: int

    def changed(self, host: str = "host") -> int:
        found = re.search(rf"(?m)^{host} +: .*changed=(\d+)", self.output)
        assert found, self.output
        return int(found[1])

    def refusals(self) -> dict[str, str]:
        """The messages by the hosts that have failed."""
        found = re.finditer(r'(?m)^fatal: \[(\w+)\]: FAILED! => .*"msg": "(.*?[^\\])"', self.output)
        return {match[1]: match[2] for match in found}


def run_tasks(directory: Path, tasks: str, hosts: dict[str, Json], *before: str, **environment: str) -> Result:
    """Run a file of tasks of the role, on hosts that are all this machine, by a command that may begin with others."""
    role = {"name": "matrixops.synapse.decommission", "tasks_from": tasks}
    return run_play(directory, {"tasks": [{"ansible.builtin.include_role": role}]}, hosts, *before, **environment)


def run_play(directory: Path, play: Json, hosts: dict[str, Json], *before: str, **environment: str) -> Result:
    common = {"decommission_confirm": "old.example", "decommission_base_url": URL, **LOCAL}
    inventory = {"all": {"hosts": {name: {**common, **variables} for name, variables in hosts.items()}}}
    files = {"inventory.json": inventory, "playbook.json": [{"hosts": "all", "gather_facts": False, **play}]}
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content))
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [*before, program, "-i", *files],
        env={**os.environ, **environment, **IN_PROCESS, "ANSIBLE_NOCOLOR": "1"},
        cwd=directory,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return Result(done.stdout, done.returncode)


@pytest.fixture
def project(docker: Docker, tmp_path: Path) -> Iterator[Json]:
    """A project of three services that run, with the variables for it."""
    directory = tmp_path / "old"
    directory.mkdir()
    (directory / "docker-compose.yml").write_text(json.dumps(PROJECT))
    docker.run(*docker.compose, "up", "-d", directory=directory)
    method = {"decommission_power_off_method": "compose", "decommission_compose_command": docker.compose}
    yield {**method, "decommission_compose_dir": str(directory)}
    docker.run(*docker.compose, "down", "-v", directory=directory)


def names(docker: Docker, project: Json) -> dict[str, str]:
    """The containers by the names of their services."""
    directory = Path(project["decommission_compose_dir"])
    identifiers = docker.run(*docker.compose, "ps", "--all", "--quiet", directory=directory).split()
    found = [docker.inspect(identifier) for identifier in identifiers]
    return {each["Config"]["Labels"]["com.docker.compose.service"]: each["Name"][1:] for each in found}


def status(docker: Docker) -> str:
    answer = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", f"{URL}/_matrix/x"]
    done = subprocess.run(docker.inside(*answer), capture_output=True, text=True, check=False)
    return done.stdout


@pytest.mark.nightly(category="variations")
def test_what_is_refused(docker: Docker, project: Json, tmp_path: Path) -> None:
    containers = names(docker, project)
    assert set(containers) == {"synapse", "worker", "mas"} and status(docker) == "401"
    before = {name: docker.inspect(name)["State"] for name in containers.values()}
    cases = {
        "service": {"decommission_compose_services": ["synapse", "nosuch"]},
        "directory": {"decommission_compose_dir": "/nonexistent"},
        "empty": {"decommission_compose_dir": str(tmp_path)},
        "unset": {"decommission_compose_dir": ""},
        "command": {"decommission_compose_command": ["nosuch", "compose"]},
        "user": {"decommission_power_off_user": "nosuch"},
        "container": {"decommission_power_off_method": "docker", "decommission_power_off_containers": ["nosuch"]},
        "nothing": {"decommission_power_off_method": "docker"},
        "right": {},
    }
    hosts = {name: {**project, **variables} for name, variables in cases.items()}
    refused = run_tasks(tmp_path, "check_power_off", hosts, *docker.inside(), **docker.environment)
    messages = refused.refusals()
    assert set(messages) == set(cases) - {"right"}, refused.output
    assert all(message.startswith("No changes made: ") for message in messages.values()), messages
    assert "o such service: nosuch" in messages["service"] and "decommission_compose_services" in messages["service"]
    assert "set it to the directory" in messages["unset"] and "no user 'nosuch'" in messages["user"]
    assert "No such container: nosuch" in messages["container"] and "no container is named" in messages["nothing"]
    assert {name: docker.inspect(name)["State"] for name in containers.values()} == before
    assert refused.changed("right") == 0


def test_compose(docker: Docker, project: Json, tmp_path: Path) -> None:
    """Stopped for good: not even a restart of the engine starts a container again."""
    containers = names(docker, project)
    assert status(docker) == "401"
    done = run_tasks(tmp_path, "stop", {"host": project}, *docker.inside(), **docker.environment)
    assert done.code == 0, done.output
    assert docker.running() == set() and status(docker) == "000"
    for name in containers.values():
        assert docker.inspect(name)["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert "old_data" in docker.run("docker", "volume", "ls", "--quiet")
    # With the policy of the project, the homeserver would start again.
    docker.restart()
    assert docker.running() == set()


@pytest.mark.nightly(category="variations")
def test_compose_in_an_order(docker: Docker, project: Json, tmp_path: Path) -> None:
    """Two services in an order, and once more; the others of the project stay."""
    containers = names(docker, project)
    variables = {**project, "decommission_compose_services": ["worker", "synapse"]}
    done = run_tasks(tmp_path, "stop", {"host": variables}, *docker.inside(), **docker.environment)
    assert done.code == 0, done.output
    assert docker.running() == {containers["mas"]}
    again = run_tasks(tmp_path, "stop", {"host": variables}, *docker.inside(), **docker.environment)
    assert (again.code, again.changed()) == (0, 0), again.output
    ended = [docker.inspect(containers[name])["State"]["FinishedAt"] for name in ("worker", "synapse")]
    assert ended == sorted(ended)
    assert docker.inspect(containers["mas"])["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


@pytest.mark.nightly(category="variations")
def test_what_docker_starts_again(docker: Docker) -> None:
    """Why the restart policy is changed: containers that were stopped by hand, after a restart of the engine."""
    policies = ("no", "on-failure", "unless-stopped", "always")
    for policy in policies:
        # It exits with 143, since the first process of a container has no handler of its own.
        program = [*SHELL, "trap 'exit 143' TERM; while :; do busybox sleep 1000 & wait $!; done"]
        docker.run("docker", "run", "--detach", "--name", f"of-{policy}", "--restart", policy, IMAGE, *program)
    docker.run("docker", "stop", *(f"of-{policy}" for policy in policies))
    assert docker.running() == set()
    docker.restart()
    assert docker.running() == {"of-on-failure", "of-always"}
    docker.run("docker", "rm", "--force", *(f"of-{policy}" for policy in policies))


@pytest.mark.nightly(category="variations")
def test_an_engine_that_does_not_stop_it(docker: Docker, tmp_path: Path) -> None:
    """The tasks do not take its word, and the homeserver still answers."""
    run = ["docker", "run", "--detach", "--restart=always", "--name=synapse", "--publish", f"127.0.0.1:{PORT}:8008"]
    docker.run(*run, IMAGE, *SERVER)
    engine = tmp_path / "docker"
    engine.write_text(f'#!/bin/sh\n[ "$1" = stop ] && exit 0\nPATH={docker.environment["PATH"]} exec docker "$@"\n')
    engine.chmod(0o755)
    environment = {**docker.environment, "PATH": f"{tmp_path}:{docker.environment['PATH']}"}
    variables = {"decommission_power_off_method": "docker", "decommission_power_off_containers": ["synapse"]}
    failed = run_tasks(tmp_path, "stop", {"host": variables}, *docker.inside(), **environment)
    assert failed.code == 2 and "host is not powered off. Not stopped: synapse" in failed.output, failed.output
    assert docker.running() == {"synapse"} and status(docker) == "401"
    done = run_tasks(tmp_path, "stop", {"host": variables}, *docker.inside(), **docker.environment)
    assert done.code == 0 and docker.running() == set(), done.output
    docker.run("docker", "rm", "synapse")


def test_a_closed_gate_stops_nothing(
    filled: Federation, docker: Docker, run_playbook: RunPlaybook, tmp_path: Path
) -> None:
    """The whole playbook, on a server with active accounts."""
    before = filled.to_close
    docker.run("docker", "run", "--detach", "--name=synapse", IMAGE, *SERVER)
    variables: dict[str, Any] = {**filled.role_variables, "decommission_power_off_containers": ["synapse"]}
    del variables["decommission_power_off_tasks"]
    variables["decommission_power_off_method"] = "docker"
    environment = {name: docker.environment[name] for name in ("DOCKER_HOST", "PATH")}
    result = run_playbook(PLAYBOOK, {"a": variables}, "--tags", "power_off", **environment)
    assert result.returncode == 2 and "No record that all accounts have left" in result.stdout, result.stdout
    assert docker.running() == {"synapse"}
    wrong = {**variables, "decommission_power_off_containers": ["nosuch"]}
    refused = run_playbook(PLAYBOOK, {"a": wrong}, **environment)
    assert refused.returncode == 2 and "No changes made: a: nosuch cannot be read" in refused.stdout, refused.stdout
    assert filled.to_close == before
    docker.run("docker", "rm", "--force", "synapse")


# Podman


@pytest.fixture
def podman(tmp_path: Path, skip_or_fail: Callable[[str], NoReturn]) -> Iterator[Callable[..., str]]:
    """A Podman of its own in all respects, as a program with that name; and a function that runs it."""
    missing = [program for program in ("podman", "runc", "conmon", "busybox") if not shutil.which(program)]
    if missing:
        skip_or_fail(f"no {', '.join(missing)} here (packages podman, runc, conmon, busybox-static)")
    root = tmp_path / "rootfs"
    for directory in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (root / directory).mkdir(parents=True)
    shutil.copy2(str(shutil.which("busybox")), root / "bin/busybox")
    # vfs, cgroupfs and no network, so that it works within another container or a small virtual machine, too. podman
    # wants a path of less than 50 characters for --runroot.
    runroot = tempfile.mkdtemp()
    options = ["--runtime=runc", "--storage-driver=vfs", "--cgroup-manager=cgroupfs", f"--runroot={runroot}"]
    options += [f"--root={tmp_path / 'storage'}", f"--tmpdir={tmp_path / 'tmp'}"]
    program = tmp_path / "bin/podman"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shutil.which("podman")} {" ".join(options)} "$@"\n')
    program.chmod(0o755)

    def run(*arguments: str) -> str:
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout

    yield run
    run("rm", "--force", "--all")
    shutil.rmtree(runroot)


@pytest.mark.nightly(category="variations")
def test_podman(podman: Callable[..., str], tmp_path: Path) -> None:
    """Refused, stopped, and stopped again. This version may not be able to change a restart policy."""
    program = "trap exit TERM; while :; do busybox sleep 1000 & wait $!; done"
    limits = ["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"]

    def start(name: str, *options: str) -> None:
        podman(
            "run", "--detach", "--name", name, *limits, *options, "--rootfs", str(tmp_path / "rootfs"), *SHELL, program
        )

    def running() -> set[str]:
        return set(podman("ps", "--format", "{{.Names}}").split())

    start("synapse", "--restart=on-failure")
    start("mas")
    start("restarted", "--restart=always")
    start("removed", "--rm")
    start("of_unit", "--label=PODMAN_SYSTEMD_UNIT=synapse.service")
    systemctl = tmp_path / "bin/systemctl"
    systemctl.write_text('#!/bin/sh\ntest -e /enabled -o "$1" = is-enabled\n')
    systemctl.chmod(0o755)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    method = {"decommission_power_off_method": "podman"}
    cases = {name: [name] for name in ("nosuch", "restarted", "removed", "of_unit")}
    cases["right"] = ["synapse", "mas"]
    can_update = "--restart" in podman("update", "--help")
    hosts = {name: {**method, "decommission_power_off_containers": names} for name, names in cases.items()}
    refused = run_tasks(tmp_path, "check_power_off", hosts, **environment).refusals()
    assert set(refused) == set(cases) - {"right"} - ({"restarted"} if can_update else set()), refused
    assert "no such container nosuch" in refused["nosuch"]
    assert can_update or "Disable podman-restart.service" in refused["restarted"]
    assert all("decommission_power_off_method: systemd" in refused[name] for name in ("removed", "of_unit"))
    assert len(running()) == 5

    done = run_tasks(tmp_path, "stop", {"host": hosts["right"]}, **environment)
    assert done.code == 0 and running() == {"restarted", "removed", "of_unit"}, done.output
    again = run_tasks(tmp_path, "stop", {"host": hosts["right"]}, **environment)
    assert (again.code, again.changed()) == (0, 0), again.output
    systemctl.write_text("#!/bin/sh\nexit 1\n")
    done = run_tasks(tmp_path, "stop", {"host": hosts["restarted"]}, **environment)
    assert done.code == 0 and running() == {"removed", "of_unit"}, done.output


# Kubernetes


@pytest.fixture
def cluster(skip_or_fail: Callable[[str], NoReturn]) -> Iterator[ApiServer]:
    """A namespace as of Element Server Suite."""
    if not shutil.which("kubectl"):
        skip_or_fail("no kubectl here (package kubernetes-client)")
    metadata = {"annotations": {"argocd.argoproj.io/tracking-id": "ess:apps/StatefulSet:ess/ess-synapse-main"}}
    workloads = [
        Workload("StatefulSet", "ess-synapse-main", metadata=metadata),
        Workload("StatefulSet", "ess-synapse-worker", replicas=2),
        Workload("Deployment", "ess-mas", metadata={"labels": {"helm.toolkit.fluxcd.io/name": "ess"}}),
        Workload("Deployment", "ess-web", replicas=0),
    ]
    with ApiServer(CLUSTER_PORT, workloads) as cluster:
        yield cluster


WORKLOADS = ["statefulset/ess-synapse-worker", "statefulset/ess-synapse-main", "deployment/ess-mas"]


@pytest.fixture
def method(cluster: ApiServer, tmp_path: Path) -> Json:
    """The variables for the namespace."""
    return {
        "decommission_power_off_method": "kubernetes",
        "decommission_kubernetes_namespace": "ess",
        "decommission_kubernetes_workloads": WORKLOADS,
        "decommission_kubernetes_command": ["kubectl", "--kubeconfig", str(cluster.write_kubeconfig(tmp_path / "k"))],
    }


@pytest.mark.nightly(category="variations")
def test_what_is_refused_of_kubernetes(cluster: ApiServer, method: Json, tmp_path: Path) -> None:
    wrong: Json = {
        "name": {"decommission_kubernetes_workloads": ["statefulset/nosuch"]},
        "kind": {"decommission_kubernetes_workloads": ["pod/ess-synapse-main-0"]},
        "unset": {"decommission_kubernetes_workloads": []},
        "program": {"decommission_kubernetes_command": ["nosuch"]},
        "server": {"decommission_kubernetes_command": ["kubectl", "--server", "http://127.0.0.1:1"]},
        "other": {"decommission_kubernetes_workloads": ["deployment/ess-web"]},
    }
    hosts = {name: {**method, **variables} for name, variables in wrong.items()}
    result = run_tasks(tmp_path, "check_power_off", {**hosts, "right": method})
    refused = result.refusals()
    assert set(refused) == set(wrong), result.output
    assert all(message.startswith("No changes made: ") for message in refused.values()), refused
    assert 'statefulsets.apps \\"nosuch\\" not found' in refused["name"] and "deployment/NAME" in refused["kind"]
    assert "there is no command nosuch" in refused["program"] and "refused" in refused["server"]
    assert "no workload has a replica" in refused["other"] and "set both" in refused["unset"]
    assert "Argo CD manages statefulset/ess-synapse-main and scales it up again" in result.output
    assert "Flux manages deployment/ess-mas" in result.output
    cluster.may_scale = False
    assert "no permission to scale" in run_tasks(tmp_path, "stop", {"a": method}).refusals()["a"]
    cluster.may_scale, cluster.may_list = True, False
    assert "pods cannot be listed" in run_tasks(tmp_path, "stop", {"a": method}).refusals()["a"]
    assert cluster.scaled == []


@pytest.mark.nightly(category="variations")
def test_kubernetes(cluster: ApiServer, method: Json, tmp_path: Path) -> None:
    """Scaled to 0 in the order, while a pod takes its time; and run again."""
    cluster.terminating = 4
    done = run_tasks(tmp_path, "stop", {"host": method})
    assert done.code == 0, done.output
    assert cluster.scaled == [(name.partition("/")[2], 0) for name in WORKLOADS]
    assert [workload.pods for workload in cluster.workloads.values()] == [[], [], [], []]
    again = run_tasks(tmp_path, "stop", {"host": method})
    assert (again.code, again.changed()) == (0, 0), again.output


@pytest.mark.nightly(category="variations")
def test_a_pod_that_does_not_end(cluster: ApiServer, method: Json, tmp_path: Path) -> None:
    cluster.terminating = 1000
    short = {**method, "decommission_kubernetes_workloads": WORKLOADS[:1], "decommission_power_off_timeout": 2}
    failed = run_tasks(tmp_path, "stop", {"host": short})
    assert failed.code == 2 and "The workloads are not off. Pods: pod/ess-synapse-worker-0" in failed.output


def test_none(tmp_path: Path) -> None:
    """Nothing is looked at, and nothing is stopped."""
    method = {"decommission_power_off_method": "none"}
    done = run_tasks(tmp_path, "stop", {"host": method})
    assert (done.code, done.changed()) == (0, 0) and "continues to run" in done.output, done.output


BY_HAND = {
    "host": ({}, "systemctl poweroff on host, but first on worker1, worker2"),
    "systemd": (
        {"decommission_power_off_units": ["matrix-synapse.service", "mas.service"]},
        "systemctl disable --now matrix-synapse.service mas.service on systemd",
    ),
    "compose": (
        {"decommission_compose_dir": "/srv/old", "decommission_compose_services": ["synapse"]},
        "docker compose stop synapse in /srv/old on compose",
    ),
    "docker": ({"decommission_power_off_containers": ["synapse", "mas"]}, "docker stop synapse mas on docker"),
    "podman": (
        {
            "decommission_power_off_units": ["synapse.service"],
            "decommission_power_off_containers": ["mas"],
            "decommission_power_off_user": "matrix",
        },
        "systemctl stop synapse.service; podman stop mas on podman, as matrix",
    ),
    "kubernetes": (
        {"decommission_kubernetes_namespace": "ess", "decommission_kubernetes_workloads": ["statefulset/synapse"]},
        "kubectl --namespace ess scale --replicas=0 statefulset/synapse",
    ),
    "none": ({}, "stop the homeserver on none"),
    "tasks": ({"decommission_power_off_method": "host", "decommission_power_off_tasks": "off.yml"}, "follow "),
}
"""By the method, which is the name of the host: its variables, and how to power off by hand."""


def test_how_to_power_off_by_hand(tmp_path: Path) -> None:
    """For an operator whose account is deactivated, when the run has ended before the power-off."""
    hosts = {method: {"decommission_power_off_method": method, **given} for method, (given, _text) in BY_HAND.items()}
    hosts["host"]["decommission_worker_hosts"] = ["worker1", "worker2"]
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    tasks = [{"ansible.builtin.debug": {"msg": "{{ _decommission_power_off_by_hand }}"}}]
    play = {"vars_files": [str(ROLE / "vars/main.yml")], "tasks": tasks}
    done = run_play(tmp_path, play, {name: {**defaults, **given} for name, given in hosts.items()})
    shown = dict(re.findall(r'ok: \[(\w+)\] => \{\s+"msg": "(.*)"', done.output))
    shown["tasks"] = shown["tasks"].removesuffix(str(tmp_path / "off.yml"))
    assert shown == {method: text for method, (_given, text) in BY_HAND.items()}, done.output
