"""The commands of README and docs, each as it stands there, on recordings small enough for a test; and their tables."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": (ROOT / "README.md").read_text()} | {  # in the order in which their commands are run
    f"docs/{name}.md": (ROOT / f"docs/{name}.md").read_text()
    for name in (
        "training", "base", "models", "extraction", "evaluation", "bootstrap", "results", "data", "slicing", "walk",
        "log",
    )
}
COMMANDS = list(dict.fromkeys(
    line for page in PAGES.values() for block in re.findall(r"```bash\n(.*?)```", page, re.S)
    for line in block.strip().split("\n")
))
PROGRAMS = sorted({block for page in PAGES.values() for block in re.findall(r"```python\n(.*?)```", page, re.S)})
SIMPLE = "mkdir", "python -m webbrowser"  # run as they stand
RATE = 44100
SMALL = {  # appended, so that a test is over in seconds
    "train.py": "--steps 2 --minutes 0 --valid-every 2 --batch-size 2 --workers 0 --data.segment-s 0.5"
    " --data.n-valid 4",
    "infer.py": "",
    "bootstrap.py": "--share 0.5 --confidence 0.5 --n-remixes 8 --perceptual False",
    "tools.export": "",
    "evaluate.py": "",
    "tools.compare": "",
    "check.py": "",
    "slicer.py": "",
    "demo.py": "",
    "tools.make_pairs": "--n-each 1 --seconds 1",
    "bench.conditions": "--only 17",
    "bench.timeline": "",
    "bench.promise": "--conditions hiss\\ -50\\ dBFS",
    "bench.base": "--base none --steps 0 --scratch-steps",
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The repository with recordings where README says they lie, and the same ones again as $DATA."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in [*(p.name for p in ROOT.glob("*.py")), "requirements.txt"]:
        shutil.copy(ROOT / name, folder)
    for name in ("extractor", "bench", "tools", "pretrained"):
        shutil.copytree(ROOT / name, folder / name)
    rng = np.random.default_rng(0)
    clean = [f"clean/{who}/set/src_{n}_0.wav" for who in ("speaker", "alice") for n in (0, 1)]
    dirty = ["game/src_0.ogg", "voices/bob.flac", "music/src_0.ogg", "voices/eve.flac"]
    paths = [f"datasets/{x}" for x in clean] + [f"datasets/dirty/other/{x}" for x in dirty]
    paths += [f"DATA/datasets/dirty/other/{x}" for x in dirty] + [f"DATA/raw/kathleen/src_{n}.flac" for n in (0, 1)]
    paths += [f"DATA/new/{x}/a.flac" for x in ("clean/kathleen", "pairs/kathleen/mixture", "pairs/kathleen/target")]
    paths += ["DATA/voices/source/dave.ogg", *(f"DATA/unseen/pairs/{y}/a.flac" for y in ("mixture", "target"))]
    paths += [f"{x}datasets/dirty/{who}/game/src_0.ogg" for x, who in (("", "alice"), ("DATA/", "kathleen"))]
    paths += [f"evaluation/{y}/a.flac" for y in ("mixture", "target")]
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        sf.write(folder / path, rng.uniform(-0.3, 0.3, 2 * RATE), RATE)
    for n in (0, 1):  # to slice: 4 s of sound, 1 s of quiet
        (folder / "datasets/raw/alice").mkdir(parents=True, exist_ok=True)
        quiet = np.where(np.arange(20 * RATE) % (5 * RATE) < 4 * RATE, 1, 1e-3)
        sf.write(folder / f"datasets/raw/alice/talk_{n}.flac", rng.uniform(-0.3, 0.3, 20 * RATE) * quiet, RATE)
    return folder


def run(command: str, folder: Path) -> str:
    environment = os.environ | {
        "DATA": "DATA", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "BROWSER": "true",
    }
    ended = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    return ended.stdout


@pytest.mark.slow(400)
def test_every_command_on_recordings_runs(checkout):
    """In the order of the pages: what one writes, the next reads."""
    seen = set()
    for command in COMMANDS:
        if command.startswith("tensorboard"):
            assert "audio" in run(f"{command} --inspect", checkout)
        elif command.startswith(SIMPLE):
            run(command, checkout)
        elif not command.startswith("pip"):
            script = re.fullmatch(r"(?:python|.*torchrun) .*?(\w+\.py|(?:bench|tools)\.\w+).*", command)[1]
            once = "--model.n-layers 1" if "--dry-run" in command else ""  # of fullband-base, which takes its time
            once += "" if "rnnoise" in command or script != "evaluate.py" else "--perceptual False"  # it takes its time
            run(f"{command} {SMALL[script]} {once}", checkout)
            seen.add(script)
    assert seen == SMALL.keys() - {"demo.py"}
    for program in PROGRAMS:
        given = "import numpy as np; samples, rate = np.ones((500, 2), 'float32'), 16000"
        (checkout / "program.py").write_text(f"{given}\n{program}\nassert estimate.shape == samples.shape")
        run("python program.py", checkout)
    assert sf.info(checkout / "extracted/alice/game/src_0.wav").frames == 2 * RATE
    for page in ("extracted/alice", "results/alice", "results/alice_unseen", "results/unseen"):
        assert "</html>" in (checkout / page / "index.html").read_text()
    clips = sorted((checkout / "datasets/clean/alice/talks").glob("src_*.wav"))
    assert len(clips) >= 2 and all(5 <= sf.info(clip).duration <= 15 for clip in clips)
    assert (checkout / "datasets/clean/alice/talks/src_0.png").stat().st_size > 5_000


@pytest.mark.slow(300)
def test_the_demo_improves_held_out_mixtures_by_more_than_6_db(checkout):
    (command,) = [c for c in COMMANDS if c.endswith("python demo.py")]
    out = run(command.split(" && ")[1], checkout)
    assert "mean improvement where the target is present: +" in out
    report = json.loads((checkout / "demo/results/scores.json").read_text())
    rows = report["scores"]["mei"]
    assert np.mean([row["si_sdri"] for row in rows if "si_sdri" in row]) > 6
    assert np.mean([row["residual_level"] for row in rows if "residual_level" in row]) < -15
    for item in report["items"]:
        assert sf.info(checkout / f"demo/results/estimate/mei/{item['name']}.wav").frames == 6 * RATE
        assert (checkout / "demo/results" / item["sound"]).stat().st_size > 100_000


def test_the_install_lines_name_files_that_are_there():
    lines = [c for c in COMMANDS if c.startswith("pip")]
    assert len(lines) == 3
    for line in lines:
        assert (ROOT / re.search(r"-r (\S+)", line)[1]).exists()


def test_the_table_of_presets_is_that_of_the_code():
    import models
    from bench.families import cost

    rows = re.findall(r"\| `(\w+-\w+)` \|.*\| ([\d,]+) \| ([\d.]+) \|", PAGES["docs/models.md"])
    assert [name for name, _, _ in rows] == list(models.PRESETS)
    for name, n_parameters, gmac_per_s in rows:
        counted = cost(models.PRESETS[name])
        assert (n_parameters, gmac_per_s) == (f"{counted.n_parameters:,}", f"{counted.gmac_per_s:.2f}"), name


def test_the_tables_of_the_race_of_conditions_and_of_the_base_are_those_of_the_results():
    from bench import base, conditions, race

    paths = "families/learning.json", "conditions/conditions.json", "base/base.json"
    raced, under, based = (json.loads((ROOT / "results" / path).read_text()) for path in paths)
    assert race.costs(raced) in PAGES["docs/results.md"] and race.quality(raced) in PAGES["docs/results.md"]
    assert all(conditions.table(rows) in PAGES["docs/data.md"] for rows in under["conditions"].values())
    assert base.table(based["rows"]) in PAGES["docs/base.md"]


def test_every_fault_in_the_docs_has_its_test():
    there = "".join(path.name + path.read_text() for path in (ROOT / "tests").glob("*.py"))
    rows = re.findall(r"^\|.*\|.*\|(.*)\|$", (ROOT / "docs/files.md").read_text(), re.M)
    named = [name for row in rows for name in re.findall(r"`([a-z0-9_.]+)`", row)]
    assert len(named) > 40 and [name for name in named if name not in there] == []


def test_the_readme_is_short():
    assert len(PAGES["README.md"].encode()) <= 10_000


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    def anchors(text: str) -> set[str]:
        heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
        return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}  # as GitHub makes them

    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        path, _, anchor = link.partition("#")
        if not path.startswith("http"):
            target = (ROOT / page).parent / path if path else ROOT / page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("page, section, result, n_tables", [
    ("README.md", "What to expect", "from_base", 1),
    ("docs/results.md", "Twelve minutes from the base", "from_base", 2),
    ("docs/results.md", "Unseen games, voices and sentences", "unseen", 2),
    ("docs/results.md", "The demo", "demo", 1),
    ("docs/results.md", "The first evaluation set", "kathleen", 2),
])
def test_the_tables_of_scores_are_those_of_the_results(page, section, result, n_tables):
    from extractor.scoring import MEASURES, PRESENT, Interval

    summary = json.loads((ROOT / "results" / result / "scores.json").read_text())["summary"]
    ours = list(summary)[1]
    (text,) = [part for part in PAGES[page].split("\n## ") if part.startswith(section)]
    tables = re.findall(r"\| system \|(.*)\n\| ---.*\n((?:\|.*\n)+)", text)
    tables = [(head, rows) for head, rows in tables if re.search(rf"^\| \**{ours}\b", rows, re.M)]
    assert len(tables) == n_tables
    of = {"the mixture": "mixture"} | {name: name for name in summary}
    for head, rows in tables:
        titles = [title.strip().removesuffix(" > 1 dB") for title in head.split("|")[:-1]]
        for row in rows.strip().split("\n"):
            label, *cells = (cell.strip() for cell in row.replace("*", "").split("|")[1:-1])
            name = of[label.lower().removesuffix(" (enrolled)")]
            for title, cell in zip(titles, cells, strict=True):
                measure = next(m for m in MEASURES if MEASURES[m].title == title.split(", ")[0])
                kind = title.partition(", ")[2] or ("absent" if measure == "residual_level" else PRESENT)
                expected = Interval(*summary[name][kind][measure])
                with_interval = "[" in cell
                if with_interval:
                    assert cell == expected.text(MEASURES[measure]), (label, title)
                else:
                    value = float(cell.rstrip("%"))
                    digits = len(cell.rstrip("%").partition(".")[2])
                    assert value == pytest.approx(expected.mean, abs=0.5001 * 10**-digits), (label, title)
