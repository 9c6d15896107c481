"""Who imports whom: only what lies on a lower level, and never in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEVELS = [
    "extractor",
    "losses augment",
    "fullband multispeaker bandsplit dptnet rwkvnet flow",
    "dataset models",
    "calibration",
    "train infer slicer check evaluate",
    "bootstrap",
    "demo tools bench",
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names.split()}
BESIDE = {  # on its own level
    "flow": {"fullband", "bandsplit"}, "multispeaker": {"fullband"}, "rwkvnet": {"dptnet"}, "evaluate": {"infer"},
}
FOLDERS = "extractor", "tools", "bench"  # whose modules may import each other


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(p): p for p in [*ROOT.glob("*.py"), *(p for f in FOLDERS for p in ROOT.glob(f"{f}/*.py"))]}


def imports(path: Path) -> set[str]:
    """Of modules of this repository, also those inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in below if name in MODULES} or {node.module}
    return {name for name in found if name in MODULES}


def top(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_what_lies_below_it(name):
    for other in imports(MODULES[name]):
        beside = top(other) in BESIDE.get(name, ()) or top(other) == top(name) in FOLDERS
        assert LEVEL[top(other)] < LEVEL[top(name)] or beside, other


def test_no_imports_go_in_a_circle():
    TopologicalSorter({name: imports(path) for name, path in MODULES.items()}).prepare()


def test_datasets_is_no_package():
    assert not list(ROOT.glob("datasets/**/__init__.py"))


@pytest.mark.parametrize("name", ["train", "infer", "slicer", "check", "evaluate", "bootstrap"])
def test_the_args_at_a_script_s_foot_repeat_no_default_which_would_override_an_edit_of_the_class(name):
    (call,) = [
        node.value for node in ast.parse((ROOT / f"{name}.py").read_text()).body
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == ["args"]
    ]
    assert call.func.id.endswith("Args") and not call.args and not call.keywords
