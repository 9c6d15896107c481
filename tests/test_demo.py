"""demo.py: what of an earlier call is used. (README's line itself is run by test_readme.py.)"""

import pytest
import torch

import demo
from extractor import UserError, tables


def test_a_set_made_of_other_numbers_is_not_taken_for_this_one(tmp_path):
    args = demo.DemoArgs(str(tmp_path), speech_minutes=6, n_pairs=4)
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "list.tsv").touch()
    demo.make_set(tmp_path, args)  # of a version that noted nothing
    tables.write_json(tmp_path / "made.json", {"speech_minutes": 6.0, "n_pairs": 4})
    demo.make_set(tmp_path, args)
    tables.write_json(tmp_path / "made.json", {"speech_minutes": 6.0, "n_pairs": 8})
    with pytest.raises(UserError, match="has a set of .*'n_pairs': 8.*; choose another DemoArgs.folder, or"):
        demo.make_set(tmp_path, args)


@pytest.mark.parametrize("device, workers", [("cpu", 0), ("cuda", None)])
def test_a_gpu_does_not_wait_for_one_process_that_makes_mixtures(device, workers, tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(demo, "make_set", lambda *_: None)
    monkeypatch.setattr(demo, "pick_device", torch.device)
    monkeypatch.setattr(demo.train, "steps_that_fit", lambda plan, minutes: runs.append(plan) or round(100 * minutes))
    monkeypatch.setattr(demo.train, "main", lambda plan: runs.append(plan) or tmp_path / "best.pt")
    monkeypatch.setattr(demo.evaluate, "main", lambda args: {"scores": {"mei": [{"si_sdri": 1.0}]}})
    demo.main(demo.DemoArgs(str(tmp_path), train_minutes=3, device=device))
    assert [run.workers for run in runs] == [workers, workers] and runs[1].steps == 300  # measured as it is trained
