"""extractor/report.py: the picture of a recording's cuts."""

import numpy as np
import pytest

from extractor import report

LINES = {"background": -70.0, "speech": -20.0, "level": -55.0}


@pytest.mark.parametrize("seconds, rows, row_s", [(5, 1, 60), (60, 1, 60), (61, 2, 60), (7200, 60, 120)])
def test_a_picture_of_cuts_has_a_row_a_minute_and_sixty_rows_at_most(seconds, rows, row_s, tmp_path):
    levels = np.linspace(-80, -20, seconds * 100)
    figure = report.cuts(levels, 0.01, [(0, 2.0, "", ""), (2.0, seconds, "src_0_0.wav", "end")], LINES)
    assert [axes.get_xlim() for axes in figure.axes] == [(i * row_s, (i + 1) * row_s) for i in range(rows)]
    red = [[line.get_xdata()[0] for line in axes.lines if line.get_color() == "red"] for axes in figure.axes]
    assert red[-1] == [seconds]  # the cut inside speech
