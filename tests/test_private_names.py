"""Private names of other projects: those in the code are those in docs/architecture.md, with reason and test."""

import ast
import importlib
import inspect
import re
from pathlib import Path

TOP = Path(__file__).parents[1]
OURS = ("makemore", "sweeps", "hydra_plugins")


def modules() -> list[Path]:
    return [path for name in OURS for path in sorted((TOP / name).rglob("*.py"))]


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def names_of_ours() -> set[str]:
    """Private names that our own modules define: functions, classes, variables, attributes and keys of configs."""
    ours = {"_target_", "_partial_"}  # Hydra's documented keys
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    ours.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    ours.add(name)
                case ast.Attribute(attr=name, value=ast.Name(id="self")):
                    ours.add(name)
    return ours


def private_names() -> set[str]:
    """Dotted private names of others that our modules import, name in a string or use behind a dot."""
    ours, found = names_of_ours(), set()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.ImportFrom(module=module, names=names) if module:
                    found |= {f"{module}.{alias.name}" for alias in names if is_private(f"{module}.{alias.name}")}
                case ast.Import(names=names):
                    found |= {alias.name for alias in names if is_private(alias.name)}
                case ast.Attribute(attr=name) if is_private(name) and name not in ours:
                    found.add(name)
                case ast.Constant(value=str(text)) if re.fullmatch(r"[a-z]\w*(\.\w+)+", text) and is_private(text):
                    found.add(text)
    return found


def overridden() -> set[str]:
    """Private methods of other projects' classes that classes of ours override."""
    found = set()
    for path in modules():
        if path.name == "pyfunc_model.py":  # MLflow runs it as a script, and warns where it is imported
            continue
        module = importlib.import_module(".".join(path.relative_to(TOP).with_suffix("").parts))
        for own in vars(module).values():
            if inspect.isclass(own) and own.__module__ == module.__name__:
                others = [base for base in own.__mro__[1:] if base.__module__.partition(".")[0] not in OURS]
                names = {name for name, value in vars(own).items() if inspect.isfunction(value) and is_private(name)}
                found |= {name for name in names if any(name in vars(base) for base in others)}
    return found


def rows() -> list[list[str]]:
    """The table of docs/architecture.md, without its head."""
    text = (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = text.partition("## Private names of other projects")[2].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return table[2:]


def test_the_private_names_in_the_code_are_those_of_the_architecture_page() -> None:
    assert private_names() | overridden() == {row[0].strip("`") for row in rows()}


def test_each_private_name_has_a_place_a_reason_and_a_test_that_exists() -> None:
    for name, where, reason, test in rows():
        path = TOP / where.strip("`")
        assert path.is_file(), name
        assert name.strip("`").rpartition(".")[2] in path.read_text(encoding="utf-8"), name
        assert len(reason.split()) >= 5, name
        file, _, function = test.strip("`").partition("::")
        assert f"def {function}(" in (TOP / file).read_text(encoding="utf-8"), name
