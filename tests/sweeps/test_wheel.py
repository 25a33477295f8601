import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_sweeps_from_an_empty_folder(tmp_path: Path) -> None:
    """Installed into an environment that has the dependencies but not this checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def call(*command: str | Path, folder: Path = tmp_path) -> str:
        answer = subprocess.run(
            list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    call(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT)
    [wheel] = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    call(sys.executable, "-m", "venv", "--without-pip", installed)
    python = installed / "bin" / "python"
    packages = installed / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    call(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    # As a plain path, so that the .pth file of this checkout's editable install is not followed.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    empty = tmp_path / "empty"
    empty.mkdir()
    where = call(python, "-c", "import makemore, sweeps; print(makemore.__file__, sweeps.__file__)", folder=empty)
    assert where.count(str(packages)) == 2
    out = call(installed / "bin" / "makemore", "sweep", "study.n_trials=2", "train.steps=50", folder=empty)
    assert "winner: trial" in out
    assert {path.name for path in empty.iterdir()} == {"mlruns"}
