"""The recipes for serving: started as their first lines say, asked by fifty clients at once."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENTS, REQUESTS, BAD = 50, 200, 7  # every seventh image is damaged: its neighbours must not be


def _post(name: str, port: int, data: bytes) -> tuple[int, Any, float]:
    """Status, answer and milliseconds."""
    path, body, kind = "/", data, "application/octet-stream"
    if name == "litserve":
        text = base64.b64encode(data).decode()
        path, body, kind = "/predict", json.dumps({"image": text}).encode(), "application/json"
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"Content-Type": kind}, method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    started = time.perf_counter()
    try:
        with opener.open(request, timeout=60) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read()
    return status, json.loads(text), 1000 * (time.perf_counter() - started)


@contextmanager
def _serving(name: str, model: Path, folder: Path, image: bytes) -> Iterator[int]:
    """The port of a server that answers; it is stopped afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log.txt"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, f"examples/serve_{name}.py", str(model), str(port)],
            cwd=ROOT,
            env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 240
        while True:
            with suppress(OSError, ValueError):
                if _post(name, port, image)[0] == 200:
                    break
            ended = server.poll() is not None or time.monotonic() > deadline
            assert not ended, log.read_text(errors="replace")[-3000:]
            time.sleep(0.5)
        yield port
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ray", "litserve"])
def test_fifty_clients_get_right_answers_and_a_damaged_image_status_400(
    name: str, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = {"ray": "ray.serve", "litserve": "litserve"}[name]
    found = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True)
    if found.returncode:
        pytest.skip(f"needs {module}: pip install 'convattn-zoo[serve]'")
    import export

    files = [ROOT / "examples" / f"digit_{i}.png" for i in range(10)]
    expected = [p.to_dict()["top"] for p in export.open_predictor(exported).predict(files)]
    images = [file.read_bytes() for file in files]
    with _serving(name, exported, tmp_path, images[0]) as port:

        def ask(number: int) -> tuple[int, Any, float]:
            data = images[number % 10]
            return _post(name, port, data[: len(data) // 2] if number % BAD == 0 else data)

        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = list(clients.map(ask, range(REQUESTS)))
    for number, (status, answer, _) in enumerate(answers):
        if number % BAD == 0:
            assert (status, answer["detail"][:20]) == (400, "the image is damaged"), answer
            continue
        assert status == 200, answer
        top, true = answer["top"], expected[number % 10]
        assert top[0]["label"] == true[0]["label"] == str(number % 10)
        assert top[0]["probability"] == pytest.approx(true[0]["probability"], abs=1e-5)
    p50, p99 = np.percentile([took for *_, took in answers], [50, 99])
    with capsys.disabled():
        print(f"\n{name}: {CLIENTS} clients, p50 {p50:.0f} ms, p99 {p99:.0f} ms")
