"""The correlation in the published stages against SciPy on the file's own lists."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import surprisal

PROGRAM = Path(surprisal.__file__)


def test_the_rows_are_those_of_the_files(shared):
    found = surprisal.rows(shared / "reference")
    assert [row["model"] for row in found] == list(surprisal.PUBLISHED)
    for row in found:
        bits, steps = [], []
        samples = json.loads((shared / "reference" / f"{row['model']}.json").read_text())["samples"]
        for sample in samples.values():
            base = sample["variants"]["base"]
            bits += sample["surprisal"][1 : base["horizon"]]
            steps += base["steps"][1 : base["horizon"]]
        bits, steps = np.array(bits), np.array(steps)
        assert (row["texts"], row["stages"]) == (len(samples), len(bits))
        assert row["spearman"] == pytest.approx(stats.spearmanr(bits, steps).statistic)
        more = steps > 1
        assert row["more_than_one_step"] == pytest.approx(stats.spearmanr(bits[more], steps[more]).statistic)
        assert row["one_step_share"] == pytest.approx(np.mean(steps == 1))
        assert row["one_step_bits"] == pytest.approx(bits[steps == 1].mean())
        low, high = row["interval"]
        assert low < row["spearman"] < high


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "give the directory"), ("{}", "restore it"), ('{"samples": {}}', "restore it")],
)
def test_files_that_are_not_there_or_no_stages_are_one_line(content, complaint, tmp_path):
    if content is not None:
        (tmp_path / "llama31_8b.json").write_text(content)
    done = subprocess.run([sys.executable, PROGRAM, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path / 'llama31_8b.json'}: ")
    assert complaint in line
