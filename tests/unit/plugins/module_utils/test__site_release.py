# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any, Callable

import pytest
import trustme
from ansible_collections.matrixops.synapse.plugins.module_utils import _site_release as module
from ansible_collections.matrixops.synapse.plugins.module_utils._site_release import (
    Deployment,
    DeploymentError,
    assert_certificate,
)

FIRST, SECOND = "1" * 64, "2" * 64
Make = Callable[..., Deployment]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "var/lib/site"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "conf.d/site.conf"
    path.parent.mkdir()
    return path


def archive(tmp_path: Path, files: dict[str, str], **more: Any) -> str:
    """An archive with these files, whose entries have more attributes."""
    path = tmp_path / "site.tar.gz"
    with tarfile.open(str(path), "w:gz") as target:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            for key, value in more.items():
                setattr(entry, key, value)
            target.addfile(entry, io.BytesIO(text.encode()))
    return str(path)


@pytest.fixture
def make(root: Path, conf: Path) -> Make:
    def make(release: str = FIRST, text: str = "first", **files: str) -> Deployment:
        return Deployment(str(root), release, {str(conf): text, **files})

    return make


@pytest.fixture
def first(make: Make, tmp_path: Path) -> Deployment:
    """A site that is there."""
    deployment = make()
    deployment.unpack(archive(tmp_path, {"www/a": "first", "site.json": "{}"}))
    deployment.apply([], [])
    return deployment


@pytest.mark.usefixtures("strict_umask")
def test_a_new_site(make: Make, root: Path, conf: Path, tmp_path: Path) -> None:
    deployment = make()
    assert deployment.changes() == [str(root / "current"), str(conf)] and not deployment.is_applied
    deployment.unpack(archive(tmp_path, {"www/deep/a": "x", "site.json": "{}"}, mode=0o7777, uid=1, uname="someone"))
    assert not deployment.has_release and not conf.exists()
    deployment.apply(["true"], ["true"])
    assert deployment.has_release and deployment.is_applied and deployment.changes() == []
    assert (root / "current/www/deep/a").read_text() == "x" and conf.read_text() == "first"
    assert {path.stat().st_mode & 0o7777 for path in [conf, *root.rglob("*")] if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o7777 for path in [root, *root.rglob("*")] if path.is_dir()} == {0o755}
    assert {path.stat().st_uid for path in root.rglob("*")} == {os.getuid()}


def test_another_site(first: Deployment, make: Make, root: Path, conf: Path, tmp_path: Path) -> None:
    """Nothing stays of the previous one, and of runs that were killed."""
    (root / f"{'3' * 64}.new").mkdir()
    (root / "Caddyfile").write_text("kept")
    second = make(SECOND, "second")
    second.unpack(archive(tmp_path, {"www/b": "second"}))
    second.apply([], [])
    assert sorted(path.name for path in root.iterdir()) == [SECOND, "Caddyfile", "applied", "current"]
    assert os.readlink(str(root / "current")) == SECOND and conf.read_text() == "second"
    assert not first.is_applied


@pytest.mark.parametrize("failing", ["test", "reload", "write"])
def test_a_configuration_that_is_refused(
    first: Deployment, make: Make, root: Path, conf: Path, tmp_path: Path, failing: str
) -> None:
    new_file = tmp_path / "conf.d/new.conf"
    missing = {str(tmp_path / "none/file"): "x"} if failing == "write" else {}
    second = make(SECOND, "second", **{str(new_file): "new", **missing})
    second.unpack(archive(tmp_path, {"www/b": "second"}))
    refuse = ["sh", "-c", f"cat {conf} {root}/current/www/b; exit 1"]
    accept = ["grep", "-q", "second", str(conf), str(root / "current/www/b")]
    with pytest.raises((DeploymentError, OSError), match="secondsecond" if failing != "write" else "No such file"):
        second.apply(refuse if failing == "test" else accept, refuse)
    assert first.is_applied and conf.read_text() == "first" and not new_file.exists()
    assert sorted(path.name for path in root.iterdir()) == [FIRST, "applied", "current"]


def test_the_first_configuration_is_refused(make: Make, root: Path, conf: Path, tmp_path: Path) -> None:
    deployment = make()
    deployment.unpack(archive(tmp_path, {"www/a": "x"}))
    with pytest.raises(DeploymentError, match=r"^false: $"):
        deployment.apply(["false"], [])
    assert not conf.exists() and list(root.iterdir()) == []


def test_only_the_configuration_changes(first: Deployment, make: Make, root: Path, conf: Path) -> None:
    changed = make(FIRST, "changed")
    assert changed.changes() == [str(conf)] and changed.has_release
    with pytest.raises(DeploymentError):
        changed.apply(["false"], [])
    assert first.is_applied
    changed.apply([], [])
    assert changed.is_applied and conf.read_text() == "changed"


def test_a_run_that_was_killed_before_the_reload(first: Deployment, root: Path, tmp_path: Path) -> None:
    """All files are there, but the web server has not loaded them."""
    loaded = tmp_path / "loaded"
    command = ["sh", "-c", f"test ! -e {root / 'applied'} && touch {loaded}"]
    (root / "applied").unlink()
    assert first.changes() == [] and not first.is_applied
    first.apply([], command)
    assert loaded.exists() and first.is_applied


def test_a_release_that_is_damaged(first: Deployment, root: Path) -> None:
    shutil.rmtree(str(root / FIRST))
    assert not first.has_release and not first.is_applied


def test_current_is_not_a_link(first: Deployment, root: Path) -> None:
    (root / "current").unlink()
    (root / "current").mkdir()
    with pytest.raises(DeploymentError, match="current is not a symbolic link: remove it"):
        first.apply([], [])


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("/etc/x", {}),
        ("../x", {}),
        ("www/../../x", {}),
        ("www/x", {"type": tarfile.SYMTYPE, "linkname": "/etc"}),
        ("www/x", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}),
        ("www/x", {"type": tarfile.FIFOTYPE}),
        ("www/x", {"type": tarfile.CHRTYPE}),
    ],
)
def test_an_archive_that_leaves_its_directory(
    make: Make, root: Path, tmp_path: Path, name: str, more: dict[str, Any]
) -> None:
    with pytest.raises(DeploymentError, match="is not allowed in an archive of a site"):
        make().unpack(archive(tmp_path, {name: ""}, **more))
    assert list(root.iterdir()) == []


def test_an_archive_that_is_cut_off(make: Make, root: Path, tmp_path: Path) -> None:
    path = Path(archive(tmp_path, {"www/a": os.urandom(50_000).hex()}))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DeploymentError, match="cannot unpack the site"):
        make().unpack(str(path))
    assert list(root.iterdir()) == []


def test_space(make: Make, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make().assert_space(1000, 1)
    with pytest.raises(DeploymentError, match=r"MiB of free space, and the site needs .* MiB: free some space"):
        make().assert_space(10**18, 1)
    with pytest.raises(DeploymentError):
        make().assert_space(1, 10**15)
    assert not root.exists()


def test_a_release_is_a_digest(root: Path) -> None:
    for release in ("", "../x", "1" * 63):
        with pytest.raises(DeploymentError):
            Deployment(str(root), release, {})


def test_a_program_that_is_missing() -> None:
    with pytest.raises(DeploymentError, match=r"^no-such-program -t: .*No such file"):
        module._run(["no-such-program", "-t"])


def test_a_certificate(ca: trustme.CA, tmp_path: Path) -> None:
    paths = {}
    for name in ("a", "b"):
        issued = ca.issue_cert(f"{name}.example")
        paths[name] = (str(tmp_path / f"{name}.crt"), str(tmp_path / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(paths[name][0])
        issued.private_key_pem.write_to_path(paths[name][1])
    assert_certificate(*paths["a"])
    for certificate, key in [
        (paths["a"][0], paths["b"][1]),
        (paths["a"][1], paths["a"][1]),
        (paths["a"][0], str(tmp_path / "none")),
        (str(tmp_path), paths["a"][1]),
    ]:
        with pytest.raises(DeploymentError, match=r"are not a TLS certificate and its private key .*: correct"):
            assert_certificate(certificate, key)
