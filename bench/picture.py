"""The picture of a run: one bar for each row, all goals on one line. `python -m bench.picture` draws results.json."""

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

RESULTS = Path(__file__).with_name("results.json")
PICTURE = Path(__file__).with_name("results.svg")
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
WIDTH, TOP, ROW, BOTTOM = 960, 92, 40, 44
LEFT, RIGHT = 356, 770
SHARE_MAX = 1.75
"""The longest bar, as a multiple of its goal. A longer one ends in an arrow."""

SIGNS = {"ratio": "÷ ", "ms": "− ", "MB": "", "s": ""}
"""The operation between the measured value and its reference, by unit."""

INK, FAINT, MET, MISSED, PAPER = "#1b2635", "#5b6b80", "#2f7d4f", "#b5521a", "#ffffff"


def draw(document: dict[str, Any]) -> str:
    """Return the picture of a run as SVG. Its own background makes it readable on light and dark pages."""
    rows = document["rows"]
    height = TOP + ROW * len(rows) + BOTTOM
    met = sum(row["met"] for row in rows)
    title = f"{met} of {len(rows)} goals met"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            f'aria-labelledby="title" font-family="{FONT}">',
            f'<title id="title">Kopeck, measured: {title}</title>',
            f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{PAPER}"/>',
            _text(20, 34, f"Kopeck, measured: {title}", size=19, bold=True),
            _text(
                20, 56, "Each bar is a median against its goal, and where less is better the goal against the median:"
            ),
            _text(20, 73, "past the line is met. The thin line spans all rounds."),
            *(_row(row, TOP + ROW * place) for place, row in enumerate(rows)),
            _goal_line(TOP - 6, height - BOTTOM),
            _text(20, height - 16, _footer(document), fill=FAINT, size=11.5),
            "</svg>\n",
        ]
    )


def _row(row: dict[str, Any], top: float) -> str:
    parts = [
        _text(20, top + 15, row["measured"], size=13.5),
        _text(20, top + 30, SIGNS[row["unit"]] + row["reference"], fill=FAINT, size=11.5),
    ]
    if row["median"] is None:
        return "\n".join([*parts, _text(LEFT + 6, top + 22, "no figure: its check failed", fill=MISSED, size=13)])
    share, colour = _share(row, row["median"]), MET if row["met"] else MISSED
    parts += [
        _bar(top + 7, share, colour),
        _span(top + 18, [_share(row, value) for value in row["values"]]) if share <= SHARE_MAX else "",
        _text(RIGHT + 14, top + 23, _number(row), fill=colour, size=14, bold=True),
        _text(WIDTH - 20, top + 23, row["goal"], fill=FAINT, size=12.5, anchor="end"),
    ]
    return "\n".join(parts)


def _number(row: dict[str, Any]) -> str:
    if row["unit"] == "MB":
        return f"{row['median']:.1f} MB"
    return f"{row['median']:.2f}" + (f" {row['unit']}" if row["unit"] in ("ms", "s") else "")


def _share(row: dict[str, Any], value: float) -> float:
    """Return a value as a share of its goal. 1 is the goal, and more is better in every row."""
    if row["at_least"]:
        return float(value / row["threshold"])
    return float(row["threshold"] / value) if value > row["threshold"] / SHARE_MAX else SHARE_MAX + 1


def _place(share: float) -> float:
    return LEFT + (RIGHT - LEFT) * min(max(share, 0), SHARE_MAX) / SHARE_MAX


def _bar(top: float, share: float, colour: str) -> str:
    end, height = _place(share), 22
    if share <= SHARE_MAX:
        return f'<rect x="{LEFT}" y="{top}" width="{end - LEFT:.1f}" height="{height}" fill="{colour}"/>'
    tip, middle = end - 9, top + height / 2
    return f'<path d="M{LEFT} {top}H{tip:.1f}L{end:.1f} {middle}L{tip:.1f} {top + height}H{LEFT}z" fill="{colour}"/>'


def _span(middle: float, shares: list[float]) -> str:
    low, high = _place(min(shares)), _place(max(shares))
    if len(shares) < 2:
        return ""
    return f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="{INK}" stroke-width="2"/>'


def _goal_line(top: float, bottom: float) -> str:
    place = f"{_place(1):.1f}"
    line = f'<path d="M{place} {top}V{bottom}" stroke="{INK}" stroke-width="1.5" stroke-dasharray="5 3"/>'
    return f"{line}\n{_text(_place(1), top - 6, 'goal', size=12, anchor='middle', bold=True)}"


def _footer(document: dict[str, Any]) -> str:
    versions, run = document["versions"], document["settings"]["run"]
    postgresql = document["settings"].get("postgresql", {}).get("server_version", "?").split(" ")[0]
    return (
        f"{document['date'][:10]} · {document['machine']['cores']} cores, load and databases on the same · "
        f"medians of {run['rounds']} rounds of {run['seconds']} s · Python {versions['python']}, "
        f"gunicorn {versions['gunicorn']}, PostgreSQL {postgresql}"
    )


def _text(
    x: float, y: float, words: str, *, fill: str = INK, size: float = 12.5, anchor: str = "start", bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}"{weight}>{escape(words)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(json.loads(RESULTS.read_text())))
