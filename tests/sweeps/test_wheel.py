"""The wheel in an environment that has the dependencies but not this checkout, alone and beside another's package."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
FRESH = ("install", "--no-deps", "--no-index", "--force-reinstall")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Environment:
    """A virtual environment, an empty folder to call commands in, and our wheel."""

    folder: Path
    empty: Path
    wheel: Path

    @property
    def packages(self) -> Path:
        return self.folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"

    def call(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            list(map(str, command)), cwd=self.empty, env=environment, capture_output=True, text=True, check=False
        )

    def done(self, *command: str | Path) -> str:
        answer = self.call(*command)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    def pip(self, *arguments: str | Path) -> None:
        self.done(*PIP, "--python", self.folder / "bin/python", *arguments)

    def makemore(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.call(self.folder / "bin/makemore", *arguments)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    (tmp_path / "empty").mkdir()
    build = (*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT)
    subprocess.run(list(map(str, build)), check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    made = Environment(tmp_path / "installed", tmp_path / "empty", wheel)
    made.done(sys.executable, "-m", "venv", "--without-pip", made.folder)
    made.pip(*FRESH, wheel)
    # As a plain path, so that the .pth file of this checkout's editable install is not followed.
    (made.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return made


def test_the_wheel_sweeps_from_an_empty_folder(environment: Environment) -> None:
    where = environment.done(
        environment.folder / "bin/python", "-c", "import makemore, sweeps; print(makemore.__file__, sweeps.__file__)"
    )
    assert where.count(str(environment.packages)) == 2
    out = environment.done(environment.folder / "bin/makemore", "sweep", "study.n_trials=2", "train.steps=50")
    assert "winner: trial" in out
    assert {path.name for path in environment.empty.iterdir()} == {"mlruns"}


def other_sweeps(folder: Path, text: str) -> Path:
    """A wheel of a distribution `sweeps`, which has a package of that name, as the engine of Weights & Biases has."""
    wheel = folder / "sweeps-0.3.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("sweeps/__init__.py", text)
        archive.writestr("sweeps/config/__init__.py", "")
        archive.writestr("sweeps-0.3.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sweeps\nVersion: 0.3.0\n")
        tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("sweeps-0.3.0.dist-info/WHEEL", tag)
        names = ("sweeps/__init__.py", "sweeps/config/__init__.py", *(
            f"sweeps-0.3.0.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD")
        ))  # fmt: skip
        archive.writestr("sweeps-0.3.0.dist-info/RECORD", "".join(f"{name},,\n" for name in names))
    return wheel


@pytest.mark.parametrize("text", ["def next_run(): ...\n", "import a_package_that_is_not_installed\n"])
def test_a_package_sweeps_of_another_distribution_is_named_in_one_line(
    environment: Environment, tmp_path: Path, text: str
) -> None:
    environment.pip(*FRESH, other_sweeps(tmp_path, text))
    answer = environment.makemore("train")
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (1, "", 1)
    assert f"{environment.packages}/sweeps/__init__.py is not ours but of the distribution sweeps" in answer.stderr
    assert "pip uninstall sweeps, then install makemore-sweeps again" in answer.stderr
    environment.pip("uninstall", "--yes", "sweeps")
    answer = environment.makemore("train")
    assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
    assert "files of our package sweeps are missing" in answer.stderr
    assert list(environment.empty.iterdir()) == []
    environment.pip(*FRESH, environment.wheel)
    assert environment.makemore("--version").returncode == 0


def test_another_package_sweeps_before_an_editable_install_is_named_too(
    environment: Environment, tmp_path: Path
) -> None:
    environment.pip(*FRESH, other_sweeps(tmp_path, ""))
    answer = environment.call(sys.executable, "-c", (
        f"import sys; sys.path[:0] = [{str(environment.packages)!r}, {str(ROOT)!r}]\n"
        "from makemore.__main__ import foreign_package; print(foreign_package())"
    ))  # fmt: skip
    assert "is not ours but of the distribution sweeps" in answer.stdout
