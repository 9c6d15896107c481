"""extractor/slicing.py: which recordings are known, what the table keeps."""

from pathlib import Path

import numpy as np
import pytest

from extractor import UserError, slicing
from extractor.files import content_hash
from slicer import SlicerArgs, main

EDGE = 1 << 16  # bytes


def row(**fields: str) -> dict:
    return dict.fromkeys(slicing.COLUMNS, "") | fields


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# --- fingerprints ----------------------------------------------------------------------------------------------------


def test_a_file_is_the_same_under_any_name_and_another_where_a_byte_at_either_end_or_its_size_is(tmp_path):
    content = np.random.default_rng(0).bytes(5 * EDGE)
    contents = [content, content[:-1], content + b"\0", content + content[-EDGE:], content[EDGE:] + content[:EDGE]]
    contents += [bytes(n) for n in (0, 1, EDGE, EDGE + 1, 5 * EDGE, 6 * EDGE)]  # zeros
    for at in (0, EDGE - 1, 4 * EDGE, 5 * EDGE - 1):
        contents.append(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    prints = [content_hash(put(tmp_path / f"{i}.wav", content)) for i, content in enumerate(contents)]
    assert prints == [content_hash(put(tmp_path / f"other/ü {i} 音.flac", x)) for i, x in enumerate(contents)]
    assert len(set(prints)) == len(contents)


def test_a_file_that_cannot_be_read_is_the_users_to_put_right(tmp_path):
    with pytest.raises(UserError, match=r"a\.wav: cannot be read \("):
        content_hash(tmp_path / "a.wav")


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["two  words.wav", "Алиса/音声 🎧.wav", 'the "best" take, 1.wav', "a\tb.wav"])
def test_what_is_written_is_read_again(source, tmp_path):
    rows = [row(clip="src_0_0.wav", source=source, seconds="7.25"), row(source=source, reason="pause")]
    slicing.save(tmp_path / "new" / "folder", rows)
    assert slicing.read_table(tmp_path / "new" / "folder") == rows
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == [slicing.TABLE]
    head = (tmp_path / "new" / "folder" / slicing.TABLE).read_text("utf-8").splitlines()[0]
    assert head == "\t".join(slicing.COLUMNS)


HEADER = "\t".join(slicing.COLUMNS)


@pytest.mark.parametrize(
    "content",
    [
        b"slice\tprice\nmargherita\t3\n",
        HEADER.replace("\tforced", "").encode() + b"\nsrc_0_0.wav\n",
        HEADER.encode() + b"\nsrc_0_0.wav\ta.wav\n",
        HEADER.encode() + b"\n" + b"x\t" * len(slicing.COLUMNS) + b"x\n",
        b"slice\tprice\n",
        b"notes on the takes\n",
        "prix\tcafé\n1\t2\n".encode("latin-1"),
    ],
    ids=["other columns", "a column less", "a short row", "a long row", "header only", "one line", "latin-1"],
)
def test_another_table_is_refused_by_name_and_left_alone(content, tmp_path):
    put(tmp_path / "in" / "a.wav", b"")
    table = put(tmp_path / "out" / slicing.TABLE, content)
    refused = r"slices\.tsv: is no table with the columns clip, .*; move it away, or choose another out_dir"
    with pytest.raises(UserError, match=refused):
        main(SlicerArgs(inputs=str(tmp_path / "in"), out_dir=str(tmp_path / "out")))
    assert table.read_bytes() == content


def test_a_table_that_cannot_be_written_is_the_users_to_put_right(tmp_path):
    put(tmp_path / "out", b"a file where the folder should be")
    with pytest.raises(UserError, match=r"slices\.tsv: cannot be written \(.*\); choose another output folder"):
        slicing.save(tmp_path / "out", [row(clip="src_0_0.wav")])
