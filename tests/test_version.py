"""One version: of the package, of the citation, and at the head of the changelog."""

import re
from datetime import date
from pathlib import Path

import sklearn_metakan

ROOT = Path(__file__).parents[1]


def test_citation_has_the_version_of_the_package():
    stated = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)[1]
    assert stated == sklearn_metakan.__version__


def test_changelog_begins_with_the_version_and_its_date_or_with_what_is_to_come():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    if sklearn_metakan.__version__.endswith(".dev0"):
        assert headings[0] == "Unreleased"
        return
    version, _, day = headings[0].partition(" - ")
    assert version == sklearn_metakan.__version__
    date.fromisoformat(day)
    assert "Unreleased" not in headings
