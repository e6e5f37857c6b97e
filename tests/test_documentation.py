"""What the documentation lists is what the product has, in both directions."""

import re
from pathlib import Path

from django.conf import settings

from aperture_site import env
from gateway import errors, rejection
from gateway.wire.codec import Dialect
from gateway.wire.registry import DIALECTS
from tests.gateway.wire.losses import LOSSES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def rows(name: str) -> list[list[str]]:
    """Return the cells of the rows of a document's first table, without its head and its backticks."""
    text = (DOCS / name).read_text(encoding="utf-8")
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    lines = table[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_every_variable_that_is_read_has_a_row_and_every_row_is_read() -> None:
    assert settings.configured
    documented = [row[0] for row in rows("configuration.md")]
    assert len(documented) == len(set(documented))
    # The tests' own samples aside.
    assert set(documented) == {name for name in env.READ if "SAMPLE" not in name}


def test_every_error_has_a_row_with_its_status_and_type() -> None:
    documented = {row[2]: (row[0], row[1]) for row in rows("errors.md")}
    expected = {code: (str(row.status), row.type) for code, row in errors.TABLE.items()}
    expected["upstream_rejected"] = ("as the provider's", "upstream_error")
    assert documented == expected


def test_every_error_says_when_it_comes_and_what_to_do() -> None:
    for row in rows("errors.md"):
        assert len(row) == 5
        assert all(row), row


def test_the_statuses_that_a_provider_may_blame_on_the_caller_are_those_that_are_documented() -> None:
    (row,) = [row for row in rows("errors.md") if row[2] == "upstream_rejected"]
    assert {int(status) for status in re.findall(r"\d{3}", row[3])} == rejection.CALLERS_OWN


def test_the_documented_losses_between_dialects_are_those_that_the_matrix_allows() -> None:
    text = (DOCS / "dialects.md").read_text(encoding="utf-8")
    section = text.partition("### What each upstream leaves out")[2].partition("### ")[0]
    documented = {
        row[1].strip("` "): set(re.findall(r"`([^`]+)`", row[2]))
        for row in (line.split("|") for line in section.splitlines() if line.startswith("| `"))
    }
    assert documented == {name: set(LOSSES[name].values()) - {""} for name in DIALECTS}


def test_the_way_to_a_new_dialect_names_all_that_a_dialect_has() -> None:
    text = (DOCS / "adding-a-dialect.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", text))
    assert set(Dialect.__struct_fields__) <= named
    for path in re.findall(r"`((?:gateway|catalog|tests)/[\w/]+(?:\.py|/))`", text):
        assert "your_dialect" in path or (ROOT / path).exists(), path


def test_every_link_within_the_documentation_leads_somewhere() -> None:
    for document in (*DOCS.glob("**/*.md"), *ROOT.glob("*.md")):
        for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", document.read_text(encoding="utf-8")):
            there = document.parent / target if target else document
            assert there.exists(), (document.name, target)
            assert not anchor or anchor in anchors(there), (document.name, target, anchor)


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
