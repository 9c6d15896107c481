"""Scores of pairs: the numbers, the table, and what is refused."""

import csv

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import nn

import models
from evaluate import EvalArgs, main, score, table
from extractor import UserError

RATE = 44100


@pytest.fixture
def half(monkeypatch):
    """Every checkpoint holds a net that turns its mixture down by half."""
    net = nn.Identity()
    net.args = models.FAMILIES["dptnet"].args(sample_rate=RATE)
    family = models.FAMILIES["dptnet"]._replace(extract=lambda net, mixture: mixture / 2)
    monkeypatch.setattr(models, "load", lambda path: (net, family))


def put(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, RATE, "FLOAT")


def test_pairs_are_extracted_scored_by_kind_and_written_down(tmp_path, half, capsys):
    target, interference = np.random.default_rng(0).normal(size=(2, RATE)) / 10
    target, interference = (x - x.mean() for x in (target, interference))
    interference -= target * (interference @ target) / (target @ target)  # orthogonal: SI-SDR is the energies' ratio
    put(tmp_path / "mixture/a.wav", target + interference)
    put(tmp_path / "target/a.wav", target)
    put(tmp_path / "mixture/b.wav", interference)
    put(tmp_path / "target/b.wav", np.zeros(RATE))
    (tmp_path / "list.tsv").write_text("name\tkind\na\tgame\nb\tabsent\n")

    rows = main(EvalArgs("any.pt", str(tmp_path), str(tmp_path / "out"), device="cpu"))

    before = 10 * np.log10((target @ target) / (interference @ interference))
    assert rows[0]["name"] == "a" and rows[0]["mixture_si_sdr"] == pytest.approx(before, abs=1e-3)
    assert rows[0]["si_sdri"] == pytest.approx(0, abs=1e-3)  # blind to the level
    assert rows[1]["attenuation"] == pytest.approx(20 * np.log10(0.5), abs=1e-3) and np.isnan(rows[1]["si_sdri"])
    out = capsys.readouterr().out
    assert f"| game | 1 | {before:+.1f} ± 0.0 | {before:+.1f} ± 0.0 | " in out
    assert "| absent | 1 | - | - | - | - | -6.0 ± 0.0 |" in out
    with open(tmp_path / "out/scores.tsv", newline="") as f:
        written = list(csv.DictReader(f, delimiter="\t"))
    found = [(row["name"], row["kind"], row["attenuation"]) for row in written]
    assert found == [("a", "game", "nan"), ("b", "absent", "-6.02")]
    estimate, rate = sf.read(tmp_path / "out/estimate/a.wav")
    assert rate == RATE and np.allclose(estimate, (target + interference) / 2, atol=1e-6)


def test_the_table_has_means_deviations_and_the_share_that_gained():
    rows = [
        {"name": str(i), "kind": "game", "mixture_si_sdr": 0.0, "si_sdr": gain, "si_sdri": gain, "attenuation": np.nan}
        for i, gain in enumerate((-1.0, 1.0, 3.0, 5.0))  # mean 2, deviation sqrt 5, two of four above 1
    ]
    assert "| game | 4 | +0.0 ± 0.0 | +2.0 ± 2.2 | +2.0 ± 2.2 | 50% | - |" in table(rows)


def test_a_perfect_estimate_beats_the_mixture_and_silence_is_not_scored_by_si_sdr():
    x, y = torch.randn(2, 1000)
    assert score(mixture=x + y, target=x, estimate=x)["si_sdri"] > 50
    assert np.isnan(score(mixture=y, target=0 * x, estimate=0 * x)["si_sdr"])
    assert score(mixture=y, target=0 * x, estimate=0 * x)["attenuation"] < -100


def test_names_without_a_partner_are_refused(tmp_path):
    put(tmp_path / "mixture/a.wav", np.ones(9))
    put(tmp_path / "target/b.wav", np.ones(9))
    with pytest.raises(UserError, match=r"must hold files of the same names \(a, b\)"):
        main(EvalArgs("any.pt", str(tmp_path)))


def test_two_files_of_one_name_are_refused(tmp_path):
    for name in ("a.flac", "a.wav"):
        (tmp_path / "mixture").mkdir(exist_ok=True)
        sf.write(tmp_path / "mixture" / name, np.zeros(9), RATE)
    put(tmp_path / "target/a.wav", np.zeros(9))
    with pytest.raises(UserError, match=r"a\.flac: a\.wav has the same name"):
        main(EvalArgs("any.pt", str(tmp_path)))


def test_a_target_of_another_length_is_refused(tmp_path, half):
    put(tmp_path / "mixture/a.wav", np.ones(9) / 2)
    put(tmp_path / "target/a.wav", np.ones(8) / 2)
    with pytest.raises(UserError, match="a.wav: 9 samples, its target 8; they must be as long"):
        main(EvalArgs("any.pt", str(tmp_path), str(tmp_path / "out"), device="cpu"))


def test_a_pair_that_cannot_be_read_is_refused(tmp_path, half):
    put(tmp_path / "target/a.wav", np.ones(9) / 2)
    (tmp_path / "mixture").mkdir()
    (tmp_path / "mixture/a.wav").write_text("no sound")
    with pytest.raises(UserError, match="1 pairs could not be extracted"):
        main(EvalArgs("any.pt", str(tmp_path), str(tmp_path / "out"), device="cpu"))
