"""Draw the states of a job from the code's own table, as docs/states.svg and as a table in docs/concepts.md.

Without arguments the files are written; with `--check` they are compared, and the exit code is 1 if one is stale.
"""

from __future__ import annotations

import collections
import pathlib
import re
import sys
from xml.sax.saxutils import escape

from procrastinate.states import ENDED, TRANSITIONS, WAITING, State

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"
MARKS = "<!-- states: written by scripts/draw_states.py -->\n", "<!-- end of states -->\n"

VERBS = {
    "defer_job": "defer",
    "defer_alike": "defer",
    "defer_jobs": "defer",
    "defer_periodic_job": "periodic tick",
    "fetch_jobs": "claim",
    "stage_jobs": "stage",
    "open_locks": "open",
    "finish_jobs": "end",
    "delete_jobs": "end and delete",
    "retry_jobs": "retry",
    "release_jobs": "give back",
    "rescue_jobs": "rescue",
    "cancel_job": "cancel",
    "run_job_now": "run now",
    "retry_job": "retry by hand",
    "finish_job": "finish by hand",
    "delete_old_jobs": "delete old jobs",
}
# A claim that parks a job has a word of its own.
PARK = {(State.READY, State.BLOCKED), (State.READY, State.SCHEDULED)}
# In the table only: they lead from everywhere, or to where there is nothing to draw.
NOT_DRAWN = {"finish_job", "delete_jobs", "delete_old_jobs"}

WIDTH, HEIGHT = 980, 470
BOX = 150, 44
PLACES = {
    State.ABSENT: (42, 235),
    State.SCHEDULED: (290, 85),
    State.READY: (290, 235),
    State.BLOCKED: (290, 370),
    State.DOING: (570, 235),
    State.SUCCEEDED: (880, 70),
    State.ABORTED: (880, 175),
    State.FAILED: (880, 295),
    State.CANCELLED: (880, 410),
}
# Around all that waits, and where the edges of its frame begin or end, by what is at their other end.
GROUP = (195, 40, 190, 385)
FRAME = {
    State.ABSENT: (195, 130),
    State.DOING: (385, 115),
    State.FAILED: (385, 345),
    State.CANCELLED: (385, 410),
}
# How far an edge is bent to its left, and where along it its words stand; straight and in the middle otherwise.
BENDS = {
    (State.READY, State.SCHEDULED): (-44, 0.5),
    (State.SCHEDULED, State.READY): (-44, 0.5),
    (State.READY, State.BLOCKED): (-44, 0.5),
    (State.BLOCKED, State.READY): (-44, 0.5),
    (State.READY, State.DOING): (34, 0.5),
    (State.DOING, State.READY): (34, 0.5),
    (State.DOING, State.ABORTED): (0, 0.55),
    (State.DOING, State.FAILED): (0, 0.55),
    (State.DOING, State.CANCELLED): (0, 0.78),
}
STYLE = """
  svg { font: 14px system-ui, sans-serif; --ink: #1f2933; --box: #eef2f6; --paper: #fff; --line: #64748b; }
  @media (prefers-color-scheme: dark) { svg { --ink: #e5e9ee; --box: #2b333d; --paper: #131416; --line: #94a3b8; } }
  .paper { fill: var(--paper); } .box { fill: var(--box); stroke: var(--line); } .end { stroke-width: 2.5; }
  .group { fill: none; stroke: var(--line); stroke-dasharray: 5 4; }
  .edge { fill: none; stroke: var(--line); stroke-width: 1.4; } marker path, .start { fill: var(--line); }
  text { fill: var(--ink); text-anchor: middle; }
  .small { font-size: 12px; }
  .words { font-size: 12px; stroke: var(--paper); stroke-width: 5px; paint-order: stroke; stroke-linejoin: round; }
"""


def main() -> int:
    concepts = (DOCS / "concepts.md").read_text(encoding="utf-8")
    before, rest = concepts.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    wanted = {
        "states.svg": drawing(),
        "concepts.md": f"{before}{MARKS[0]}{table()}{MARKS[1]}{after}",
    }
    stale = [name for name, text in wanted.items() if read(DOCS / name) != text]
    if "--check" in sys.argv:
        for name in stale:
            print(f"docs/{name} is stale: run scripts/draw_states.py")
        return int(bool(stale))
    for name in stale:
        (DOCS / name).write_text(wanted[name], encoding="utf-8")
    return 0


def read(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def verbs(*, drawn: bool) -> dict[tuple[State, State], list[str]]:
    """Return what leads from one state to another, for each pair."""
    found: dict[tuple[State, State], list[str]] = collections.defaultdict(list)
    for operation, ways in TRANSITIONS.items():
        if drawn and operation in NOT_DRAWN:
            continue
        for way in sorted(ways, key=lambda way: [list(State).index(state) for state in way]):
            verb = "park" if way in PARK else VERBS[operation]
            if verb not in found[way]:
                found[way].append(verb)
    return found


def label(state: State) -> str:
    status, gate = state.value
    return "no row" if status is None else f"`{status.value}`" + (f", waits for {gate}" if gate else "")


def table() -> str:
    """Return all the ways as Markdown, those with the same end and the same verbs in one line."""
    lines: dict[tuple[State, str], list[State]] = collections.defaultdict(list)
    for (before, after), by in verbs(drawn=False).items():
        lines[after, ", ".join(by)].append(before)
    rows = [f"| {names(befores)} | {name(after)} | {by} |\n" for (after, by), befores in lines.items()]
    return "| From | To | By |\n|---|---|---|\n" + "".join(rows)


def names(states: list[State]) -> str:
    if set(WAITING) <= set(states):
        states = [state for state in states if state not in WAITING]
        return "; ".join(["any `todo`", *map(name, states)])
    return "; ".join(map(name, states))


def name(state: State) -> str:
    return f"{label(state)}, ready" if state is State.READY else label(state)


def drawing() -> str:
    edges = verbs(drawn=True)
    parts: list[str] = []
    # What leads from all that waits to one place, or from one place to both kinds of waiting, is an edge of the frame.
    for other, anchor in FRAME.items():
        for ways, outward in (
            ([(state, other) for state in WAITING], True),
            ([(other, state) for state in (State.READY, State.SCHEDULED)], False),
        ):
            common = [verb for verb in edges[ways[0]] if all(verb in edges[way] for way in ways)]
            for way in ways:
                edges[way] = [verb for verb in edges[way] if verb not in common]
            if common and not (outward and other is State.ABSENT):  # deletion
                touch = border(other, anchor, 0)
                ends = (anchor, touch) if outward else (touch, anchor)
                parts.append(arrow(*ends, 0, 0.5, common))
    for (before, after), by in edges.items():
        if by:
            parts.append(edge(before, after, by))
    left, top, width, height = GROUP
    parts.append(f'<rect class="group" x="{left}" y="{top}" width="{width}" height="{height}" rx="12"/>')
    parts.append(f'<text class="small" x="{left + width / 2}" y="{top + height + 18}">waiting</text>')
    parts += [node(state, *place) for state, place in PLACES.items()]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">\n'
        f"<title>The states of a job</title>\n<style>{STYLE}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path d="M0,0 L10,5 L0,10 z"/></marker></defs>\n'
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def node(state: State, x: float, y: float) -> str:
    if state is State.ABSENT:
        return f'<circle class="start" cx="{x}" cy="{y}" r="9"/>'
    width, height = BOX
    title, _, gate = label(state).replace("`", "").partition(", ")
    gate = gate or ("ready" if state is State.READY else "")
    lines = f'<text x="{x}" y="{y + 5}">{escape(title)}</text>'
    if gate:
        lines = (
            f'<text x="{x}" y="{y - 2}">{escape(title)}</text><text class="small" x="{x}" y="{y + 14}">{gate}</text>'
        )
    kind = "box end" if state in ENDED else "box"
    rect = f'<rect class="{kind}" x="{x - width / 2}" y="{y - height / 2}" width="{width}" height="{height}" rx="10"/>'
    return rect + lines


def edge(before: State, after: State, by: list[str]) -> str:
    bend, position = BENDS.get((before, after), (0, 0.5))
    start, end = PLACES[before], PLACES[after]
    return arrow(border(before, end, bend), border(after, start, -bend), bend, position, by)


def border(state: State, toward: tuple[float, float], bend: float) -> tuple[float, float]:
    """Return where an edge touches a state's box on its way to a point, moved aside if it is bent."""
    x, y = PLACES[state]
    dx, dy = toward[0] - x, toward[1] - y
    if state is State.ABSENT:
        length = (dx * dx + dy * dy) ** 0.5
        return x + dx / length * 11, y + dy / length * 11
    width, height = BOX
    aside = max(-12, min(12, bend / 3))
    if abs(dx) > abs(dy):
        spread = max(-14, min(14, dy / 12)) if bend == 0 else (-aside if dx > 0 else aside)
        return x + (width / 2 if dx > 0 else -width / 2), y + spread
    return x + (aside if dy > 0 else -aside) * 2.5, y + (height / 2 if dy > 0 else -height / 2)


def arrow(start: tuple[float, float], end: tuple[float, float], bend: float, position: float, by: list[str]) -> str:
    (x1, y1), (x2, y2) = start, end
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5 or 1
    # To the left of who goes along the edge; the axis of y points down.
    cx, cy = (x1 + x2) / 2 + bend * (y2 - y1) / length, (y1 + y2) / 2 - bend * (x2 - x1) / length
    t = position
    x = (1 - t) ** 2 * x1 + 2 * t * (1 - t) * cx + t * t * x2
    y = (1 - t) ** 2 * y1 + 2 * t * (1 - t) * cy + t * t * y2
    curve = f"M{x1:.0f},{y1:.0f} Q{cx:.0f},{cy:.0f} {x2:.0f},{y2:.0f}"
    spans = "".join(
        f'<tspan x="{x:.0f}" dy="{14 if number else 0}">{escape(line)}</tspan>'
        for number, line in enumerate(re.findall(r"[^,]+,?", ",".join(by)))
    )
    top = y + 4 - 7 * (len(by) - 1)
    return (
        f'<path class="edge" d="{curve}" marker-end="url(#tip)"/>'
        f'<text class="words" x="{x:.0f}" y="{top:.0f}">{spans}</text>'
    )


if __name__ == "__main__":
    sys.exit(main())
