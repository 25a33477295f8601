import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

PACKAGES = Path(__file__).parents[2]


def test_the_language_models_load_no_hydra_optuna_or_mlflow() -> None:
    modules = [f"makemore.{path.stem}" for path in (PACKAGES / "makemore").rglob("*.py") if path.stem != "__init__"]
    code = f"import sys, {', '.join(modules)}; print(*sorted(name.split('.')[0] for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not {"hydra", "omegaconf", "optuna", "mlflow", "pandas", "sweeps"} & set(loaded)


def imports_of(path: Path) -> set[str]:
    """Dotted names of what a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def sources() -> list[Path]:
    """Every module of ours, in sub-packages too; the benchmarks' peers are not ours."""
    packages = [path for name in ("makemore", "sweeps", "hydra_plugins") for path in (PACKAGES / name).rglob("*.py")]
    return packages + list((PACKAGES / "benchmarks").glob("*.py"))


def modules(paths: Iterable[Path]) -> set[str]:
    """Paths below the top folder, as text."""
    return {path.relative_to(PACKAGES).as_posix() for path in paths}


def test_the_language_models_import_torch_and_the_standard_library_only() -> None:
    outside = set()
    for path in (PACKAGES / "makemore").rglob("*.py"):
        outside |= {name.split(".")[0] for name in imports_of(path)} - sys.stdlib_module_names
    assert outside == {"torch", "makemore"}


def test_only_the_room_of_the_records_imports_mlflow() -> None:
    users = modules(path for path in sources() if any(name.split(".")[0] == "mlflow" for name in imports_of(path)))
    files = ("artifacts", "datasets", "pyfunc_model", "queries", "registry", "runs", "store")
    assert users == {f"sweeps/tracking/{name}.py" for name in files}
    assert not any("sweeps.tracking.pyfunc_model" in imports_of(path) for path in sources())


def test_no_module_but_the_final_test_opens_the_door_to_the_test_split() -> None:
    door = {"makemore.held_out", "makemore.held_out.read_test_words", "makemore.held_out.share_of"}
    assert modules(path for path in sources() if door & imports_of(path)) == {"sweeps/look/final_test.py"}
    users = modules(path for path in sources() if names_in(path) & {"deal", "read_test_words", "share_of"})
    assert users == {"makemore/data.py", "makemore/held_out.py", "sweeps/look/final_test.py"}


def names_in(path: Path) -> set[str]:
    """Every name that a module uses, also behind a dot."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }
