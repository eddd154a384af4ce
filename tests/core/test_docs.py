"""The documents: their links lead somewhere, the README is short, and the map has every file."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tools.house import LONG, PAGES, sentences

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")
MAPPED = ("zsamb_core", "zsamb_train", "nodes", "tools", "demo")


def prose(page):
    """The text without code, in which brackets are not links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page):
    """Headings as GitHub and the registry name them: small letters, no punctuation, dashes for spaces."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    heads = re.findall(r"^#{1,6} +(.+?) *$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(page):
    return [first or second for first, second in LINK.findall(prose(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / unquote(name)).resolve() if name else page
        assert target.exists(), f"{link}: no such file"
        assert target.is_relative_to(ROOT), f"{link}: outside the repository"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


def test_links_are_found_at_all():
    assert {"docs/nodes.md", "docs/sheet.png", "workflows/6%20SDXL%20-%20InstantStyle.jpg"} <= set(
        links(ROOT / "README.md")
    )
    assert sum(len(links(page)) for page in PAGES) > 100


def test_the_readme_is_short():
    """What is longer belongs to a page of its own."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_sentence_is_read_twice(page):
    assert [text for text in sentences(page) if len(text.split()) > LONG] == []


def test_sentences_end_where_a_reader_ends_them(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\nOne. Another:\n- first\n- second\n\n| a | table |\n\n```\ncode. more\n```\nAn end\n"
    )
    assert sentences(page) == ["# A page", "One.", "Another:", "- first", "- second", "An end"]


def test_every_document_is_reached_from_the_readme():
    """By links, and by links of what they lead to."""
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        targets = {(page.parent / link.partition("#")[0]).resolve() for page in new for link in links(page)}
        new = {page for page in targets if page.suffix == ".md" and page.exists()} - reached
    assert {page for page in PAGES if page.parent != ROOT} <= reached


def test_the_map_has_every_file():
    """One line for each, and none for what is gone."""
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    part = text.partition("\n## The map\n")[2].partition("\n## ")[0]
    above, drawn = [], []
    for line in re.findall(r"^( *[\w/.]+)  +\S", part, flags=re.M):
        name = line.strip()
        above = above[: (len(line) - len(name)) // 2]
        if name.endswith("/"):
            above.append(name)
        else:
            drawn.append("".join(above) + name)
    files = {
        path.relative_to(ROOT).as_posix()
        for folder in MAPPED
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == files, f"not drawn: {files - set(drawn)}; gone: {set(drawn) - files}"
