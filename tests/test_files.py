"""extractor/files.py: what was there stays until what replaces it is whole, whatever the name and the disk; which file
is which."""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from tiny import alone_in_elsewhere

from extractor import UserError, audio, cache
from extractor.files import atomic_write, content_hash, folder_lock, shortened


def test_a_name_as_long_as_a_disk_takes_can_be_written(tmp_path):
    path = tmp_path / ("あ" * 83 + "a.wav")  # 254 bytes of 255
    with atomic_write(path) as aside:
        aside.write_text("new")
        assert aside.parent == tmp_path and aside != path
    assert path.read_text() == "new" and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("n_bytes, cut", [(2, ""), (8, "あい"), (9, "あいう"), (99, "あいう.wav")])
def test_names_are_cut_between_letters(n_bytes, cut):
    assert shortened("あいう.wav", n_bytes) == cut


def test_a_compressed_recording_of_a_long_name_is_unpacked(tmp_path):
    path = tmp_path / ("い" * 82 + ".flac")
    audio.write(path, [[0.25] * 8000], 8000, 8000, subtype="PCM_16")
    (found,) = cache.unpack([audio.probe(path)], tmp_path / "out", 1e9)
    assert found.unpacked.is_file() and audio.read(found, 0, 8000, 8000).tolist() == [0.25] * 8000


def test_two_that_write_the_same_file_at_once_both_can_and_leave_one(tmp_path):
    path = tmp_path / "a.json"
    with atomic_write(path, shared=True) as first:
        first.write_text("first")
        with atomic_write(path, shared=True) as second:
            second.write_text("second")
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["a.json"]


def test_a_folder_is_for_one_process_until_it_ends_however_it_does(tmp_path):
    with alone_in_elsewhere(tmp_path / "new"):
        with pytest.raises(UserError, match="another process is at work there; end it, or choose another folder"):
            with folder_lock(tmp_path / "new"):
                pass
    with folder_lock(tmp_path):
        child = os.fork()  # with all that is open here; it outlives the claim, and does not hold it
        if not child:
            time.sleep(60)
            os._exit(0)
    with alone_in_elsewhere(tmp_path):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize(("number", "remedy"), [(errno.ENOSPC, "make room, and run again"),
                                                (errno.EROFS, "choose another output folder")])
def test_a_full_disk_is_no_reason_to_begin_elsewhere_also_where_nothing_may_be_removed(
    number, remedy, tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "unlink", refuse)  # a read-only disk says so of what is not there, too
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(UserError, match=rf"a\.json: cannot be written \({os.strerror(number)}\); {remedy}"):
        with atomic_write(tmp_path / "a.json"):
            refuse()
    assert (tmp_path / "a.json").read_text() == "old"


def test_where_there_are_no_locks_nothing_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr("extractor.files.fcntl", None)
    with alone_in_elsewhere(tmp_path), folder_lock(tmp_path):
        assert (tmp_path / ".lock").exists()


@pytest.mark.parametrize(("n_refusals", "then"), [(5, "new"), (1000, "old")])
def test_a_file_that_another_program_holds_for_a_moment_is_replaced_after_it(n_refusals, then, tmp_path, monkeypatch):
    """As on Windows."""
    replace, refusals = os.replace, iter(range(n_refusals))

    def held(*paths):
        if next(refusals, None) is not None:
            raise PermissionError(13, "The process cannot access the file because it is used by another process")
        replace(*paths)

    monkeypatch.setattr(os, "replace", held)
    (tmp_path / "a.json").write_text("old")
    with nullcontext() if then == "new" else pytest.raises(UserError, match="cannot be written .*another process"):
        with atomic_write(tmp_path / "a.json") as aside:
            aside.write_text("new")
    assert (tmp_path / "a.json").read_text() == then and os.listdir(tmp_path) == ["a.json"]


def test_a_disk_that_is_full_is_named_so_where_sound_is_written(tmp_path):
    """libsndfile says of it only "System error"."""
    program = f"""
import resource, numpy as np
from extractor import audio
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
audio.write({str(tmp_path / "a.wav")!r}, [np.zeros(50_000, np.float32)], 50_000, 44100)
"""
    root = Path(__file__).parent.parent
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root)
    assert ended.stderr.strip().endswith("a.wav: cannot be written (File too large); make room, and run again")
    assert os.listdir(tmp_path) == []


def test_a_lock_needs_the_name_of_a_folder_that_can_be_made(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    cannot = "cannot be written .*; choose another folder"
    for folder, message in (("", "the output folder has no name"), (tmp_path / "out", f"out: {cannot}"),
                            (tmp_path / "out/alice", f"out/alice: {cannot}")):
        with pytest.raises(UserError, match=message), folder_lock(folder):
            pass


def test_a_file_is_the_same_under_any_name_and_another_where_a_byte_at_either_end_or_its_size_is(tmp_path):
    edge = 1 << 16
    content = np.random.default_rng(0).bytes(5 * edge)
    contents = [content, content[:-1], content + b"\0", content + content[-edge:], content[edge:] + content[:edge]]
    contents += [bytes(n) for n in (0, 1, edge, edge + 1, 5 * edge, 6 * edge)]  # zeros
    for at in (0, edge - 1, 4 * edge, 5 * edge - 1):
        contents.append(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    prints = []
    for name in ("{}.wav", "ü {} 音.flac"):
        paths = [tmp_path / name.format(i) for i in range(len(contents))]
        for path, x in zip(paths, contents, strict=True):
            path.write_bytes(x)
        prints.append([content_hash(path) for path in paths])
    assert prints[0] == prints[1] and len(set(prints[0])) == len(contents)
    with pytest.raises(UserError, match=r"missing\.wav: cannot be read \("):
        content_hash(tmp_path / "missing.wav")
