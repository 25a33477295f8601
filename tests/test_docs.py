"""What README and docs/ say is so: links lead somewhere, and commands work.

A block ```sh holds commands. The blocks of a page run in order, in one folder. Comments in a page tell what its reader
does not see: `<!-- not run: REASON -->` before a block of commands, whose overrides are then only composed;
`<!-- file: PATH -->` before a block that is the content of a file; `<!-- needs: NAME, ... -->` before a block of
commands that need studies or files to be there; `<!-- run with: python -->` before a block that is not of commands.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Makemore, own_environment
from hydra.core.override_parser.overrides_parser import OverridesParser
from packaging.requirements import Requirement

TOP = Path(__file__).parents[1]
PAGES = sorted(
    [*TOP.glob("*.md"), *(TOP / "docs").glob("*.md"), *(TOP / "examples").glob("*/*.md")],
    key=lambda path: path.as_posix(),
)
FENCE = re.compile(
    r"(?:^<!-- (not run|file|needs|run with): (.+?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the comment before it."""

    page: str
    kind: str | None
    remark: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Its lines of `makemore`, without comments; a line that ends with a backslash goes on."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.startswith("makemore ")]


def name_of(page: Path) -> str:
    return page.relative_to(TOP).as_posix()


def blocks_of(page: Path) -> list[Block]:
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(name_of(page), kind, remark or "", language, text) for kind, remark, language, text in
            (match.groups() for match in found)]  # fmt: skip


def prose_of(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        if not to.exists() or (anchor and anchor not in anchors_of(to)):
            broken.append(target)
    assert broken == []


def test_the_security_page_names_files_that_exist() -> None:
    named = re.findall(r"`((?:sweeps|tests)/[\w./]+\.py)`", (TOP / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) >= 12
    assert [path for path in named if not (TOP / path).is_file()] == []


def test_a_block_of_commands_is_marked_as_one() -> None:
    unmarked = [
        (block.page, block.text)
        for page in PAGES
        for block in blocks_of(page)
        if block.language in ("", "bash", "console", "shell") and re.search(r"^(\$ )?make", block.text, re.MULTILINE)
    ]
    assert unmarked == []


def in_prose(page: Path) -> list[str]:
    """Commands inside of sentences and tables that have an override."""
    return [text for text in re.findall(r"`(makemore [^`]*=[^`]*)`", prose_of(page)) if "(" not in text]


def all_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in blocks_of(page):
            yield from ((block.page, command) for command in block.commands if block.language == "sh")
        yield from ((name_of(page), command) for command in in_prose(page))


def test_the_keys_and_values_of_every_command_exist(
    makemore: Makemore, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is composed, without its sweep words and without config groups that the page's reader is to write."""
    failed, tried = [], 0
    for page, command in all_commands():
        _, name, *words = shlex.split(command, comments=True)
        if "--config-dir" in words or "=ID" in command or "..." in command:
            continue
        overrides = OverridesParser.create().parse_overrides(words)
        plain = [word for word, override in zip(words, overrides, strict=True) if not override.is_sweep_override()]
        answer = makemore(name, *plain, "--cfg", "job")
        tried += 1
        if answer.code != 0:
            failed.append((page, command, answer.err))
    assert failed == []
    assert tried > 30


def run_blocks() -> dict[str, list[Block]]:
    """The blocks that are run or written, by page; the commands of the examples are run by their own test."""
    found = {}
    for page in PAGES:
        blocks = [block for block in blocks_of(page) if block.kind in ("file", "run with") or block.language == "sh"]
        if "examples" not in page.parts and any(block.kind not in ("file", "not run") for block in blocks):
            found[name_of(page)] = blocks
    return found


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small studies, `first` and `second`."""
    folder = tmp_path_factory.mktemp("studies")
    for name in ("first", "second"):
        words = (
            "space=none",
            "model.hidden_neurons=8,16,24",
            "train.steps=60",
            "study.workers=1",
            f"study.name={name}",
        )
        quick = ("study.confirm.top=1", "study.confirm.seeds=2", "study.pictures=false", "study.register=false")
        command = [sys.executable, "-m", "makemore", "sweep", *words, *quick]
        subprocess.run(command, cwd=folder, env=own_environment(), check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", run_blocks())
def test_the_commands_of_a_page_work(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**own_environment(), "PATH": path, "COLUMNS": "200"}
    ran = 0
    for block in run_blocks()[page]:
        if block.kind == "needs":
            for name in block.remark.split(", "):
                if name == "studies":
                    shutil.copytree(request.getfixturevalue("studies"), folder, dirs_exist_ok=True)
                else:
                    shutil.copy(TOP / "tests" / name, folder)
        if block.kind == "file":
            (folder / block.remark).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.remark).write_text(block.text, encoding="utf-8")
        elif block.kind != "not run":
            shell = ["bash", "-euo", "pipefail"] if block.language == "sh" else [block.remark]
            answer = subprocess.run(
                [*shell, "-c", block.text],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert answer.returncode == 0, (block.text, answer.stderr)
            ran += 1
    assert ran > 0


@pytest.mark.slow
def test_the_pages_are_built_as_a_site_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    answer = subprocess.run(command, cwd=TOP, env=environment, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert 'href="studies.html"' in index
    assert 'href="examples/gru/index.html"' in index


def test_the_constraints_are_within_the_ranges_of_the_project() -> None:
    lines = (TOP / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    needed = [Requirement(line) for line in (*project["dependencies"], *extras)]
    for requirement in needed:
        if requirement.name != project["name"]:
            assert pins[requirement.name.lower()] in requirement.specifier, requirement
