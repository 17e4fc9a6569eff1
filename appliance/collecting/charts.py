"""The picture of a dataset: bars of clip lengths and distances to the noise, and every sound with its count."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from appliance.contracts import JsonDict
from appliance.messages import text

WIDTH, BAR_HEIGHT, ROW_HEIGHT, MARGIN = 720, 70, 110, 12
SOUND_WIDTH, SOUNDS_IN_ROW = 44, 15
ENOUGH = 5  # times a sound is there, to be drawn full
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#111}.bar{fill:#2f6f9f}"
    ".here{fill:#2f6f9f}.gone{fill:none;stroke:#b3261e}"
)


def dataset_svg(survey: JsonDict, language: str) -> str:
    """An SVG document, WIDTH pixels wide; titles in `language` ("en" | "zh")."""
    parts: list[str] = []
    top = 0
    for name, unit in (("lengths", "s"), ("snr", "dB")):
        parts.append(_bars(survey[name], text(f"chart.{name}", language), unit, top))
        top += ROW_HEIGHT
    for spoken, coverage in survey["coverage"].items():
        title = text(f"chart.sounds_{spoken}", language, share=coverage["share"])
        drawn, height = _sounds(coverage, title, top)
        parts.append(drawn)
        top += height
    frame = f'viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" role="img"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>'
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def _bars(rows: Sequence[JsonDict], title: str, unit: str, top: int) -> str:
    most = max(1, *(row["count"] for row in rows))
    width = (WIDTH - 2 * MARGIN) / len(rows)
    drawn = [f'<text class="title" x="{MARGIN}" y="{top + 14}">{escape(title)}</text>']
    floor = top + 20 + BAR_HEIGHT
    for index, row in enumerate(rows):
        x, height = MARGIN + index * width, BAR_HEIGHT * row["count"] / most
        drawn.append(
            f'<rect class="bar" x="{x:.1f}" y="{floor - height:.1f}" width="{width - 4:.1f}" height="{height:.1f}"/>'
        )
        drawn.append(f'<text x="{x:.1f}" y="{floor + 13}">{_range(row, unit)}</text>')
    return "".join(drawn)


def _range(row: JsonDict, unit: str) -> str:
    if row["from"] is None:
        return f"&lt; {row['to']}"
    return f"≥ {row['from']} {unit}" if row["to"] is None else f"{row['from']}–{row['to']}"


def _sounds(coverage: JsonDict, title: str, top: int) -> tuple[str, int]:
    """Every sound of the language as a box, filled by how often it is there; red and empty where it is missing."""
    counts = dict(coverage["counts"]) | dict.fromkeys(coverage["missing"], 0)
    drawn = [f'<text class="title" x="{MARGIN}" y="{top + 14}">{escape(title)}</text>']
    for index, (sound, count) in enumerate(sorted(counts.items())):
        x, y = MARGIN + index % SOUNDS_IN_ROW * (SOUND_WIDTH + 2), top + 22 + index // SOUNDS_IN_ROW * 24
        kind = "here" if count else "gone"
        shade = 0.2 + 0.5 * min(1.0, count / ENOUGH) if count else 1.0
        drawn.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{SOUND_WIDTH}" height="20" opacity="{shade:.2f}"/>')
        drawn.append(f'<text x="{x + 3}" y="{y + 14}">{escape(sound)} {count}</text>')
    return "".join(drawn), 22 + -(-len(counts) // SOUNDS_IN_ROW) * 24 + 10
