"""Bars as SVG: figures in, text out, nothing else. `bench.pages` says which.

Text stays text, title and description say the same in words, and what draws it follows the reader's choice of
light or dark. 440 units wide, so that it can be read at 360 pixels. Compare docs/pictures, drawn by hand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 440
MARGIN = 14
VALUE = 92
"""Units that a value may take behind its bar."""

BAR = 12
"""Height of a bar."""

OURS, OTHERS = "ours", "others"

STYLE = """\
    text { font: 13px system-ui, sans-serif; fill: #1a2027 }
    .title { font-size: 15px; font-weight: 600 }
    .name { font-weight: 600 }
    .soft { fill: #55606b }
    .end { text-anchor: end }
    .back { fill: #ffffff }
    .ours { fill: #0b57a4 }
    .others { fill: #9aa5b1 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e4e8ec }
      .soft { fill: #a3adb8 }
      .back { fill: #12161a }
      .ours { fill: #6cb0f5 }
      .others { fill: #6b7682 }
    }
"""


@dataclass(frozen=True)
class Bar:
    """One value; `said` is how it is written, `kind` whose it is: OURS or OTHERS."""

    label: str
    value: float
    said: str
    kind: str


@dataclass(frozen=True)
class Panel:
    """Bars on one scale, which begins at 0; `better` says which end of it is good."""

    title: str
    better: str
    bars: Sequence[Bar]


def draw(title: str, below: str, panels: Sequence[Panel], labels: int) -> str:
    """A picture of these panels, with so much room left of the bars; 0: each label stands above its bar.

    `below` is a line in small print. Values are to be 0 or more, and one of a panel's more than 0.
    """
    shapes, y = [_text(MARGIN, 24, title, "title")], 34
    for panel in panels:
        y += 22
        shapes.append(_text(MARGIN, y, panel.title, "name"))
        shapes.append(_text(WIDTH - MARGIN, y, panel.better, "soft end"))
        y += 8
        scale = (WIDTH - 2 * MARGIN - labels - VALUE) / max(bar.value for bar in panel.bars)
        for bar in panel.bars:
            if not labels:
                shapes.append(_text(MARGIN, y + 12, bar.label, "soft"))
                y += 17
            shapes += _bar(bar, y, labels, bar.value * scale)
            y += 20
    y += 20
    shapes.append(_text(MARGIN, y, below, "soft"))
    return "".join(_document(title, _words(panels), shapes, y + MARGIN))


def _bar(bar: Bar, y: int, labels: int, length: float) -> Iterator[str]:
    left = MARGIN + labels
    if labels:
        yield _text(MARGIN, y + 11, bar.label)
    length = max(1.0, length)
    yield f'<rect class="{bar.kind}" x="{left}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>'
    yield _text(round(left + length + 6), y + 11, bar.said)


def _text(x: int, y: int, words: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x}" y="{y}">{escape(words, quote=False)}</text>'


def _words(panels: Sequence[Panel]) -> str:
    """All of it in sentences."""
    return " ".join(
        f"{panel.title}: {'; '.join(f'{bar.label} {bar.said}' for bar in panel.bars)}." for panel in panels
    )


def _document(title: str, description: str, shapes: Sequence[str], height: int) -> Iterator[str]:
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title desc">\n'
    yield f'  <title id="title">{escape(title)}</title>\n  <desc id="desc">{escape(description)}</desc>\n'
    yield f"  <style>\n{STYLE}  </style>\n"
    yield f'  <rect class="back" width="{WIDTH}" height="{height}" rx="8"/>\n'
    yield from (f"  {shape}\n" for shape in shapes)
    yield "</svg>\n"
