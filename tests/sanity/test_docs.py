# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation, checked against the code: commands, variables, names, links, generated pages."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
import yaml
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.versions import OLDEST
from compatibility import table
from compatibility.environments import CORES, ROOT, SYNAPSES
from newcomer import SECTIONS, blocks
from nightly import CATEGORIES

HOWTOS = sorted((ROOT / "docs/howto").glob("*.md"))
#: Pages whose examples and names must be valid.
REFERENCE = ("certificate", "glossary", "plan-warnings", "stages", "states")
FOR_USERS = [ROOT / name for name in ("README.md", "docs/tutorial.md")]
FOR_USERS += [ROOT / f"roles/{role}/README.md" for role in ("decommission", "ghost_cleanup")]
FOR_USERS += [*HOWTOS, *(ROOT / f"docs/reference/{name}.md" for name in REFERENCE)]
PAGES = sorted(ROOT.glob("docs/*/*.md"))
ALL = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")})


def options_of(role: str) -> dict[str, Any]:
    """The variables of a role."""
    specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())
    options: dict[str, Any] = specs["argument_specs"]["main"]["options"]
    return options


OPTIONS = options_of("decommission")
#: Of the playbooks, which decide on the hosts before there is a role.
PLAYBOOK_OPTIONS = {"decommission_hosts": "matrix_decommission"}
#: Variables of the other roles, and of their playbooks.
OTHER_ROLES = ("ghost_cleanup", "ghosts", "site")
OTHER_OPTIONS = {f"{role}_hosts" for role in OTHER_ROLES}.union(*map(options_of, OTHER_ROLES))
#: Names of modules and of results that begin as a variable does.
OTHER_NAMES = {"ghost_cleanup_program", "ghosts_total"}
STAGES = set(OPTIONS["decommission_stages"]["choices"])
MODULES = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
ACTION_GROUPS = set(yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"])
PLAYBOOKS = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fenced(path: Path, language: str) -> list[str]:
    """The examples of a language on a page."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", path.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def commands(paths: list[Path]) -> list[str]:
    """All commands on these pages, each once."""
    lines = [
        line
        for path in paths
        for block in fenced(path, "console")
        for line in re.sub(r"\\\n\s*", "", block).splitlines()
    ]
    assert all(line.startswith("$ ") for line in lines), lines
    return sorted({line.removeprefix("$ ") for line in lines})


#: Commands that other tests run literally: tests/newcomer.py, tests/integration/test_examples.py, test_secrets.py, and
#: tests/sanity/test_execution_environment.py, which does not build the image itself.
TRIED = {
    line.removeprefix("$ ")
    for section in SECTIONS
    for language, text in blocks(*section)
    if language == "console"
    for line in text.splitlines()
}
TRIED |= {"ansible-vault encrypt inventory/group_vars/matrix_decommission/vault.yml"}
TRIED |= {line for line in commands([ROOT / "docs/explanation/security.md"]) if line.startswith("curl ")}
TRIED |= {"ansible-galaxy install -r requirements.yml", "ansible-builder build --tag matrix-decommission"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the commands: docs/examples, with an inventory as in the how-to guides."""
    directory = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "docs/examples", directory, dirs_exist_ok=True)
    host = {"decommission_confirm": "example.org", "decommission_access_token": "token"}
    inventory = {"matrix_decommission": {"hosts": {"matrix.example.org": host}}}
    (directory / "inventory.yml").write_text(json.dumps(inventory))
    (directory / "old.example.yml").write_text('{"rooms": []}')
    return directory


def run(directory: Path, *command: str) -> str:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [program, *command[1:]],
        cwd=directory,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache")},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def option(words: list[str], name: str) -> list[str]:
    """The values of an option of a command."""
    return [words[index + 1] for index, word in enumerate(words) if word == name]


def own_words(words: list[str]) -> list[str]:
    """A command without the one that it runs in a container."""
    inner = {"--", "register_new_matrix_user"}.intersection(words)
    return words[: min(map(words.index, inner), default=len(words))]


def usage_of(words: list[str]) -> str:
    """What a program says of its options, if this machine has it."""
    program, verb = words[0], words[1 : 3 if words[1] == "compose" else 2]
    found = ""
    for arguments in ([*verb, "--help"], ["options"] if program == "kubectl" else ["--help"]):
        if not shutil.which(program):
            pytest.skip(f"no {program} here")
        done = subprocess.run([program, *arguments], text=True, capture_output=True, check=False)
        found += done.stdout
    if not found:
        pytest.skip(f"{shlex.join([program, *verb])} does not work here")
    return found


@pytest.mark.parametrize("command", [command for command in commands(ALL) if command not in TRIED])
def test_command(command: str, repository: Path) -> None:
    """Commands that no other test runs are checked as far as that changes nothing."""
    words = [word for word in shlex.split(command, comments=True) if word != "--ask-vault-pass"]
    for tags in option(words, "--tags") + option(words, "--skip-tags"):
        assert set(tags.split(",")) <= STAGES
    for variable in option(words, "-e"):
        assert variable.startswith("@") or variable.partition("=")[0] in {*OPTIONS, *PLAYBOOK_OPTIONS, *OTHER_OPTIONS}
    match words:
        case ["make", target, *variables]:
            targets = re.findall(r"^([a-z -]+):.* ##", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert target in " ".join(targets).split()
            text = (ROOT / "Makefile").read_text()
            assert all(variable.partition("=")[0] in text for variable in variables)
        case [path, ".cache/venv/bin/python", script, *_] if path.startswith("PYTHONPATH="):
            text = (ROOT / script).read_text()
            assert all(f'"{word}"' in text for word in words if word.startswith("--"))
        case ["antsibull-changelog", _]:
            run(repository, *words, "--help")
        case ["ansible-playbook", *_]:
            run(repository, *words, "--syntax-check")
        case ["ansible", pattern, *_]:
            host = "localhost" if pattern == "localhost" else "matrix.example.org"
            assert host in run(repository, *words, "--list-hosts")
            (module,) = option(words, "-m")
            (arguments,) = option(words, "-a")
            documented = json.loads(run(repository, "ansible-doc", "--json", module))[module]["doc"]["options"]
            assert set(re.findall(r"(\w+)=", arguments)) <= set(documented)
        case ["ansible-doc", *_]:
            assert "MATRIXOPS.SYNAPSE." in run(repository, *words).upper()
        case ["docker" | "kubectl" | "podman" | "systemctl", *_]:
            usage = usage_of(words)
            assert all(word.partition("=")[0] in usage for word in own_words(words) if word.startswith("--"))
        case ["rm" | "install", *_]:
            pass
        case ["register_new_matrix_user", *_]:
            synapse = Path(os.environ.get("LAB_SYNAPSE_PYTHON", ROOT / ".cache/synapse/bin/python"))
            if not synapse.exists():
                pytest.skip("no Synapse here")
            usage = subprocess.check_output([synapse.with_name(words[0]), "--help"], text=True)
            assert all(word in usage for word in words if word.startswith("-"))
        case _:
            pytest.fail("no test checks this command")


@pytest.mark.parametrize("path", FOR_USERS, ids=name_of)
def test_yaml(path: Path, repository: Path) -> None:
    """Each example is valid, for Ansible if it is a play, tasks or an inventory."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!vault", lambda loader, node: loader.construct_scalar(node))
    for text in fenced(path, "yaml"):
        example = yaml.load(text, Loader)  # noqa: S506
        assert example
        file = repository / "example.yml"
        if isinstance(example, list):
            plays = example if "hosts" in example[0] else [{"hosts": "matrix_decommission", "tasks": example}]
            file.write_text(yaml.safe_dump(plays))
            run(repository, "ansible-playbook", "-i", "inventory.yml", str(file), "--syntax-check")
        elif "matrix_decommission" in example:
            file.write_text(yaml.safe_dump(example))
            hosts = json.loads(run(repository, "ansible-inventory", "-i", str(file), "--list"))["_meta"]["hostvars"]
            # Hosts without variables are left out.
            named = [(name, more) for group in example.values() for name, more in group["hosts"].items()]
            assert set(hosts) == {name for name, more in named if more}


@pytest.mark.parametrize("path", FOR_USERS, ids=name_of)
def test_names(path: Path) -> None:
    """All names of variables, modules, playbooks and action groups exist."""
    text = path.read_text()
    used = set(re.findall(r"(?<![\w./])decommission_\w+", text))
    assert used <= {*OPTIONS, *PLAYBOOK_OPTIONS}
    assert set(re.findall(rf"(?<![\w./_])(?:{'|'.join(OTHER_ROLES)})_[a-z]\w+", text)) <= OTHER_OPTIONS | OTHER_NAMES
    named = set(re.findall(r"\bmatrixops\.synapse\.(\w+)", text))
    assert named <= MODULES | PLAYBOOKS | ACTION_GROUPS
    assert set(re.findall(r"`(synapse_\w+)`", text)) <= MODULES | {"synapse_only"}  # a value of an option


def anchors(path: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub generates them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_links(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"https?://", target):
            continue
        file, _sign, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_the_readme_has_valid_defaults() -> None:
    rows = re.findall(r"^\| `(decommission_\w+)` \| (?:`(.*?)`)?", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert rows
    for name, shown in rows:
        assert not shown or yaml.safe_load(shown) == OPTIONS[name].get("default"), name


def test_the_generated_reference_is_up_to_date() -> None:
    for path, text in reference.rendered().items():
        assert path.read_text() == text, f"{name_of(path)}: run make docs"


def test_the_reference_has_everything() -> None:
    """The generator leaves nothing out."""
    variables = (ROOT / "docs/reference/variables.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \| ", variables, re.MULTILINE)) == set(OPTIONS)
    modules = (ROOT / "docs/reference/modules.md").read_text()
    assert set(re.findall(r"^## (\w+)$", modules, re.MULTILINE)) == MODULES


def test_stages_and_playbooks_are_documented() -> None:
    text = (ROOT / "docs/reference/stages.md").read_text()
    first = re.findall(r"^\| `(\w+)` \| [A-Z]", text, re.MULTILINE)[: len(STAGES)]
    assert first == OPTIONS["decommission_stages"]["choices"]
    assert set(re.findall(r"playbooks/(\w+)\.yml", text)) == PLAYBOOKS


def test_pictures_are_readable_and_described() -> None:
    text = (ROOT / "docs/images/stages.svg").read_text()
    assert all(part in text for part in ("prefers-color-scheme: dark", "<title ", "<desc "))
    assert all(f">{stage}</text>" in text for stage in STAGES - {"report"})


def test_workflows_run_what_there_is() -> None:
    """They run make as a user does, and test each ansible-core and Synapse."""
    makefile = (ROOT / "Makefile").read_text()
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for target in re.findall(r"- run: make (\w+)", path.read_text()):
            assert re.search(rf"^{target}:|^[a-z ]*\b{target}\b[a-z ]*:", makefile, re.MULTILINE), target
    matrix = yaml.safe_load((ROOT / ".github/workflows/matrix.yml").read_text())
    assert matrix["jobs"]["core"]["strategy"]["matrix"]["core"] == list(CORES)
    assert matrix["jobs"]["synapse"]["strategy"]["matrix"]["synapse"] == list(SYNAPSES)
    nightly = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())
    assert {*nightly["jobs"]["nightly"]["strategy"]["matrix"]["category"], "versions"} == set(CATEGORIES)


def test_the_supported_versions_are_the_same_everywhere() -> None:
    oldest, *_between, newest = CORES
    assert yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"] == f">={oldest}.0"
    role = yaml.safe_load((ROOT / "roles/decommission/meta/main.yml").read_text())
    assert role["galaxy_info"]["min_ansible_version"] == oldest
    next_one = f"2.{int(newest.partition('.')[2]) + 1}"
    assert f"ansible-core >={oldest}, <{next_one}\n" in (ROOT / "requirements/demo.txt").read_text()
    assert f"ansible-core {oldest} or newer" in (ROOT / "README.md").read_text()


def test_the_supported_versions_of_synapse_are_the_same_everywhere() -> None:
    oldest, *_between, newest = SYNAPSES
    assert f"{oldest}.0" == OLDEST
    assert f"| Synapse | {oldest} or newer" in (ROOT / "README.md").read_text()
    assert f"matrix-synapse[redis] >={newest}, " in (ROOT / "requirements/synapse.txt").read_text()


def test_the_index_links_all_pages() -> None:
    linked = set(re.findall(r"\]\(([\w-]+/[\w-]+\.md)\)", (ROOT / "docs/README.md").read_text()))
    assert linked == {f"{path.parent.name}/{path.name}" for path in PAGES}


def test_the_table_of_tests_is_up_to_date() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    check = [sys.executable, "-m", "overview", "--check"]
    assert subprocess.run(check, env=environment, check=False).returncode == 0, "make tests-table writes it"


def test_the_tables_are_from_what_ran() -> None:
    for name, text in table.rendered(table.read()).items():
        assert (ROOT / name).read_text() == text, name


#: Messages of other software, and of several messages of ours at once.
OTHERS = {
    "Failed to import the required Python library (requests)",
    "404 M_UNRECOGNIZED for /_synapse/admin/...",
    "429 M_LIMIT_EXCEEDED during the login",
    "500, 502, 503 or 504: check that Synapse is running",
    "signing_key_path: ...: No such file or directory",
    "certificate verify failed",
    "400 Failed to remove threepid from ID server",
}


def messages() -> Iterator[str]:
    """All texts of the code and the role, with a placeholder for each value."""
    for path in ROOT.glob("plugins/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    for path in (*ROOT.glob("roles/**/*.yml"), *ROOT.glob("playbooks/*.yml")):
        # A text that goes on in the next line of an expression.
        yield re.sub(r"'\s*~\s*'", "", path.read_text())


def test_troubleshooting_names_messages_that_exist() -> None:
    """Each fixed part of a heading is one of a message. The first letter may be another at the start of a message."""
    text = re.sub(r"\s+", " ", "\n".join(messages())).lower()
    page = (ROOT / "docs/howto/troubleshooting.md").read_text()
    headings = [heading for heading in re.findall("(?m)^### (.*)", page) if heading not in OTHERS]
    assert len(headings) > 60
    for heading in headings:
        for part in re.split(r"\.\.\.| / |['`]|\b\d+\b", heading):
            fixed = part.strip(" :,;.()").lower()
            assert len(fixed) < 8 or fixed in text, (heading, fixed)
