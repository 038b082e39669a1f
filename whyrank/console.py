"""What the command line prints: tables of parts, of policies, and of a search in both orders."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from whyrank.embedded.state import Phase, State
from whyrank.types import Policy

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_STYLES = {Phase.READY: "green", Phase.RESTARTING: "red", Phase.UNREADY: "red", Phase.STOPPED: "dim"}
_LABELS = {
    0: Text("0 not relevant", style="dim"),
    1: Text("1 partially relevant", style="yellow"),
    2: Text("2 relevant", style="green"),
}


def parts_table(state: State) -> RenderableType:
    """The parts of a running stack, a line each, with the progress of those that are being prepared."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("part", "state"):
        table.add_column(name, min_width=7, no_wrap=True)
    for name in ("port", "pid", "restarts", "for"):
        table.add_column(name, justify="right", min_width=len(name), no_wrap=True)
    table.add_column("", ratio=1, overflow="ellipsis", no_wrap=True)
    for part in state.parts.values():
        detail: RenderableType = Text(part.detail, style="dim")
        if part.share is not None:
            detail = Group(detail, ProgressBar(total=1.0, completed=part.share, width=30))
        table.add_row(
            part.name,
            Text(part.phase.value, style=_STYLES.get(part.phase, "yellow")),
            str(part.port),
            str(part.pid or ""),
            str(part.restarts or ""),
            duration(time.time() - part.since) if part.since else "",
            detail,
        )
    return table


def policies_table(policies: Iterable[Policy]) -> RenderableType:
    """Policies, a line each."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("index", "fields", "window", "deadline", "mode", "tokens", "similarity", "enabled"):
        table.add_column(name, justify="right" if name in ("window", "deadline", "tokens") else "left")
    for policy in policies:
        table.add_row(
            escape(policy.index),
            escape(", ".join(policy.fields)),
            str(policy.window),
            f"{policy.deadline_ms} ms",
            policy.mode.value,
            str(policy.passage_tokens),
            "yes" if policy.similarity else "no",
            "yes" if policy.enabled else "no",
        )
    return table


def show_search(ranking: Mapping[str, Any], titles: Mapping[tuple[str, str], str], top: int) -> None:
    """Print a search in both orders, with its status and reasons. The arguments are those of `orders`."""
    out.print(orders(ranking, titles, top))
    judged = f"{ranking['judged']} of {len(ranking['hits'])} hits judged"
    reason = f" ({escape(ranking['reason'])})" if ranking["reason"] else ""
    out.print(f"status [bold]{ranking['status']}[/]{reason}, {judged}", style="dim")


def orders(ranking: Mapping[str, Any], titles: Mapping[tuple[str, str], str], top: int) -> RenderableType:
    """The engine's order beside the new one, then why each of the new top hits is where it is.

    `ranking` is the body of `GET /v1/rankings/{id}`; `titles` are by (index, id).
    """

    def title(hit: Mapping[str, Any]) -> str:
        return titles.get((hit["index"], hit["id"])) or hit["id"]

    hits = ranking["hits"]
    engine = sorted(hits, key=lambda hit: hit["engine_position"])
    table = Table(box=SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("", justify="right", style="dim")
    table.add_column("engine order", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("WhyRank's order", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("move", justify="right")
    for place, (before, after) in enumerate(zip(engine[:top], hits[:top], strict=True), start=1):
        table.add_row(str(place), Text(title(before)), Text(title(after)), move(after["move"]))
    reasons: list[RenderableType] = []
    for place, hit in enumerate(hits[:top], start=1):
        head = Text.assemble((f"{place}. ", "bold"), (title(hit), "bold"))
        if hit["label"] is not None:
            head.append("  ").append_text(_LABELS[hit["label"]]).append(f"  {hit['relevance']:.2f}", style="dim")
            if hit.get("similarity") is not None:
                head.append(f", similarity {hit['similarity']:.2f}", style="dim")
        reasons.append(head)
        reasons.append(Padding(explanation(hit), (0, 0, 0, 3)))
    return Group(table, *reasons)


def explanation(hit: Mapping[str, Any]) -> Text:
    """Why a hit was judged as it was, the document's own words marked; or why nothing can be said."""
    if hit["explanation"]:
        text = Text(hit["explanation"])
        for quote in hit["quotes"]:
            text.highlight_words([quote["text"]], style="italic cyan")
        return text
    if hit["status"] == "failed":
        return Text(f"The model gave no usable answer ({hit['failure']}); it keeps the engine's place.", style="dim")
    if hit["status"] == "unjudged":
        return Text("Not judged yet; it keeps the engine's place.", style="dim")
    if hit["label"] is not None and not hit["grounded"]:
        return Text("Explanation withheld: its quotes are not in the document.", style="dim")
    return Text("")


def move(places: int) -> Text:
    """How far a hit rose or fell."""
    if places == 0:
        return Text("·", style="dim")
    return Text(f"↑{places}", style="green") if places > 0 else Text(f"↓{-places}", style="red")


def duration(seconds: float) -> str:
    """A short form for a person: 12 s, 3 min, 5 h, 2 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
