"""Whatever a user wrote is text on the page."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dashboards.text import block, clip, plain, table

anything = st.text(max_size=200)


@given(anything)
def test_markdown_shows_the_text_itself(text: str) -> None:
    one_line = " ".join(text.split())
    shown = MarkdownIt("commonmark").render(plain(text)).strip()
    assert html.unescape(re.sub(r"^<p>|</p>$", "", shown)) == one_line.replace("\x00", "\ufffd")


@given(anything)
def test_html_has_no_element_and_no_attribute_of_the_user(text: str) -> None:
    for made in (block(text), table(("a", text), [(text, "b")])):
        outside = re.sub(r"<(/?(div|bdi|table|thead|tbody|tr|th|td)( class=\"[\w -]*\")?)>", "", made)
        assert "<" not in outside
        assert ">" not in outside
        assert '"' not in outside


def test_what_is_long_is_cut_and_says_so() -> None:
    assert clip("w" * 10_000, 5) == "wwwww… (10,000 characters)"
    assert len(table(("h",), [("w" * 10_000,)])) < 500
