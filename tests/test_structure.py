"""The house: which way imports point, who may import MLflow, who opens the door to the test split.

Every check also runs on a copy of the tree with a planted fault, and must find it.
"""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PACKAGES = ("makemore", "sweeps", "hydra_plugins")
# Lowest first: each imports only rooms that stand before it.
ROOMS = (
    ("errors",),
    ("connections",),
    ("databases",),
    ("config",),
    ("task",),
    ("search",),
    ("tracking",),
    ("trials",),
    ("reports",),
    ("study",),
    ("look",),
    ("commands",),
    ("api", "cli"),
    ("__main__",),
)
DOOR = "sweeps.task.held_out"


def sources(top: Path) -> list[Path]:
    """Every module of ours, in sub-packages too; the benchmarks' peers are not ours."""
    paths = [path for name in PACKAGES for path in sorted((top / name).rglob("*.py"))]
    return paths + sorted((top / "benchmarks").glob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Dotted names that a module imports, anywhere in it, and modules that it names in a string."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
        elif isinstance(node, ast.Constant) and str(node.value).startswith("sweeps."):
            names.add(str(node.value))  # imported late, by name
    return names


def names_in(path: Path) -> set[str]:
    """Every name that a module uses, also behind a dot."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


def room_of(module: str) -> str | None:
    """The room of sweeps that a dotted name is in."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] if package == "sweeps" and rest else None


def rooms(top: Path) -> set[str]:
    return {path.stem for path in (top / "sweeps").iterdir() if path.stem not in ("__init__", "__pycache__", "py")}


def upward_imports(top: Path) -> set[str]:
    """ "FILE imports MODULE" for each import of a room that does not stand lower."""
    floor = {room: number for number, names in enumerate(ROOMS) for room in names}
    found = set()
    for path in (top / "sweeps").rglob("*.py"):
        relative = path.relative_to(top / "sweeps")
        here = relative.parts[0].removesuffix(".py")
        if here == "__init__":
            continue
        for name in imports_of(path):
            room = room_of(name)
            if room in floor and room != here and floor[room] >= floor[here]:
                found.add(f"{relative.as_posix()} imports {name}")
    return found


def modules(paths: Iterator[Path], top: Path) -> set[str]:
    return {path.relative_to(top).as_posix() for path in paths}


def importers_of_mlflow(top: Path) -> set[str]:
    found = (path for path in sources(top) if any(name.partition(".")[0] == "mlflow" for name in imports_of(path)))
    return {name.rpartition("/")[0] for name in modules(found, top)}


def openers_of_the_door(top: Path) -> set[str]:
    """Modules that import the door or use a name of what it dealt."""
    imported = (path for path in sources(top) if any(name.startswith(DOOR) for name in imports_of(path)))
    used = (path for path in sources(top) if names_in(path) & {"deal", "read_test_items", "sketch_test_items"})
    return modules(imported, top) | modules(used, top)


OPENERS = {"makemore/data.py", "sweeps/task/held_out.py", "sweeps/look/earlier.py", "sweeps/look/evaluation.py"}


def test_the_language_models_load_no_hydra_optuna_or_mlflow() -> None:
    paths = [path for path in (TOP / "makemore").rglob("*.py") if path.stem != "__init__"]
    imports = ", ".join(f"makemore.{path.stem}" for path in paths)
    code = f"import sys, {imports}; print(*sorted(name.split('.')[0] for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"hydra", "omegaconf", "optuna", "mlflow", "pandas", "sweeps"} & set(loaded)


def test_the_language_models_import_torch_and_the_standard_library_only() -> None:
    outside = set()
    for path in (TOP / "makemore").rglob("*.py"):
        outside |= {name.split(".")[0] for name in imports_of(path)} - sys.stdlib_module_names
    assert outside == {"torch", "makemore"}


def test_every_room_is_on_the_list_and_imports_only_lower_ones() -> None:
    assert rooms(TOP) == {room for names in ROOMS for room in names} | {"conf"} & rooms(TOP)
    assert upward_imports(TOP) == set()


def test_only_the_room_tracking_imports_mlflow() -> None:
    assert importers_of_mlflow(TOP) == {"sweeps/tracking"}
    assert not any(
        "sweeps.tracking.pyfunc_model" in imports_of(path) for path in sources(TOP)
    )  # MLflow itself loads it


def test_only_the_look_opens_the_door_to_the_test_split() -> None:
    assert openers_of_the_door(TOP) == OPENERS


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the tree to plant faults in."""
    for name in (*PACKAGES, "benchmarks"):
        shutil.copytree(TOP / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def plant(top: Path, room: str, text: str) -> None:
    """Put a module into a new sub-package of a room."""
    folder = top / "sweeps" / room / "planted"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "fault.py").write_text(text)


@pytest.mark.parametrize(
    "text", ["import sweeps.study.study\n", "from sweeps.study import study\n", "NAME = 'sweeps.study.study'\n"]
)
def test_a_planted_upward_import_is_found(copy: Path, text: str) -> None:
    plant(copy, "tracking", text)
    assert {line.partition(" imports ")[0] for line in upward_imports(copy)} == {"tracking/planted/fault.py"}


def test_a_planted_importer_of_mlflow_is_found(copy: Path) -> None:
    plant(copy, "reports", "def late() -> None:\n    import mlflow.artifacts\n")
    assert importers_of_mlflow(copy) == {"sweeps/tracking", "sweeps/reports/planted"}


@pytest.mark.parametrize(
    "text",
    [
        "from sweeps.task import held_out\n",
        "from sweeps.task.held_out import read_test_items as f\n",
        "import makemore.data\nmakemore.data.deal\n",
    ],
)
def test_a_planted_opener_of_the_door_is_found(copy: Path, text: str) -> None:
    plant(copy, "commands", text)
    assert openers_of_the_door(copy) == OPENERS | {"sweeps/commands/planted/fault.py"}
