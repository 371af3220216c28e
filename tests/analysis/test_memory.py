"""Feature analyses of a full-size model stay small in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# VmHWM starts anew with the program; getrusage's ru_maxrss inherits the peak of the process that
# started this one, here of the whole test run.
SCRIPT = """
import re, torch, zoo
from pathlib import Path
from zoo.analysis.fourier import fourier_analysis
from zoo.analysis.nonlocality import nonlocality_study
torch.manual_seed(0)
model = zoo.create_model("convit_base")
x = torch.randn(32, 3, 224, 224)
for study in (fourier_analysis, nonlocality_study):
    study(model, [x])
peak_kib = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)
print(int(peak_kib) / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_convit_base_on_32_images_stays_under_4_gib() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 4.0, f"{float(done.stdout):.2f} GiB"
