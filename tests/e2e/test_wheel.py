"""What is installed is whole: a wheel is built, installed into a fresh environment, and used there."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from shell import ROOT, output_of

# Before 70.1, setuptools needs the package wheel to build one, and nothing is fetched here.
_CAN_BUILD = find_spec("setuptools") is not None and (
    find_spec("setuptools.command.bdist_wheel") is not None or find_spec("wheel") is not None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.skipif(not _CAN_BUILD, reason="no setuptools here that builds wheels; pip install 'setuptools>=70.1'"),
]

PACKAGES = ("features", "extract", "heads", "live")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of the sources, as building writes beside them."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation")
    output_of(*pip, "--wheel-dir", copy / "dist", ".", folder=copy, timeout_s=1800)
    return next((copy / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def bin_folder(wheel, tmp_path_factory) -> Path:
    """The bin folder of a fresh environment with the wheel; the libraries that it needs come from this environment."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-deps", "--no-index")
    output_of(*pip, wheel, folder=folder, timeout_s=1800)
    # Read after the wheel's own folder, so that ours is imported from there.
    library_paths = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site_packages / "borrowed.pth").write_text("\n".join(library_paths))
    return folder / "bin"


def test_wheel_holds_every_file_of_the_packages(wheel):
    files = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.*")}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {name for name in files if "__pycache__" not in name}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_imported_from_the_wheel(package, bin_folder, tmp_path):
    script = f"import {package}; print({package}.__file__)"
    output = output_of(bin_folder / "python", "-c", script, folder=tmp_path, timeout_s=600)
    assert Path(output.strip()).is_relative_to(bin_folder.parent)


@pytest.mark.parametrize("program", [package for package in PACKAGES if package != "live"])
def test_program_of_the_wheel_answers(program, bin_folder, tmp_path):
    assert f"Usage: {program} " in output_of(bin_folder / program, "--help", folder=tmp_path, timeout_s=600)


def test_report_of_the_wheel_has_its_style_and_script(bin_folder, tmp_path):
    script = "from importlib.resources import files; print(files('heads.report').joinpath('page.css').read_text())"
    assert "{" in output_of(bin_folder / "python", "-c", script, folder=tmp_path, timeout_s=600)
