"""Links between pages, paths in backticks and commands name what there is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
PAGES = [*(ROOT / name for name in TEXTS), *sorted((ROOT / "docs").rglob("*.md"))]
each_page = pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)
ENDINGS = "py|md|png|toml|txt|cff"
# Relative to these a path in backticks may stand; or next to the page.
PLACES = [ROOT, ROOT / "sklearn_metakan", ROOT / "benchmarks"]
MADE = ("out/", "dist/")  # what commands write


def without_fences(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page):
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", without_fences(page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text):
    return [
        link
        for link in re.findall(r"\]\(([^)\s]+)\)", without_fences(text))
        if not re.match(r"https?:", link)
    ]


def paths(text):
    """In backticks: words with an ending of files, a slash at the end, or a top folder in front."""
    words = " ".join(re.findall(r"`([^`\n]+)`", without_fences(text))).split()
    shape = rf"[\w.\-/]+\.(?:{ENDINGS})|[\w\-/]+/|(?:sklearn_metakan|benchmarks|docs|tests)/[\w/]+"
    return [word for word in words if re.fullmatch(shape, word) and not word.startswith(MADE)]


def commands(text):
    """What `python FILE` and `python -m MODULE` run, each as the files that it may be."""
    for module, name in re.findall(
        r"python (-m )?((?:benchmarks|docs|sklearn_metakan)[\w./]*)", text
    ):
        path = name.rstrip(".").replace(".", "/")
        yield [f"{path}.py", f"{path}/__main__.py"] if module else [name.rstrip(".")]


def is_there(path, page):
    if "/" not in path.rstrip("/"):  # a bare name may be anywhere
        return any(ROOT.glob(path)) or any(
            found
            for top in ("sklearn_metakan", "benchmarks", "docs", "tests")
            for found in (ROOT / top).rglob(path.rstrip("/"))
        )
    return any((place / path).exists() for place in [page.parent, *PLACES])


@each_page
def test_links_lead_somewhere(page):
    broken = []
    for link in links(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@each_page
def test_paths_in_backticks_are_there(page):
    assert not [p for p in paths(page.read_text(encoding="utf-8")) if not is_there(p, page)]


@each_page
def test_commands_name_files(page):
    for files in commands(page.read_text(encoding="utf-8")):
        assert any((ROOT / file).is_file() for file in files), files


def test_the_patterns_see_what_they_should():
    text = "[a](b.md#c) `python benchmarks/pde.py table`, `ops/` `ops/x.py -x` `a / b` `out/x.png`"
    assert links(text) == ["b.md#c"]
    assert paths(text) == ["benchmarks/pde.py", "ops/", "ops/x.py"]
    assert list(commands(text)) == [["benchmarks/pde.py"]]
    assert list(commands("python -m benchmarks.pde x")) == [
        ["benchmarks/pde.py", "benchmarks/pde/__main__.py"]
    ]


def test_every_page_is_reached_from_the_index():
    seen, waiting = set(), [ROOT / "docs" / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        for link in links(page.read_text(encoding="utf-8")):
            target = (page.parent / link.partition("#")[0]).resolve()
            waiting.append(target)
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= seen


def test_nothing_is_named_that_is_not_in_the_repository():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"\bDESIGN\b|\bissues? #?\d|/work/", text), page
