"""A page for people: HTML that stands alone, prints well (PDF through the browser), and trusts no text it is given."""

import html
from collections.abc import Iterable, Sequence
from typing import Final

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #d0d7de }
td { overflow-wrap: anywhere } th { white-space: nowrap } .note { color: #57606a }
@page { size: A4; margin: 18mm 16mm 20mm; @bottom-right { content: counter(page) " / " counter(pages) } }
@media print { body { margin: 0; max-width: none; font-size: 10.5pt }
  h1, h2 { break-after: avoid } tr { break-inside: avoid } thead { display: table-header-group }
  .note { color: #000 } a { color: inherit; text-decoration: none } }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page; ``parts`` are what the functions below gave."""
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    begun = f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><h1>{html.escape(title)}</h1>'
    return f"{begun}\n{body}\n</body></html>\n"


def heading(text: str) -> str:
    """A section's heading."""
    return f"<h2>{html.escape(text)}</h2>"


def note(text: str) -> str:
    """A paragraph."""
    return f'<p class="note">{html.escape(text)}</p>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values."""
    lines = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(lines)}</table>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with column heads."""
    head = "".join(f"<th>{html.escape(one)}</th>" for one in columns)
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table><thead><tr>{head}</tr></thead>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
