"""predict in many threads, also while the estimator is fitted again, and behind a real server."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sklearn_metakan import KANClassifier, MetaKANRegressor, load

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guide" / "scale.md"
THREADS = 16
RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 5)).astype(np.float32)
Y = X[:, 0] + np.sin(X[:, 1])
SMALL = {"hidden_layer_sizes": (4,), "n_estimators": 2, "max_iter": 4, "random_state": 0}


def answers(ask, n_calls):
    """Of so many calls from many threads, with the rows that each was about."""
    parts = [slice(k % 20, k % 20 + 1 + 7 * k % 300) for k in range(n_calls)]
    with ThreadPoolExecutor(THREADS) as pool:
        return [*zip(parts, pool.map(ask, parts), strict=True)]


@pytest.mark.parametrize("with_gaps", [False, True])
def test_many_threads_get_what_one_gets(with_gaps):
    rows = np.where(RNG.random(X.shape) < 0.1, np.nan, X) if with_gaps else X
    labels = np.digitize(Y, [-1, 1])
    for model in (MetaKANRegressor(**SMALL).fit(rows, Y), KANClassifier(**SMALL).fit(rows, labels)):
        ask = model.predict_proba if hasattr(model, "classes_") else model.predict
        expected = ask(rows)
        for part, found in answers(lambda part, ask=ask: ask(rows[part]), 100):
            np.testing.assert_allclose(found, expected[part], rtol=1e-5, atol=1e-6)


def test_each_call_sees_one_state_while_others_fit():
    model = MetaKANRegressor(**SMALL).fit(X, Y)
    first = model.predict(X)
    second = MetaKANRegressor(**SMALL).fit(X, -Y).predict(X)
    with ThreadPoolExecutor(1) as other:
        refit = other.submit(lambda: [model.fit(X, sign * Y) for sign in (-1, 1, -1, 1, -1)])
        found = []
        while not refit.done():
            found += answers(lambda part: model.predict(X[part]), 40)
        refit.result()
    np.testing.assert_allclose(model.predict(X), second, rtol=1e-4, atol=1e-5)
    for part, each in found:
        near = [np.allclose(each, whole[part], rtol=1e-4, atol=1e-5) for whole in (first, second)]
        assert any(near)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(port, rows):
    data = json.dumps({"rows": rows}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", data, headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


@pytest.mark.slow
def test_the_service_of_the_guide(tmp_path):
    model = MetaKANRegressor(**SMALL).fit(X, Y)
    model.save(tmp_path / "model.safetensors")
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if "FastAPI()" in block]
    (tmp_path / "serve.py").write_text(code, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "serve:app", "--port", str(port)]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    server = subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE
    )
    try:
        for _ in range(300):
            try:
                post(port, X[:1].tolist())
                break
            except urllib.error.URLError:
                assert server.poll() is None, server.stderr.read().decode()
                time.sleep(0.2)
        expected = load(tmp_path / "model.safetensors").predict(X)
        for part, found in answers(lambda part: post(port, X[part].tolist()), 200):
            np.testing.assert_allclose(found, expected[part], rtol=1e-5, atol=1e-6)
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(port, X[:1, :3].tolist())
        assert refused.value.code == 422
        assert "features" in json.load(refused.value)["detail"]
    finally:
        server.terminate()
        server.wait(timeout=30)
