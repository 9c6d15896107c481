"""tools/make_pairs.py: pairs of what training does not hear."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE
from scored import put

from dataset import MixtureArgs
from extractor import UserError, audio
from extractor.material import find_material, held_out
from extractor.scoring import find_pairs
from tools import make_pairs
from tools.make_pairs import PairArgs


@pytest.fixture
def args(tmp_path) -> PairArgs:
    """Clean recordings hum at 300 and 400 Hz, every scene at a frequency of its own."""
    t = np.arange(8 * RATE) / RATE
    for path, hz in {
        "clean/alice/src_0.wav": 300, "clean/alice/src_1.wav": 400, "dirty/other/forest/src_0.wav": 700,
        "dirty/other/forest2/src_0.wav": 900, "dirty/other/voices/bob.wav": 1100, "dirty/other/voices/eve.wav": 1300,
    }.items():
        put(tmp_path / path, 0.2 * np.sin(2 * np.pi * hz * t), RATE)
    return PairArgs(
        (f"{tmp_path}/clean/alice",), (f"{tmp_path}/dirty/other",), ("forest", "voices/bob"), f"{tmp_path}/out",
        snr_db=(-5.0, 5.0), seconds=1.0, n_each=2, sample_rate=RATE,
    )


def loudest_hz(x: np.ndarray) -> int:
    return int(np.abs(np.fft.rfft(x)).argmax())  # of a second


def test_pairs_are_of_held_out_sentences_under_these_scenes_at_these_snrs(args, tmp_path):
    make_pairs.main(args)
    pairs = find_pairs(Path(args.out_dir) / "pairs")
    data = MixtureArgs(args.clean, args.dirty)
    clean = find_material(data).clean
    (held,) = held_out([r.path for r in clean], [r.seconds for r in clean], data)
    own = {"src_0": 300, "src_1": 400}[held.stem]
    assert len(pairs) == 2 * 4 * 2 and {p.snr_db for p in pairs if p.kind != "absent"} == {-5, 5}
    for pair in pairs:
        mixture, target = (audio.read(r, 0, r.frames, RATE) for r in (pair.mixture, pair.target))
        under = mixture - target
        if pair.kind == "absent":
            assert not target.any() and loudest_hz(under) == 1100
            continue
        assert loudest_hz(target) == own
        assert loudest_hz(under) in {"game": [700], "voice": [1100], "both": [700, 1100]}[pair.kind]
        ratio = 10 * np.log10(np.square(target).sum() / np.square(under).sum())
        assert ratio == pytest.approx(pair.snr_db, abs=0.05)


def test_everything_else_is_linked_to_train_on(args):
    make_pairs.main(replace(args, scenes=("forest2", "voices/eve")))
    make_pairs.main(args)  # over what is there
    seen = Path(args.out_dir) / "seen/other"
    assert {str(p.relative_to(seen)) for p in audio.find(seen)} == {"forest2/src_0.wav", "voices/eve.wav"}
    material = find_material(MixtureArgs(args.clean, (str(seen),)))
    assert [len(kind) for kind in material] == [2, 1, 1]


@pytest.mark.parametrize("scenes, expected", [
    (("forest", "voices/bob", "swamp"), "nothing under .* is called swamp"),
    (("forest",), "name games and voices, of each at least one"),
    ((), "name games and voices"),
])
def test_scenes_that_are_not_there_or_not_enough_are_refused(args, scenes, expected):
    with pytest.raises(UserError, match=f"PairArgs.scenes: {expected}"):
        make_pairs.main(PairArgs(args.clean, args.dirty, scenes, args.out_dir))
