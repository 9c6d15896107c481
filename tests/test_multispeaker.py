"""One net for many speakers: whom it is told to follow, what it learns from, and the net for one that is made of it."""

import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from mixing import GAME_HZ, RATE, power_at, save, tone
from nets import noise
from torch.testing import assert_close

import models
from dataset import MixtureArgs, MixtureDataset
from extractor import UserError, checkpoint
from extractor.material import find_material
from fullband import FullBand, FullBandArgs
from multispeaker import N_ITEMS, MultiSpeaker, MultiSpeakerArgs, nearest
from train import MainArgs, main

SPEAKERS_HZ = 150, 250, 350
VOICE_HZ = 450
ONE = FullBandArgs(RATE, n_fft=64, hop=16, n_bands=12, width=16, hidden=8, n_layers=2)
MANY = MultiSpeakerArgs(**asdict(ONE), n_speakers=3)


@pytest.fixture
def many() -> MultiSpeaker:
    torch.manual_seed(0)
    net = MultiSpeaker(MANY)
    with torch.no_grad():
        net.vectors.normal_(std=0.3)
    return net


@pytest.fixture
def data(tmp_path) -> MixtureArgs:
    """Three speakers who hum, each at a pitch of their own, another voice, and a game."""
    for hz in SPEAKERS_HZ:
        save(tmp_path / f"clean/of_{hz}/src_0.wav", tone(10, hz))
    save(tmp_path / "dirty/voices/a.wav", tone(10, VOICE_HZ))
    save(tmp_path / "dirty/game/a.wav", tone(10, GAME_HZ))
    return MixtureArgs(
        clean=tuple(str(tmp_path / f"clean/of_{hz}") for hz in SPEAKERS_HZ), dirty=(str(tmp_path / "dirty"),),
        segment_s=0.2, speed=(1, 1), max_shift=0,
    )


# ---------------------------------------------------------------------------------------------------------------------
# the net


def test_whom_it_follows_is_told_for_each_item(many):
    mixture = noise(1, 500)
    of_each = [many(mixture, torch.tensor([i])) for i in range(3)]
    assert min((a - b).abs().max() for a, b in zip(of_each, of_each[1:], strict=False)) > 1e-3
    together = many(mixture.expand(3, -1), torch.tensor([2, 0, 1]))
    assert_close(together, torch.cat([of_each[2], of_each[0], of_each[1]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("speaker", [0, 1, 2, None])
def test_a_net_for_one_is_the_net_for_many_told_to_follow_that_one_and_told_nobody_the_mean_of_all(many, speaker):
    one = many.for_one(many.vectors.mean(0) if speaker is None else many.vectors[speaker])
    assert type(one) is FullBand and one.args == ONE
    told = () if speaker is None else (torch.full((2,), speaker),)
    assert_close(one(noise(2, 500)), many(noise(2, 500), *told), rtol=0, atol=1e-6)


def test_vectors_alone_are_learnt_by_the_speaker_that_was_heard(many):
    many(noise(2, 500), torch.tensor([1, 1])).square().mean().backward()
    assert [bool(gradient.any()) for gradient in many.vectors.grad] == [False, True, False]


def test_nearest_is_the_speaker_whose_voice_the_net_would_extract(many):
    mixture = noise(N_ITEMS, 500)
    for speaker in range(3):
        target = many(mixture, torch.full((N_ITEMS,), speaker)).detach()
        assert nearest(many, mixture, target) == [speaker]


def test_of_many_speakers_a_twentieth_is_near():
    net = MultiSpeaker(replace(MANY, n_speakers=40))
    with torch.no_grad():
        net.vectors.normal_(std=0.3)
        net.vectors[7], net.vectors[30] = net.vectors[3], net.vectors[3]
    mixture = noise(N_ITEMS, 500)
    target = net(mixture, torch.full((N_ITEMS,), 3)).detach()
    found = nearest(net, mixture, target)
    assert len(found) == 2 and {*found} < {3, 7, 30}


# ---------------------------------------------------------------------------------------------------------------------
# what it learns from


@pytest.mark.parametrize("split", ["train", "valid"])
def test_each_speaker_is_the_target_and_the_others_are_voices(data, split):
    mixtures = MixtureDataset(find_material(data), data, RATE, split=split, by_speaker=True)
    targets, voices = set(), {0: set(), 1: set(), 2: set()}
    for i in range(400):
        item = mixtures[0, i % 48 if split == "valid" else i]
        speaker = int(item["speaker"])
        heard = {hz for hz in SPEAKERS_HZ if power_at(item["target"].numpy(), hz) > 1e-6}
        assert heard <= {SPEAKERS_HZ[speaker]}
        targets |= heard
        over = item["interference"].numpy()
        voices[speaker] |= {hz for hz in (*SPEAKERS_HZ, VOICE_HZ, GAME_HZ) if power_at(over, hz) > 1e-6}
    assert targets == set(SPEAKERS_HZ)
    for speaker, own in enumerate(SPEAKERS_HZ):
        others = {*SPEAKERS_HZ, VOICE_HZ, GAME_HZ} - {own}
        assert voices[speaker] <= others and (voices[speaker] == others or split == "valid")


def test_something_of_every_speaker_is_held_out(data):
    material = find_material(data)
    held = material.held_out(data, by_speaker=True)
    assert sorted(path.parent.name for path in held) == [f"of_{hz}" for hz in SPEAKERS_HZ]
    assert list(held.values()) == pytest.approx([1.0] * 3)


def test_without_speakers_all_folders_are_one_person(data):
    mixtures = MixtureDataset(find_material(data), data, RATE, split="train")
    found = [mixtures[0, i] for i in range(100)]
    assert {int(item["speaker"]) for item in found} == {0}
    over = np.array([[power_at(item["interference"].numpy(), hz) for hz in SPEAKERS_HZ] for item in found])
    assert over.max() < 1e-6


@pytest.mark.parametrize("other, message", [
    ("nobody", "clean/nobody: no recordings of this speaker"),
    ("of_150/", r"of_150: named twice in MixtureArgs\.clean"),
])
def test_a_folder_without_recordings_or_that_is_named_twice_is_refused(other, message, data, tmp_path):
    (tmp_path / "clean/nobody").mkdir()
    data = replace(data, clean=(*data.clean, f"{tmp_path}/clean/{other}"))
    with pytest.raises(UserError, match=message):
        MixtureDataset(find_material(data), data, RATE, split="train", by_speaker=True)


# ---------------------------------------------------------------------------------------------------------------------
# by the scripts


@pytest.fixture
def args(data, tmp_path) -> MainArgs:
    return MainArgs(
        runs=str(tmp_path / "runs"), name="base", data=replace(data, n_valid=4), model=replace(MANY, n_speakers=1),
        steps=2, batch_size=4, warmup=1, valid_every=2, workers=0, device="cpu",
    )


def test_it_is_trained_and_goes_on_and_a_net_for_one_starts_from_it(args, capsys):
    best = main(args)
    state = checkpoint.load(main(replace(args, steps=4)))
    assert state["args"]["model"]["n_speakers"] == 3
    assert state["ema"]["vectors"].abs().amax((1, 2, 3)).min() > 0  # all of them were heard

    _, many = models.averaged(state, best)
    one = FullBand(ONE)
    models.start_from(one, best)
    assert_close(one(noise(2, 500)), many(noise(2, 500)), rtol=0, atol=1e-6)

    alice = replace(args, name="alice", data=replace(args.data, clean=args.data.clean[:1]), model=ONE, lr=1e-9)
    trained, family = models.load(path := main(replace(alice, init_from=str(best))))
    assert len(checkpoint.load(path)["clips"]) == 1  # none of the base's
    said = capsys.readouterr().out
    number = int(re.search(r"starts as the mean of 1 of its 3 speakers, number (\d)", said)[1])
    assert family is models.FAMILIES["fullband"]
    expected = many(noise(2, 500), torch.full((2,), number))
    assert_close(trained(noise(2, 500)), expected, rtol=0, atol=1e-5)


def test_an_exported_one_is_a_start_as_well_and_names_no_folder(args, tmp_path):
    best, out = main(args), tmp_path / "exported.pt"
    checkpoint.save(out, models.exported(best))
    assert str(tmp_path) not in repr(checkpoint.load(out))
    nets = FullBand(ONE), FullBand(ONE)
    for net, path in zip(nets, (best, out), strict=True):
        models.start_from(net, path)
    assert_close(*(net.state_dict() for net in nets), rtol=0, atol=0)


def test_it_extracts_nobody_before_it_is_one_persons(args):
    best = main(args)
    with pytest.raises(UserError, match=r"best\.pt: holds a net for 3 speakers, none of them yours; train one for you"):
        models.load(best)


def test_a_run_with_another_speaker_is_another_run(args, tmp_path):
    main(args)
    save(tmp_path / "clean/of_500/src_0.wav", tone(10, 500))
    data = replace(args.data, clean=(*args.data.clean, str(tmp_path / "clean/of_500")))
    with pytest.raises(UserError, match="n_speakers = 3 there, 4 here"):
        main(replace(args, data=data, steps=4))


def test_speakers_in_another_order_are_another_run(args):
    main(args)
    data = replace(args.data, clean=args.data.clean[::-1])
    with pytest.raises(UserError, match="its speakers have other numbers"):
        main(replace(args, data=data, steps=4))
