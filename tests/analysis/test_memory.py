"""Feature analyses of a full-size model stay small in memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch, zoo
from zoo.analysis.fourier import fourier_analysis
from zoo.analysis.attention_distance import nonlocality_study
torch.manual_seed(0)
model = zoo.create_model("convit_base")
x = torch.randn(32, 3, 224, 224)
for study in (fourier_analysis, nonlocality_study):
    study(model, [x])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_convit_base_on_32_images_stays_under_4_gib() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 4.0, f"{float(done.stdout):.2f} GiB"
