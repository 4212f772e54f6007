"""Pictures of networks: what is drawn is the network, and a page computes what it predicts."""

import json
import pickle
import re
import subprocess
from base64 import b64decode
from html.parser import HTMLParser
from shutil import which

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANRegressor
from sklearn_metakan.inspection import NetworkDisplay
from sklearn_metakan.inspection import graph as graph_module
from sklearn_metakan.nn import KAN, KANLinear

RNG = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "age": RNG.uniform(20, 80, 80),
        "same": 7.0,
        "</script><b>": RNG.exponential(30, 80),
        "grade": RNG.choice([1.0, 2.0], 80),
    }
)
Y = 0.1 * X["age"] + np.sqrt(X.iloc[:, 2]) * X["grade"]
SHORT = {"n_estimators": 2, "max_iter": 10, "random_state": 0}


@pytest.fixture(scope="module")
def model():
    return MetaKANRegressor((6, 5), **SHORT).fit(X, Y)


def test_the_strongest_units_and_edges_are_drawn(model):
    before = pickle.dumps(model)
    display = NetworkDisplay.from_estimator(model, X, max_units=3, max_edges=4)
    assert pickle.dumps(model) == before
    assert [len(each) for each in display.shown_][-1] == 1
    for k, edges in enumerate(display.edges_):
        layer = display.graph.layers[k]
        assert len(edges) <= 4 and len(display.shown_[k]) <= 3
        assert {*edges[:, 0]} == {*display.shown_[k]} and {*edges[:, 1]} == {*display.shown_[k + 1]}
        for o in display.shown_[k + 1]:  # the strongest into each unit is there
            units = display.shown_[k]
            assert [units[layer.importances[units, o].argmax()], o] in edges.tolist()
    names = {text.get_text() for text in display.axes_.texts}
    assert {"age", "output"} <= names and "same" not in names
    title = display.axes_.get_title()
    drawn = sum(map(len, display.edges_))
    assert f"member 0 of 2: {drawn} of 53 edges; nodes: 3 of 3 - " in title


@pytest.mark.parametrize("network", [KAN([3, 5, 2], bias=True), KANLinear(3, 1), KAN([2, 1])])
def test_modules_are_drawn_too(network):
    display = NetworkDisplay.from_estimator(network)
    assert display.graph.nodes[0][0] == "input 0"
    assert (np.concatenate(display.edges_) >= 0).all()


def test_of_a_wide_network_the_picture_stays_legible():
    display = NetworkDisplay.from_estimator(KAN([40, 32, 32, 3]))
    assert max(map(len, display.shown_)) <= 8 and max(map(len, display.edges_)) <= 12


@pytest.mark.parametrize(
    ("options", "rule"),
    [({"max_units": 0}, "max_units"), ({"max_edges": 0}, "max_edges"), ({"member": 2}, "member")],
    ids=str,
)
def test_wrong_options_are_named(model, options, rule):
    with pytest.raises(ValueError, match=rule):
        NetworkDisplay.from_estimator(model, **options)
    with pytest.raises(NotFittedError):
        NetworkDisplay.from_estimator(KANRegressor())


# --- the page ---------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags in pairs, addresses, and the text of scripts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.scripts, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        self.data = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] == "script":
            self.scripts.append(text)


def page_of(display, tmp_path):
    path = display.to_html(tmp_path / "network.html", n_formulas=0)
    return Page(path.read_text(encoding="utf-8"))


def computed(data, row):
    """What the page's script computes, for inputs in their units."""
    h = []
    for value, each in zip(row, data["inputs"], strict=True):
        h.append(np.interp(value, each["points"], each["values"]))
    for layer in data["layers"]:
        curves = np.frombuffer(b64decode(layer["curves"]), "<f4")
        curves = curves.reshape(-1, layer["n_points"]).astype(float)
        sums = np.array(layer["offset"])
        for i, o, curve in zip(layer["from"], layer["to"], curves, strict=True):
            low, high, n = layer["low"][i], layer["high"][i], layer["n_points"]
            u = (h[i] - low) / (high - low) * (n - 1)
            k = min(max(int(np.floor(u)), 0), n - 2)
            sums[o] += curve[k] + (u - k) * (curve[k + 1] - curve[k])
        h = sums
    output = data["output"]
    assert output["kind"] == "number"
    return np.array(h) * output["scale"] + output["location"]


def member_prediction(model, table, member):
    x = torch.from_numpy(model.input_scaler_.transform(table.to_numpy()))
    outputs = model.module_(x)[:, member].detach().numpy()
    return model.target_scaler_.inverse_transform(outputs)


@pytest.mark.parametrize("member", [0, 1])
@pytest.mark.parametrize("rows", [None, X], ids=["grid", "rows"])
def test_a_page_computes_what_the_member_predicts(model, member, rows, tmp_path):
    display = NetworkDisplay.from_estimator(model, rows, member=member)
    data = page_of(display, tmp_path).data
    found = [computed(data, row) for row in X[:10].to_numpy()[:, [0, 2, 3]]]
    expected = member_prediction(model, X[:10], member)
    np.testing.assert_allclose(found, expected, atol=0.01 * np.ptp(expected))
    starts = [each["start"] for each in data["inputs"]]
    lows, highs = ([each[end] for each in data["inputs"]] for end in ("low", "high"))
    assert (np.less_equal(lows, starts) & np.less_equal(starts, highs)).all()


def test_a_page_stands_alone(model, tmp_path):
    display = NetworkDisplay.from_estimator(make_pipeline(StandardScaler(), clone(model)).fit(X, Y))
    path = display.to_html(str(tmp_path / "network.html"), n_formulas=0)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open and not page.addresses
    assert {*re.findall(r"https?://[^\s\"']+", text)} == {"http://www.w3.org/2000/svg"}
    assert "@import" not in text and "url(" not in text
    assert len(page.scripts) == 2 and page.tags.count("script") == 2  # whatever columns are called
    assert "</script><b>" in page.data["nodes"][0]
    assert "prefers-color-scheme: dark" in text and "max-width" in text


def test_what_is_left_out_of_a_page_counts_by_its_mean(model, tmp_path, monkeypatch):
    monkeypatch.setattr(graph_module, "MOST_EDGES", 12)
    data = page_of(NetworkDisplay.from_estimator(model, X), tmp_path).data
    assert [layer["left_out"] for layer in data["layers"]] == [6, 18, 0]
    found = [computed(data, row) for row in X[:30].to_numpy()[:, [0, 2, 3]]]
    expected = member_prediction(model, X[:30], 0)
    assert np.corrcoef(np.ravel(found), expected[:, 0])[0, 1] > 0.8


def test_pages_of_classes_and_of_a_module(tmp_path):
    labels = np.array(["a", "b", "c"])[np.digitize(X["age"], [40, 60])]
    model = KANClassifier((3,), **SHORT).fit(X, labels)
    output = page_of(NetworkDisplay.from_estimator(model), tmp_path).data["output"]
    assert (output["kind"], output["classes"]) == ("classes", ["a", "b", "c"])
    held_out = KANClassifier((3,), early_stopping=True, **SHORT).fit(X, labels)
    sharp = page_of(NetworkDisplay.from_estimator(held_out, member=1), tmp_path).data["output"]
    assert sharp["scale"] == [pytest.approx(float(held_out.target_.sharpness[1]))] * 3
    levels = KANRegressor((3,), loss="quantile", quantile=[0.1, 0.9], **SHORT).fit(X, Y)
    data = page_of(NetworkDisplay.from_estimator(levels), tmp_path).data
    assert data["nodes"][-1] == ["quantile 0.1", "quantile 0.9"]
    assert len(data["output"]["scale"]) == 2
    counts = KANRegressor((3,), loss="poisson", **SHORT).fit(X, Y)
    output = page_of(NetworkDisplay.from_estimator(counts), tmp_path).data["output"]
    assert output["kind"] == "exponential"
    network = KAN([2, 3, 1], bias=True)
    data = page_of(NetworkDisplay.from_estimator(network), tmp_path).data
    expected = network(torch.tensor([[0.3, -0.2]])).item()
    assert computed(data, [0.3, -0.2])[0] == pytest.approx(expected, abs=0.01)


def test_formulas_of_edges_are_in_the_columns_units(tmp_path):
    table = pd.DataFrame({"angle": np.linspace(0, 180, 300), "kind": ["a", "b", "c"] * 100})
    y = np.sin(np.deg2rad(table["angle"])) + (table["kind"] == "b")
    model = KANRegressor((), solver="lbfgs", n_estimators=1, random_state=0).fit(table, y)
    display = NetworkDisplay.from_estimator(model, table)
    path = display.to_html(tmp_path / "network.html", n_formulas=2)
    (layer,) = Page(path.read_text(encoding="utf-8")).data["layers"]
    of_edges = dict(zip(layer["from"], layer["formulas"], strict=True))
    (formula, r2), *others = of_edges[0]
    assert "sin(0.0175*x" in formula and r2 > 0.999 and len(others) == 2
    assert of_edges[1] == []  # levels are no curve


@pytest.mark.slow
@pytest.mark.skipif(which("chromium") is None, reason="no chromium")
def test_a_browser_shows_the_page(model, tmp_path):
    display = NetworkDisplay.from_estimator(model, X)
    path = display.to_html(tmp_path / "network.html", n_formulas=1)
    page = path.read_text(encoding="utf-8")
    pointed = "choose(drawn.find((each) => each.group && data.layers[each.l].formulas[each.e]));"
    path.write_text(page.replace("</body>", f"<script>{pointed}</script></body>"), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", f"--user-data-dir={tmp_path / 'user'}"]
    command = ["chromium", *options, "--virtual-time-budget=2000", "--dump-dom", path.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    data = Page(path.read_text(encoding="utf-8")).data
    (shown,) = re.findall(r'id="answer"[^>]*><div>output ([-\d.e+]+)</div>', run.stdout)
    start = [each["start"] for each in data["inputs"]]
    assert float(shown) == pytest.approx(computed(data, start)[0], rel=1e-3)
    assert run.stdout.count('class="edge') == sum(
        min(14, len(layer["from"])) for layer in data["layers"]
    )
    assert run.stdout.count("<li>") == 3  # formulas of the edge that is pointed at
