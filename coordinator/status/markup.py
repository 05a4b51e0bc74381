"""HTML and SVG from values: every text is escaped here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *content: str, **attributes: str | float | None) -> Markup:
    """Return an element; content that is no `Markup` is escaped, attributes always are.

    Underscores in names of attributes stand for hyphens, and one at the end is dropped (`class_`); None leaves the
    attribute out.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{told}>{joined(content)}</{name}>")


def empty(name: str, /, **attributes: str | float | None) -> Markup:
    """Return an element that has no content and no end tag in HTML: `meta`, `link`."""
    return Markup(element(name, **attributes).removesuffix(f"</{name}>"))


def joined(content: Iterable[str]) -> Markup:
    """Return pieces one after the other; those that are no `Markup` are escaped."""
    return Markup("".join(piece if isinstance(piece, Markup) else escape(piece) for piece in content))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> Markup:
    """Return a table whose first column names its rows; it scrolls sideways on a phone, also by keyboard."""
    head = element("tr", *(element("th", text, scope="col") for text in heads))
    body = joined(
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    )
    inner = element(
        "table", element("caption", caption, class_="hidden"), element("thead", head), element("tbody", body)
    )
    return element("div", inner, class_="wrap", tabindex=0, role="region", aria_label=caption)
