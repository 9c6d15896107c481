"""The bench of many recordings, on few."""

import re
import subprocess
import sys
from pathlib import Path


def test_the_bench_says_how_long_it_took_both_times():
    command = [sys.executable, "-m", "bench.many_files", "--files", "60", "--items", "4"]
    ended = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True)
    assert re.findall(r"found 60 files the (\w+) time in [\d.]+ s", ended.stdout) == ["first", "second"]
    assert re.findall(r"after (\d) mixtures: \d+ MiB", ended.stdout) == ["2", "4"]
