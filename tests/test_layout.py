"""Who imports whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = {"train", "infer", "export", "evaluate", "compare", "demo", "check"}
FAMILIES = {"dptnet", "rwkvnet", "bandsplit", "fullband", "flow"}
FOR_NETS = {f"extractor.{name}" for name in "precision attention spectrum dualpath sigma rwkv7 recompute".split()}
LEAVES = (
    "files audio tables levels cuts landmarks metrics chunked checkpoint command device "
    "scores stop ddp augment report provenance perceptual rivals precision spectrum parallel recompute"
)
PLUMBING = {f"extractor.{name}" for name in LEAVES.split()}
LAYERS = {f"extractor.{name}" for name in ("dualpath", "sigma", "rwkv7")}
OVER = "losses curves page pairs unpack index journal fit attention muon optim progress material profile"
OVER_PLUMBING = {f"extractor.{name}" for name in OVER.split()}
BELOW_ALL = {"extractor", "extractor.files"}
ALLOWED = {
    "extractor": set(),
    **dict.fromkeys(PLUMBING, set()),
    **dict.fromkeys(LAYERS, {"extractor.precision", "extractor.spectrum"}),
    "extractor.losses": {"extractor.metrics"},
    "extractor.ledger": {"extractor.tables"},
    "extractor.pairs": {"extractor.audio"},
    "extractor.profile": {"extractor.audio", "extractor.levels"},
    "extractor.unpack": {"extractor.audio"},
    "extractor.index": {"extractor.audio", "extractor.tables"},
    "extractor.curves": {"extractor.tables"},
    "extractor.fit": {"extractor.parallel", "extractor.ddp", "extractor.tables"},
    "extractor.progress": {"extractor.checkpoint", "extractor.sigma", "extractor.optim"},
    "extractor.attention": {"extractor.precision"},
    "extractor.muon": {"extractor.precision"},
    "extractor.optim": {"extractor.muon"},
    "extractor.journal": {"extractor.curves", "extractor.report"},
    "extractor.page": {"extractor.tables", "extractor.scores"},
    **dict.fromkeys(FAMILIES, FOR_NETS),
    "extractor.material": {f"extractor.{x}" for x in ("audio", "index", "levels", "profile", "unpack")},
    "dataset": {f"extractor.{x}" for x in ("audio", "augment", "levels", "material")},
    "models": FAMILIES | {"extractor.losses", "extractor.checkpoint", "extractor.sigma"},
    **dict.fromkeys(SCRIPTS, FAMILIES | PLUMBING | LAYERS | OVER_PLUMBING | {"models", "dataset"}),
}
ALLOWED["flow"] = FOR_NETS | {"extractor.losses", "fullband", "bandsplit"}
ALLOWED["demo"] = ALLOWED["demo"] | {"train", "infer", "evaluate"}
ALLOWED["evaluate"] = ALLOWED["evaluate"] | {"infer"}
ALLOWED["slicer"] = {f"extractor.{x}" for x in "audio levels cuts ledger command report".split()}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(p): p for p in [*ROOT.glob("*.py"), *ROOT.glob("extractor/*.py")]}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in below if name in MODULES} or {node.module}
    return {name for name in found if name in MODULES} - BELOW_ALL


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_what_lies_below_it(name):
    assert imports(MODULES[name]) <= ALLOWED[name]


def test_datasets_is_no_package():
    assert not list(ROOT.glob("datasets/**/__init__.py"))
