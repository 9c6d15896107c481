"""Curves are read as TensorBoard reads them, but without looking at the sound and the pictures between them."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from extractor import curves


def write(folder, first: int, last: int, offset: float = 0.0, suffix: str = "", **how):
    """A curve of step / 8 + offset."""
    with SummaryWriter(str(folder), filename_suffix=suffix, **how) as writer:
        for step in range(first, last + 1):
            writer.add_scalar("loss/train", step / 8 + offset, step)


def files(folder) -> list:
    return sorted(folder.glob("events*"))


def test_curves_are_tensorboards_own_with_sound_and_pictures_between(tmp_path):
    rng = np.random.default_rng(0)
    with SummaryWriter(str(tmp_path)) as writer:
        for step, loss in enumerate(rng.normal(size=20)):
            writer.add_scalar("loss/train", loss, step)
            if step % 5 == 0:
                writer.add_scalar("valid/SI-SDRi дБ", 10 * loss, step)
                writer.add_audio("valid/estimate", rng.uniform(-1, 1, 30_000), step, 44100)
                figure = Figure()
                figure.subplots().plot(rng.normal(size=100))
                writer.add_figure("valid/spectrogram", figure, step)
                writer.add_text("note", "short, and no number", step)
                writer.add_image("small", rng.uniform(size=(3, 4, 4)), step)
    theirs = EventAccumulator(str(tmp_path))
    theirs.Reload()
    expected = {tag: [(e.step, e.value) for e in theirs.Scalars(tag)] for tag in theirs.Tags()["scalars"]}
    assert set(expected) == {"loss/train", "valid/SI-SDRi дБ"} and len(expected["loss/train"]) == 20
    assert curves.read(tmp_path) == expected


def test_the_values_are_those_that_were_written(tmp_path):
    write(tmp_path, 0, 3)
    assert curves.read(tmp_path) == {"loss/train": [(0, 0.0), (1, 0.125), (2, 0.25), (3, 0.375)]}
    assert curves.read(str(tmp_path)) == curves.read(tmp_path)


@pytest.mark.parametrize("how", [{}, {"purge_step": 4}])
def test_of_steps_that_a_resumed_run_did_again_the_later_value_counts(how, tmp_path):
    write(tmp_path, 1, 6, suffix=".first")
    write(tmp_path, 4, 8, offset=100, suffix=".second", **how)
    first, second = sorted(files(tmp_path), key=lambda p: p.suffix)
    first.rename(tmp_path / "events.out.tfevents.1700000000.host.9.0")
    second.rename(tmp_path / "events.out.tfevents.1700000001.host.1.0")
    values = [(step, step / 8 + (100 if step >= 4 else 0)) for step in range(1, 9)]
    assert curves.read(tmp_path) == {"loss/train": values}


def test_what_a_resumed_run_took_back_is_gone(tmp_path):
    write(tmp_path, 1, 9, suffix=".first")
    write(tmp_path, 4, 6, offset=100, suffix=".second", purge_step=4)
    first, second = sorted(files(tmp_path), key=lambda p: p.suffix)
    first.rename(tmp_path / "events.out.tfevents.1700000000.host.1.0")
    second.rename(tmp_path / "events.out.tfevents.1700000001.host.1.0")
    assert [step for step, _ in curves.read(tmp_path)["loss/train"]] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("lost", [1, 4, 5, 20, 40])
def test_a_last_record_that_is_cut_off_is_left_out(lost, tmp_path):
    write(tmp_path, 1, 5)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-lost])
    assert curves.read(tmp_path) == {"loss/train": [(1, 0.125), (2, 0.25), (3, 0.375), (4, 0.5)]}


def test_a_sound_that_is_cut_off_is_no_end_of_the_other_files(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss/train", 0.5, 1)
        writer.add_audio("valid/estimate", np.random.default_rng(0).uniform(-1, 1, 30_000), 1, 44100)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    path.rename(tmp_path / "events.out.tfevents.1700000000.host.1.0")
    write(tmp_path, 2, 2)
    assert curves.read(tmp_path) == {"loss/train": [(1, 0.5), (2, 0.25)]}


def test_a_damaged_file_is_read_up_to_the_damage(tmp_path):
    write(tmp_path, 1, 5)
    (path,) = files(tmp_path)
    content = path.read_bytes()
    for junk in (b"\xff" * 100, b"\x00" * 100, (50).to_bytes(8, "little") + bytes(range(200, 250)) * 2):
        path.write_bytes(content + junk)
        assert [step for step, _ in curves.read(tmp_path)["loss/train"]] == [1, 2, 3, 4, 5]


def test_where_nothing_was_trained_there_is_no_curve(tmp_path):
    assert curves.read(tmp_path) == {} == curves.read(tmp_path / "nowhere")
    (tmp_path / "events.out.tfevents.1.host.1.0").touch()
    assert curves.read(tmp_path) == {}
