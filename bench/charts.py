"""Charts as SVG, readable on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from bench.cases import concurrency, flatness, latencies
from bench.contenders import OURS
from bench.measurement import Results

WIDTH = 720
BAR = 22
LEFT = 250
RIGHT = 120
# In between black and white, and apart from each other on both.
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #57606a }
.title { font-weight: 600; font-size: 14px }
.ours { fill: #2f81f7; stroke: #2f81f7 } .other { fill: #9a8c7c; stroke: #9a8c7c }
.line { fill: none; stroke-width: 2.5 } .axis { stroke: #8b949e; stroke-width: 1; stroke-opacity: .5 }
@media (prefers-color-scheme: dark) { text { fill: #b1bac4 } }
</style>"""


def draw(results: Mapping[str, Results]) -> dict[str, str]:
    """Return the pictures that these results give, by name."""
    found: dict[str, str] = {}
    if "concurrency" in results:
        lines = {
            name: [
                (step, results["concurrency"].median(f"{name}, {step}"))
                for step in concurrency.STEPS
                if results["concurrency"].has(f"{name}, {step}")
            ]
            for name in (OURS.name, "incumbent")
        }
        found["concurrency"] = line_chart("Jobs per second by concurrency", {k: v for k, v in lines.items() if v})
    if "flatness" in results:
        runs = results["flatness"]
        bars = [(pile.name, runs.median(pile.name)) for pile in flatness.PILES if runs.has(pile.name)]
        found["flatness"] = bar_chart("Jobs per second beside piles of other jobs", bars)
    if "latency" in results:
        runs = results["latency"]
        names = [latencies.BARE, latencies.IDLE, *(arm for arm in runs.runs if not arm.startswith(("bare", "ours")))]
        waits = [(name, runs.median(name, "p50"), runs.median(name, "p99")) for name in names if runs.has(name)]
        bars = [
            (f"{name}, {which}", value)
            for name, *both in waits
            for which, value in zip(("p50", "p99"), both, strict=True)
        ]
        found["latency"] = bar_chart("From deferring to start, idle worker, in ms", bars, is_ours=latencies.IDLE)
    return {name: picture for name, picture in found.items() if picture}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _document(title: str, height: float, body: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
    caption = f'<title>{escape(title)}</title>{STYLE}<text class="title" x="8" y="20">{escape(title)}</text>'
    return "\n".join([head, caption, *body, "</svg>"]) + "\n"


def bar_chart(title: str, bars: Sequence[tuple[str, float]], *, is_ours: str | None = None) -> str:
    """Draw horizontal bars from zero; those whose label begins with `is_ours`, or all, are highlighted."""
    if not bars:
        return ""
    largest = max(value for _, value in bars)
    body: list[str] = []
    for index, (label, value) in enumerate(bars):
        y = 36 + index * (BAR + 6)
        kind = "ours" if is_ours is None or label.startswith(is_ours) else "other"
        width = (WIDTH - LEFT - RIGHT) * value / largest
        body += [
            f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}"/>',
            f'<text x="{LEFT + width + 6:.1f}" y="{y + 16}">{_number(value)}</text>',
        ]
    return _document(title, 44 + len(bars) * (BAR + 6), body)


def line_chart(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw lines over logarithmic axes, each point with its value."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    height, bottom, left, right = 320, 280, 60, 130
    low = 10 ** math.floor(math.log10(min(y for _, y in points)))
    high = 10 ** math.ceil(math.log10(max(y for _, y in points)))
    first, last = min(x for x, _ in points), max(x for x, _ in points)

    def place(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / first) / max(math.log(last / first), 1e-9)
        up = math.log(y / low) / max(math.log(high / low), 1e-9)
        return left + across * (WIDTH - left - right), bottom - up * (bottom - 50)

    body: list[str] = []
    level = low
    while level <= high:
        _, y = place(first, level)
        body.append(f'<line class="axis" x1="{left}" y1="{y:.1f}" x2="{WIDTH - right}" y2="{y:.1f}"/>')
        body.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{level:,.0f}</text>')
        level *= 10
    for x in sorted({x for x, _ in points}):
        across, _ = place(x, low)
        body.append(f'<text x="{across:.1f}" y="{bottom + 20}" text-anchor="middle">{x:g}</text>')
    for name, line in lines.items():
        kind = "ours" if name == OURS.name else "other"
        places = [place(x, y) for x, y in line]
        path = " ".join(f"{'L' if index else 'M'}{x:.1f},{y:.1f}" for index, (x, y) in enumerate(places))
        body.append(f'<path class="line {kind}" style="fill: none" d="{path}"/>')
        for (x, y), (_, value) in zip(places, line, strict=True):
            body.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
            body.append(f'<text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle">{_number(value)}</text>')
        end_x, end_y = places[-1]
        body.append(f'<text x="{end_x + 34:.1f}" y="{end_y + 4:.1f}">{escape(name)}</text>')
    return _document(title, height, body)
