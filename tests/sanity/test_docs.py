# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What users read, held against what there is: commands, variables, names, links."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.matrixops.synapse.plugins.module_utils._known_issues import OLDEST
from compatibility import table
from compatibility.environments import CORES, ROOT, SYNAPSES
from newcomer import SECTION, blocks
from nightly import CATEGORIES

HOWTOS = sorted((ROOT / "docs/howto").glob("*.md"))
#: What users go by. The rest of docs/ may look ahead, or back.
FOR_USERS = [ROOT / name for name in ("README.md", "docs/guide.md", "docs/fleet.md", "roles/decommission/README.md")]
FOR_USERS += HOWTOS
ALL = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")})

OPTIONS = yaml.safe_load((ROOT / "roles/decommission/meta/argument_specs.yml").read_text())["argument_specs"]["main"][
    "options"
]
#: Of the playbooks, which decide on the hosts before there is a role.
PLAYBOOK_OPTIONS = {"decommission_hosts": "matrix_retiring"}
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
    """All that somebody may type who reads these, each once."""
    lines = [
        line
        for path in paths
        for block in fenced(path, "console")
        for line in re.sub(r"\\\n\s*", "", block).splitlines()
    ]
    assert all(line.startswith("$ ") for line in lines), lines
    return sorted({line.removeprefix("$ ") for line in lines})


#: Commands that tests type as they stand: tests/newcomer.py and tests/integration/test_examples.py, and in
#: test_execution_environment.py up to the image itself, which nothing is here to build with. And in test_secrets.py.
TRIED = {
    line.removeprefix("$ ") for language, text in blocks(SECTION) if language == "console" for line in text.splitlines()
}
TRIED |= {"ansible-vault encrypt inventory/group_vars/matrix_retiring/vault.yml"}
TRIED |= {line for line in commands([ROOT / "docs/security.md"]) if line.startswith("curl ")}
TRIED |= {"ansible-galaxy install -r requirements.yml", "ansible-builder build --tag matrix-retirement"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands can be typed: docs/examples, and an inventory as the how-tos have it."""
    directory = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "docs/examples", directory, dirs_exist_ok=True)
    host = {"decommission_confirm": "example.org", "decommission_access_token": "token"}
    inventory = {"matrix_retiring": {"hosts": {"matrix.example.org": host}}}
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


@pytest.mark.parametrize("command", [command for command in commands(ALL) if command not in TRIED])
def test_command(command: str, repository: Path) -> None:
    """Whatever is not typed elsewhere is tried as far as that changes nothing."""
    words = [word for word in shlex.split(command, comments=True) if word != "--ask-vault-pass"]
    for tags in option(words, "--tags") + option(words, "--skip-tags"):
        assert set(tags.split(",")) <= STAGES
    for variable in option(words, "-e"):
        assert variable.startswith("@") or variable.partition("=")[0] in {*OPTIONS, *PLAYBOOK_OPTIONS}
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
        case ["register_new_matrix_user", *_]:
            synapse = Path(os.environ.get("LAB_SYNAPSE_PYTHON", ROOT / ".cache/synapse/bin/python"))
            if not synapse.exists():
                pytest.skip("no Synapse here")
            usage = subprocess.check_output([synapse.with_name(words[0]), "--help"], text=True)
            assert all(word in usage for word in words if word.startswith("-"))
        case _:
            pytest.fail("nothing tries this")


@pytest.mark.parametrize("path", FOR_USERS, ids=name_of)
def test_yaml(path: Path, repository: Path) -> None:
    """Each example can be read, by Ansible if it is a play, tasks or an inventory."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!vault", lambda loader, node: loader.construct_scalar(node))
    for text in fenced(path, "yaml"):
        example = yaml.load(text, Loader)  # noqa: S506
        assert example
        file = repository / "example.yml"
        if isinstance(example, list):
            plays = example if "hosts" in example[0] else [{"hosts": "matrix_retiring", "tasks": example}]
            file.write_text(yaml.safe_dump(plays))
            run(repository, "ansible-playbook", "-i", "inventory.yml", str(file), "--syntax-check")
        elif "matrix_retiring" in example:
            file.write_text(yaml.safe_dump(example))
            hosts = json.loads(run(repository, "ansible-inventory", "-i", str(file), "--list"))["_meta"]["hostvars"]
            assert set(hosts) == set(example["matrix_retiring"]["hosts"])


@pytest.mark.parametrize("path", FOR_USERS, ids=name_of)
def test_names(path: Path) -> None:
    """Nothing is misspelt that has a name."""
    text = path.read_text()
    used = set(re.findall(r"(?<![\w./])decommission_\w+", text))
    assert used <= {*OPTIONS, *PLAYBOOK_OPTIONS}
    named = set(re.findall(r"\bmatrixops\.synapse\.(\w+)", text))
    assert named <= MODULES | PLAYBOOKS | ACTION_GROUPS
    assert set(re.findall(r"`(synapse_\w+)`", text)) <= MODULES | {"synapse_only"}  # a value of an option


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
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


def variables_of_readme() -> dict[str, str]:
    """Each variable that has a row, and what it says of the default."""
    rows = {}
    for names, default in re.findall(
        r"^\| (`decommission_[^|]*) \| ([^|]*) ?\|", (ROOT / "README.md").read_text(), re.M
    ):
        cells = [cell.strip() for cell in default.split(",")]
        rows.update(zip_longest(re.findall(r"`(\w+)`", names), cells, fillvalue=""))
    return rows


def test_the_readme_has_all_variables() -> None:
    rows = variables_of_readme()
    assert set(rows) == {*OPTIONS, *PLAYBOOK_OPTIONS}
    for name, cell in rows.items():
        default: Any = OPTIONS[name].get("default") if name in OPTIONS else PLAYBOOK_OPTIONS[name]
        if shown := re.fullmatch(r"`(.*)`", cell):
            assert yaml.safe_load(shown[1]) == default, name
        elif cell:
            assert default is None or len(str(default)) > 20, f"{name} has room for its default"
        else:
            assert default is None, name


def test_the_readme_has_all_there_is() -> None:
    text = (ROOT / "README.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \| ", text, re.MULTILINE)) - set(variables_of_readme()) == MODULES
    assert set(re.findall(r"^\| playbook `matrixops\.synapse\.(\w+)`", text, re.MULTILINE)) == PLAYBOOKS


def test_workflows_run_what_there_is() -> None:
    """All that can be said of them here: they call make as a user does, and try each ansible-core and Synapse."""
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
    assert f"matrix-synapse >={newest}, " in (ROOT / "requirements/synapse.txt").read_text()


def test_the_guide_leads_to_all_howtos() -> None:
    linked = set(re.findall(r"\]\((howto/[\w-]+\.md)\)", (ROOT / "docs/guide.md").read_text()))
    assert linked == {f"howto/{path.name}" for path in HOWTOS}


def test_the_table_of_tests_is_up_to_date() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    check = [sys.executable, "-m", "overview", "--check"]
    assert subprocess.run(check, env=environment, check=False).returncode == 0, "make tests-table writes it"


def test_the_tables_are_from_what_ran() -> None:
    for name, text in table.rendered(table.read()).items():
        assert (ROOT / name).read_text() == text, name
