"""The site is built without a warning, links lead somewhere, every object has a page."""

import inspect
import re
import subprocess
import sys
from functools import cache
from html import unescape
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

import pytest

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
CONF = (DOCS / "conf.py").read_text(encoding="utf-8")
ROOMS = re.findall(r'"([\w.]+)"', re.search(r"^ROOMS = \[(.*?)^\]", CONF, re.M | re.S)[1])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the pages; examples are on them, but not run."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-D", "plot_gallery=0"]
    run = subprocess.run(
        [*command, "-d", str(out / "doctrees"), str(DOCS), str(out / "html")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    return out / "html"


def pages(site):
    return [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]


@cache
def targets(page):
    return {*re.findall(r'\bid="([^"]+)"', page.read_text(encoding="utf-8"))}


def test_every_link_leads_to_a_page_and_a_place_on_it(site):
    broken, seen = [], 0
    for page in pages(site):
        for link in re.findall(r'\bhref="([^"]+)"', page.read_text(encoding="utf-8")):
            path, _, place = unquote(unescape(link)).partition("#")
            if re.match(r"\w+:", path):
                continue
            seen += 1
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            if not target.exists() or (
                place and target.suffix == ".html" and place not in targets(target)
            ):
                broken.append((str(page.relative_to(site)), link))
    assert len(pages(site)) > 100 and seen > 5_000
    assert not broken


def test_pages_load_nothing_from_elsewhere(site):
    pattern = r'<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)="(https?:[^"]+)"'
    for page in pages(site):
        assert not re.findall(pattern, page.read_text(encoding="utf-8")), page


def test_every_public_object_has_a_page_with_every_parameter(site):
    missing, seen = [], 0
    for room in ROOMS:
        exports = {name: getattr(import_module(room), name) for name in import_module(room).__all__}
        of_room = (site / "reference" / "generated" / f"{room}.html").read_text(encoding="utf-8")
        for name, found in exports.items():
            if not (inspect.isclass(found) or inspect.isfunction(found)):
                assert inspect.ismodule(found) or f'id="{room}.{name}"' in of_room
                continue
            seen += 1
            page = site / "reference" / "generated" / f"{room}.{name}.html"
            text = unescape(page.read_text(encoding="utf-8"))
            assert f'id="{room}.{name}"' in text
            named = {*re.findall(r"\w+", re.sub(r"<[^>]+>", " ", text))}
            missing += [(name, p) for p in inspect.signature(found).parameters if p not in named]
    assert seen > 90
    assert not missing
