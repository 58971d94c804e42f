"""One HTML page that needs nothing beside itself."""

import base64
import html
import mimetypes
from collections.abc import Sequence
from pathlib import Path

from ..training.task import ReportSection

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 60rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d0d7de; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #e4e8ec; text-align: left;
         overflow-wrap: anywhere; }
th { background: #f6f8fa; } img { max-width: 100%; height: auto; } .quiet { color: #57606a; }
"""


def page(title: str, subtitle: str, sections: Sequence[ReportSection], folder: Path) -> str:
    """The whole page; the sections' pictures are read from `folder` and put inside.

    Raises ValueError for a picture whose name does not end like one.
    """
    parts = [_section(section, folder) for section in sections]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
            f'<h1>{html.escape(title)}</h1><p class="quiet">{html.escape(subtitle)}</p>',
            *parts,
            "</body></html>",
            "",
        ]
    )


def _section(section: ReportSection, folder: Path) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{html.escape(section.text)}</p>")
    if section.table is not None:
        parts.append(_table(*section.table))
    parts += [_picture(section.title, folder / name) for name in section.pictures]
    return "\n".join(parts)


def _picture(title: str, path: Path) -> str:
    kind, _ = mimetypes.guess_type(path.name)
    if kind is None or not kind.startswith("image/"):
        raise ValueError(f"{path.name} is no picture by its name: let it end with .png or .gif")
    data = base64.b64encode(path.read_bytes()).decode()
    alt = html.escape(f"{title}: {path.stem.replace('_', ' ')}")
    return f'<p><img alt="{alt}" src="data:{kind};base64,{data}"></p>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
