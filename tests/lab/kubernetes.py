# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stub of the API server of Kubernetes, for the real kubectl: workloads that can be scaled, and their pods.

It answers as the API reference of Kubernetes says (https://kubernetes.io/docs/reference/kubernetes-api/), as far as
``kubectl get``, ``scale`` and ``auth can-i`` ask.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .api import Json

APPS = "/apis/apps/v1"
RESOURCES = {
    "/api/v1": [("pods", "Pod")],
    APPS: [("deployments", "Deployment"), ("statefulsets", "StatefulSet")],
    "/apis/authorization.k8s.io/v1": [("selfsubjectaccessreviews", "SelfSubjectAccessReview")],
}


@dataclass
class Workload:
    """A workload with one container, and its pods."""

    kind: str
    name: str
    replicas: int = 1
    metadata: Json = field(default_factory=dict)
    #: The names of its pods, also of those that are terminating.
    pods: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pods = [f"{self.name}-{number}" for number in range(self.replicas)]

    @property
    def selector(self) -> str:
        return f"app.kubernetes.io/name={self.name}"

    def as_json(self) -> Json:
        metadata = {"name": self.name, "namespace": "ess", "resourceVersion": "1", "uid": self.name, **self.metadata}
        spec = {"replicas": self.replicas, "selector": {"matchLabels": {"app.kubernetes.io/name": self.name}}}
        return {"apiVersion": "apps/v1", "kind": self.kind, "metadata": metadata, "spec": spec, "status": {}}

    def scale(self) -> Json:
        metadata = {"name": self.name, "namespace": "ess", "resourceVersion": "1", "uid": self.name}
        status = {"replicas": self.replicas, "selector": self.selector}
        spec = {"replicas": self.replicas}
        return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec, "status": status}


class ApiServer:
    """The stub, as a context manager. Its namespace is ``ess``."""

    def __init__(self, port: int, workloads: list[Workload]) -> None:
        self.workloads = {f"{each.kind.lower()}s/{each.name}": each for each in workloads}
        #: The workloads that were scaled, and to what, in order.
        self.scaled: list[tuple[str, int]] = []
        #: How many lists of pods still have those of a workload that was scaled to 0.
        self.terminating = 0
        self.may_scale = self.may_list = True
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"stub": self}))

    def __enter__(self) -> ApiServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write_kubeconfig(self, path: Path) -> Path:
        """Write the file by which kubectl finds the stub."""
        host, port = self._server.server_address[:2]
        cluster = {"name": "stub", "cluster": {"server": f"http://{host!s}:{port}"}}
        context = {"name": "stub", "context": {"cluster": "stub", "user": "stub", "namespace": "default"}}
        config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context]}
        path.write_text(json.dumps({**config, "users": [{"name": "stub", "user": {}}], "current-context": "stub"}))
        return path

    def answer(self, method: str, target: str, content: bytes) -> tuple[int, Json]:
        """Return the status and the body of the answer to a request."""
        url = urlsplit(target)
        if url.path in ("/api", "/apis", *RESOURCES):
            return 200, _discovery(url.path)
        if url.path.endswith("/selfsubjectaccessreviews"):
            # kubectl sends a protocol buffer here, with the texts in it as they are.
            asked = all(word in content for word in (b"patch", b"apps", b"scale", b"ess"))
            status = {"allowed": self.may_scale and asked}
            return 201, {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "status": status}
        if url.path == "/api/v1/namespaces/ess/pods":
            return self._pods(parse_qs(url.query).get("labelSelector", [""])[0])
        kind, _slash, rest = url.path.removeprefix(f"{APPS}/namespaces/ess/").partition("/")
        name, _slash, subresource = rest.partition("/")
        workload = self.workloads.get(f"{kind}/{name}")
        if workload is None:
            return 404, _status(404, "NotFound", f'{kind}.apps "{name}" not found')
        if subresource == "scale":
            if method == "PATCH":
                self._scale(workload, int(json.loads(content)["spec"]["replicas"]))
            return 200, workload.scale()
        return 200, workload.as_json()

    def _scale(self, workload: Workload, replicas: int) -> None:
        workload.replicas = replicas
        self.scaled.append((workload.name, replicas))

    def _pods(self, selector: str) -> tuple[int, Json]:
        if not self.may_list:
            return 403, _status(403, "Forbidden", 'pods is forbidden: User "stub" cannot list resource "pods"')
        found = [workload for workload in self.workloads.values() if workload.selector == selector]
        if any(workload.pods and not workload.replicas for workload in found):
            self.terminating -= 1
            if self.terminating < 0:
                for workload in found:
                    workload.pods = workload.pods[: workload.replicas]
        names = [name for workload in found for name in workload.pods]
        pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ess"}} for name in names]
        return 200, {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": pods}


class _Handler(BaseHTTPRequestHandler):
    stub: ApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Print nothing."""

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = self.stub.answer(self.command, self.path, content)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PATCH = do_POST = _answer  # noqa: N815, names of http.server


def _discovery(path: str) -> Json:
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = []
        for name in RESOURCES:
            if name.startswith("/apis/"):
                _empty, _apis, group, version = name.split("/")
                preferred = {"groupVersion": f"{group}/{version}", "version": version}
                groups.append({"name": group, "versions": [preferred], "preferredVersion": preferred})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    listed = [
        {"name": name, "singularName": kind.lower(), "namespaced": kind != "SelfSubjectAccessReview", "kind": kind}
        for name, kind in RESOURCES[path]
    ]
    resources = [{**each, "verbs": ["create", "get", "list", "patch", "update"]} for each in listed]
    version = path.removeprefix("/apis/").removeprefix("/api/")
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _status(code: int, reason: str, message: str) -> Json:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message}
    return {**status, "reason": reason, "code": code}
