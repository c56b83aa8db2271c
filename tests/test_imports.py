"""Who may import whom: extract -> features <- heads, live above them, and what a Mac that only trains never loads."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from feature_files import finished, python

TOP = Path(__file__).resolve().parents[1]
PACKAGES = ("features", "extract", "heads", "live")
HEAVY = ["h5py", "torch", "av", "torchvision", "transformers", "matplotlib"]


def modules_of(package: str) -> list[str]:
    """The dotted names of a package's modules, from its files."""
    paths = sorted((TOP / package).rglob("*.py"))
    return [".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__") for path in paths]


def path_of(module: str) -> Path:
    path = TOP.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports_of(module: str) -> Iterator[str]:
    """The dotted names that a module imports anywhere in it; `from a import b` gives both a and a.b."""
    for node in ast.walk(ast.parse(path_of(module).read_text(encoding="utf-8"))):
        yield from names_in(node)


def names_in(node: ast.AST) -> Iterator[str]:
    """The dotted names that a node of a module imports: none where it is no import."""
    if isinstance(node, ast.Import):
        yield from (name.name for name in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "an import by a relative path"
        yield node.module
        yield from (f"{node.module}.{name.name}" for name in node.names)


def imports_of_functions(module: str) -> set[str]:
    """The dotted names that the functions of a module import when they run."""
    tree = ast.parse(path_of(module).read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {name for function in functions for node in ast.walk(function) for name in names_in(node)}


def packages_of(module: str) -> set[str]:
    """The top packages that a module imports."""
    return {name.split(".")[0] for name in imports_of(module)}


ALL_MODULES = [module for package in PACKAGES for module in modules_of(package)]


def importers_of(package: str) -> set[str]:
    return {module for module in ALL_MODULES if package in packages_of(module)}


def test_every_package_has_modules() -> None:
    """Or the tests below would say nothing."""
    assert all(len(modules_of(package)) > 5 for package in ("features", "extract", "heads"))
    assert modules_of("live")


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("features", {"extract", "heads", "live"}), ("extract", {"heads", "live"}), ("heads", {"extract"})],
)
def test_imports_point_one_way(package: str, forbidden: set[str]) -> None:
    violations = {module: packages_of(module) & forbidden for module in modules_of(package)}
    assert {module: names for module, names in violations.items() if names} == {}


def of_live(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "live"}


def test_only_commands_of_heads_import_live_and_only_when_they_run() -> None:
    """So that what trains, scores and reports without a picture never needs what decodes one."""
    importers = importers_of("live") - set(modules_of("live"))
    assert {module for module in importers if not module.startswith("heads.commands.")} == set()
    for module in importers:
        assert of_live(imports_of(module)) == of_live(imports_of_functions(module)), module


# ---- within a package: a folder or file imports only from those before it

ORDER = {
    "features": (
        *("errors", "interrupts", "progress", "files", "console", "tensors", "device", "dealing", "annotations"),
        "actions",
        *("pickle_machine", "pickles", "frames", "checkpoints"),
        *("views", "intervals", "windows", "failures", "featureset", "predictions", "store", "direct", "check"),
        *("challenge_json", "prediction_formats", "prediction_copies"),
        *("segment_dataset", "reading", "formats", "merging", "import_videos", "importing", "exporting", "cli"),
    ),
    "extract": (
        *("backbone_input", "decode", "sampling", "views", "regions", "colour_changes", "pictures", "transfer"),
        *("preprocess", "clips", "backbones"),
        *("weights", "listing"),
        *("backbones.table", "videos"),
        *("forward", "pipeline", "outcome", "tasks", "summary", "provenance", "extraction", "showing"),
        *("commands", "cli"),
    ),
    "heads": (
        *(
            "config",
            "registry",
            "locks",
            "prediction_files",
            "runs",
            "data",
            "models",
            "losses",
            "scoring",
            "ensembles",
            "submission",
        ),
        *("predict", "training", "sweep", "report", "api", "commands", "cli"),
    ),
    "live": (
        *("frames", "boxes", "gallery"),
        *("windows", "backbone", "features", "run", "actions", "overlay", "pictures", "screen", "camera", "recent"),
        *("watch", "stream"),
    ),
}


def room_of(module: str) -> str:
    """The name in the order that a module belongs to: its folder, "data" for heads.data.layout, or itself."""
    package, _, name = module.partition(".")
    return name if name in ORDER[package] else name.split(".")[0]


def arrows_of(package: str) -> set[tuple[str, str, str]]:
    """Every import between two rooms of a package, as importing room, imported room and importing module."""
    modules = set(modules_of(package)) - {package}
    return {
        (room_of(module), room_of(target), module)
        for module in modules
        for target in modules & set(imports_of(module))
        if room_of(module) != room_of(target)
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_and_file_has_its_place_in_the_order(package: str) -> None:
    assert {room_of(module) for module in modules_of(package) if module != package} == set(ORDER[package])


def arrows_against(order: tuple[str, ...], arrows: set[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """The arrows that point to a room that comes later in the order."""
    return {arrow for arrow in arrows if order.index(arrow[1]) > order.index(arrow[0])}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_to_what_is_earlier_in_the_order(package: str) -> None:
    assert arrows_against(ORDER[package], arrows_of(package)) == set()


def test_an_arrow_against_the_order_is_found() -> None:
    """Or the test above would say nothing."""
    downwards = ("data", "config", "heads.data.layout")
    upwards = ("data", "models", "heads.data.layout")
    assert downwards in arrows_of("heads")
    assert arrows_against(ORDER["heads"], {downwards, upwards}) == {upwards}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_names_its_functions_and_loads_nothing(package: str) -> None:
    imports = {name for name in imports_of(package) if name.split(".")[0] in PACKAGES}
    assert all(name.startswith(f"{package}.") or name == package for name in imports)
    assert loaded_modules([package], [*HEAVY, "pandas", "numpy"]) == []


# ---- libraries


def test_only_the_store_and_the_files_of_others_import_h5py() -> None:
    assert importers_of("h5py") == {"features.store", "features.formats.files"}


def test_only_the_format_that_needs_it_imports_lmdb() -> None:
    assert importers_of("lmdb") == {"features.formats.rulstm"}


def test_only_what_decodes_or_encodes_pictures_imports_av() -> None:
    names = ("container", "probing", "video", "streams", "through", "frames")
    decoding = {f"extract.decode.{name}" for name in names}
    assert importers_of("av") == {*decoding, "live.pictures"}


def test_only_the_window_and_the_camera_import_opencv() -> None:
    assert importers_of("cv2") == {"live.screen", "live.camera"}


def test_the_window_is_there_before_av_is() -> None:
    """Or OpenCV hangs: both bring a library for windows."""
    assert loaded_modules(["heads.cli", "heads.commands.watch", "live.screen", "live.camera"], ["av", "cv2"]) == []


def test_only_the_plots_of_a_report_import_matplotlib() -> None:
    assert importers_of("matplotlib") == {"heads.report.figure", "heads.report.best_plots"}


def test_torchvision_and_transformers_stay_in_extract() -> None:
    users = importers_of("torchvision") | importers_of("transformers")
    assert {module.split(".")[0] for module in users} <= {"extract"}


def test_only_what_writes_pictures_for_people_imports_pillow() -> None:
    assert importers_of("PIL") == {"extract.showing", "live.gallery", "live.overlay"}


def test_no_module_imports_a_command_line() -> None:
    command_lines = {f"{package}.cli" for package in PACKAGES}
    violations = {module: command_lines & set(imports_of(module)) for module in ALL_MODULES}
    assert {module: names for module, names in violations.items() if names} == {}


LOAD = """
import importlib, sys
for name in sys.argv[1].split(","):
    importlib.import_module(name)
unwanted = sys.argv[2].split(",")
print(*[name for name in unwanted if name in sys.modules])
"""


def loaded_modules(modules: list[str], unwanted: list[str]) -> list[str]:
    """Those of the `unwanted` that a new process has loaded once it has imported `modules`."""
    code, out, err = finished(python(LOAD, ",".join(modules), ",".join(unwanted)))
    assert code == 0, err
    return out.split()


@pytest.mark.parametrize(("package", "other"), [("features", "heads"), ("heads", "extract")])
def test_package_loads_nothing_that_only_extraction_needs(package: str, other: str) -> None:
    unwanted = ["av", "torchvision", "transformers", "matplotlib", "extract", "live", other]
    assert loaded_modules(modules_of(package), unwanted) == []


# What computes on numbers and text alone, and so can be tested in milliseconds and used anywhere.
PURE = {
    "features": [
        *("intervals", "windows", "annotations", "actions", "dealing", "failures", "featureset", "errors", "files"),
    ],
    "extract": [
        *("backbone_input", "sampling", "decode.packets", "decode.pieces", "decode.damage", "decode.shown"),
        "tasks.sharding",
        *("regions.boxes", "regions.crops", "regions.tables", "regions.hand_objects", "regions.source"),
        *("backbones", "listing", "weights.published", "weights.pretrained_files"),
    ],
    "heads": [
        *("config", "registry", "models.catalogue", "losses.catalogue", "losses.class_counts"),
        *("sweep.grid", "sweep.halving"),
    ],
}
PURE_MODULES = [f"{package}.{name}" for package, names in PURE.items() for name in names]


@pytest.mark.parametrize("module", PURE_MODULES)
def test_pure_modules_load_no_heavy_library(module: str) -> None:
    assert loaded_modules([module], HEAVY) == []


@pytest.mark.parametrize("package", ["extract", "heads"])
def test_help_of_a_command_line_loads_no_torch(package: str) -> None:
    code = f"""
import sys
from {package}.cli import main
main(["--help"], prog_name="{package}", standalone_mode=False)
print("torch" in sys.modules, file=sys.stderr)
"""
    exit_code, out, err = finished(python(code))
    assert (exit_code, err) == (0, "False\n")
    assert out.startswith(f"Usage: {package}")


@pytest.mark.parametrize("command", [["heads", "list"], ["heads", "list", "--json"], ["extract", "backbones"]])
def test_a_list_loads_no_torch(command: list[str]) -> None:
    program, *words = command
    code = f"""
import sys
from {program}.cli import main
main({words!r}, prog_name={program!r}, standalone_mode=False)
print([name for name in {[*HEAVY, "numpy", "pandas"]!r} if name in sys.modules], file=sys.stderr)
"""
    exit_code, out, err = finished(python(code))
    assert (exit_code, err) == (0, "[]\n")
    assert len(out.splitlines()) > 5
