"""Several processes train one net."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from tiny import ROOT, assert_near, scalars, tiny_command, tiny_run, weights
from torch import nn

from extractor import UserError, checkpoint, ddp
from extractor.script import EXIT_RESUMABLE
from train import MainArgs, local_batch_size, main


@pytest.fixture
def args(recordings, tmp_path) -> MainArgs:
    return replace(tiny_run(recordings, tmp_path), batch_size=4, precision="fp32", muon=0.0)


def torchrun(*words: str, n: int = 2, restarts: int = 0) -> list[str]:
    return [  # by addresses of this machine that need no name server
        "env", "GLOO_SOCKET_IFNAME=lo", sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(n),
        "--max-restarts", str(restarts), "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0",
        "--local-addr", "127.0.0.1", *words,
    ]


def joined(rank: int, size: int, port: int):
    """This process's place in a team, as torchrun gives it one."""
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }
    return ddp.joined(torch.device("cpu"))


def in_a_team(rank: int, size: int, port: int, folder: Path):
    with joined(rank, size, port) as team:
        x, y = torch.full((2, 3), 1.0 + rank), torch.tensor([10.0 * rank])
        numbers = team.total([x, y], torch.tensor([0.5, rank])).tolist()
        everyones = team.gather({rank: torch.tensor([rank])})
        with team.first_alone():
            seen = sorted(p.name for p in folder.glob("made_by_*"))
            (folder / f"made_by_{rank}").touch()
        net = nn.Linear(2, 1), nn.Linear(1, 1, dtype=torch.float64)
        mine = [*net[0].parameters(), *net[1].parameters(), torch.tensor(rank)]
        with torch.no_grad():
            for parameter in mine:
                parameter.fill_(rank + 1)
        team.align(mine)
        torch.save((team, x, y, numbers, everyones, seen, mine), folder / f"of_{rank}.pt")


def test_sums_and_the_firsts_values_go_to_all_values_are_gathered_in_order_and_the_first_goes_ahead(tmp_path):
    mp.start_processes(in_a_team, (3, free_port(), tmp_path), nprocs=3, start_method="spawn")
    for rank in range(3):
        team, x, y, numbers, everyones, seen, mine = torch.load(tmp_path / f"of_{rank}.pt", weights_only=False)
        assert team == ddp.Team(rank, 3, rank)
        assert torch.equal(x, torch.full((2, 3), 6.0)) and y.item() == 30 and numbers == [1.5, 3.0]
        assert [list(found) for found in everyones] == [[0], [1], [2]] and everyones[2][2].item() == 2
        assert ("made_by_0" in seen) == (rank > 0)
        assert [p.dtype for p in mine] == [torch.float32] * 2 + [torch.float64] * 2 + [torch.int64]
        assert all((p == 1).all() for p in mine) and mine[0].shape == (1, 2)


def leaves_a_team(rank: int, port: int, folder: Path):
    with joined(rank, 2, port) as team:
        team.gather(None)
        torch.optim.AdamW(nn.Linear(1, 1).parameters())  # imports torch._dynamo
        inside = n_threads_of_gloo()
    (folder / f"of_{rank}").write_text(f"{inside > 0} {n_threads_of_gloo()}")


def n_threads_of_gloo() -> int:
    n = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # of others, that end meanwhile
            n += "gloo" in (task / "comm").read_text()
    return n


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_who_has_left_has_no_thread_of_the_team_which_python_would_abort_at_its_end(tmp_path):
    mp.start_processes(leaves_a_team, (free_port(), tmp_path), nprocs=2, start_method="spawn")
    assert [(tmp_path / f"of_{rank}").read_text() for rank in range(2)] == ["True 0", "True 0"]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize("end, left, nccl", [
    (None, True, True), (SystemExit(EXIT_RESUMABLE), True, True), (UserError("disk full"), False, True),
    (None, True, False),
])
def test_on_gpus_nccl_where_there_is_one_is_told_which_and_who_fails_alone_does_not_wait(end, left, nccl, monkeypatch):
    calls = []
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ddp.dist, "is_nccl_available", lambda: nccl)
    monkeypatch.setattr(ddp.dist, "rendezvous", lambda *_, **__: iter([(ddp.dist.HashStore(), 1, 2)]))
    monkeypatch.setattr(ddp.dist, "init_process_group", lambda name, device_id, **_: calls.append((name, device_id)))
    monkeypatch.setattr(ddp.dist, "destroy_process_group", lambda: calls.append("left"))
    said, gpu = sys.stdout, torch.device("cuda", 1)
    with nullcontext() if end is None else pytest.raises(type(end)), ddp.joined(gpu):
        if end is not None:
            raise end
    assert calls == [("nccl", gpu) if nccl else ("gloo", None), *["left"] * left] and sys.stdout is said


@pytest.mark.slow(35)
@pytest.mark.parametrize("turns, sigma_reparam", [(1, True), (2, False)])
def test_two_processes_do_what_one_does_with_the_same_batch(turns, sigma_reparam, args, recordings, tmp_path):
    args = replace(args, steps=20, valid_every=10, model=replace(args.model, sigma_reparam=sigma_reparam))
    main(args)
    fields = {"steps": 20, "valid_every": 10, "batch_size": 4, "muon": 0, "grad_accum_steps": turns}
    command = tiny_command(recordings, tmp_path, "team", args.model, **fields)
    ended = subprocess.run(torchrun(*command), cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]

    one, two = weights(args.folder / "last.pt"), weights(tmp_path / "team" / "last.pt")
    assert_near(one, two)
    ours, theirs = scalars(args.folder), scalars(tmp_path / "team")
    assert theirs["train/loss"] == pytest.approx(ours["train/loss"], rel=1e-5)
    assert theirs["train/log_mse_db"] == pytest.approx(ours["train/log_mse_db"], rel=1e-5)
    for name in ours:
        if name.startswith("valid/") and name != "valid/minutes":
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4, abs=1e-4), name


@pytest.mark.slow(50)
def test_a_killed_process_is_started_again_and_all_end_at_the_same_weights(args, recordings, tmp_path):
    args = replace(args, name="straight", steps=60, valid_every=20)
    main(args)
    command = tiny_command(recordings, tmp_path, "killed", steps=60, valid_every=20, batch_size=4, muon=0)
    last = tmp_path / "killed" / "last.pt"
    process = subprocess.Popen(
        torchrun(*command, restarts=1), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for_step(last, 5, process)
    victim = max(children(process.pid))
    os.kill(victim, signal.SIGKILL)
    assert process.wait(timeout=240) == 0, process.stderr.read()[-3000:]
    one, two = weights(args.folder / "last.pt"), weights(last)
    assert checkpoint.load(last)["step"] == 60
    assert_near(one, two)


@pytest.mark.slow(25)
def test_told_to_end_all_stop_at_the_same_step_and_go_on_from_there(args, recordings, tmp_path):
    command = tiny_command(recordings, tmp_path, "told", steps=2000, valid_every=1000, batch_size=4, muon=0)
    last = tmp_path / "told" / "last.pt"
    process = subprocess.Popen(
        torchrun(*command), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for_step(last, 5, process)
    os.kill(min(children(process.pid)), signal.SIGTERM)  # one of the two
    out, _ = process.communicate(timeout=120)
    step = checkpoint.load(last)["step"]
    assert 5 <= step < 2000 and re.search(rf"told to end at step {step} of 2000, saved; run it again to go on", out)
    assert process.returncode != 0 and f"exitcode  : {EXIT_RESUMABLE}" in out  # of the one that left first


def wait_for_step(path: Path, step: int, process: subprocess.Popen):
    until = time.monotonic() + 120
    while not (path.exists() and checkpoint.load(path)["step"] >= step):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_batch_that_cannot_be_shared_is_refused():
    args = MainArgs(batch_size=6, grad_accum_steps=1)
    assert local_batch_size(args, ddp.Team(0, 3)) == 2
    with pytest.raises(UserError, match="batch_size = 6 cannot be shared by 4 processes: give a multiple of 4"):
        local_batch_size(args, ddp.Team(0, 4))
    with pytest.raises(UserError, match=r"in 4 turns \(MainArgs.grad_accum_steps\): give a multiple of 12"):
        local_batch_size(replace(args, grad_accum_steps=4), ddp.Team(0, 3))
