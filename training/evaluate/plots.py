"""The report's plots, as SVG to be put into the page: text stays text, and takes the page's colour."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from training.evaluate.metrics import Calibration, Comparison, Role, WeightChoice
from whyrank.embedded.cache import digest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK = "#010203"
"""Drawn in this, shown in the page's own colour of text."""
_BLUE, _ORANGE = "#3b7dd8", "#d9822b"
"""Apart for those who do not see all colours, and readable on light and dark."""


_STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    "axes.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
}


def differences(rows: Sequence[tuple[str, Comparison]], title: str) -> str:
    """A row for each comparison: its difference, with its 95% interval, beside the line of no difference."""

    def paint(axes: Axes) -> None:
        for place, (_, comparison) in enumerate(rows):
            colour = _BLUE if comparison.low > 0 else _ORANGE if comparison.high < 0 else "#888888"
            axes.plot([comparison.low, comparison.high], [place, place], color=colour, linewidth=2.5)
            axes.plot([comparison.difference], [place], marker="o", color=colour, markersize=6)
        axes.axvline(0.0, color=_INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("difference of nDCG@10, with its 95% interval")

    return _draw((7.5, 0.9 + 0.34 * len(rows)), title, paint)


def surface(choice: WeightChoice) -> str:
    """The simplex of weights: language model to the right, bi-encoder up, the engine has the rest."""
    best = choice.weights

    def paint(axes: Axes) -> None:
        across = [point.weights.relevance for point in choice.surface]
        up = [point.weights.similarity for point in choice.surface]
        values = [point.value for point in choice.surface]
        dots = axes.scatter(across, up, c=values, cmap="viridis", s=42, marker="s")
        ring: dict[str, Any] = {"marker": "o", "markersize": 13, "markeredgewidth": 2.5, "fillstyle": "none"}
        axes.plot([best.relevance], [best.similarity], color=_ORANGE, **ring)
        axes.set_xlabel("weight of the language model")
        axes.set_ylabel("weight of the bi-encoder")
        figure = axes.get_figure()
        if figure is not None:
            figure.colorbar(dots, ax=axes, label="nDCG@10 on the validation data")

    title = (
        f"Fusion weights on the validation data. Chosen, {choice.value:.3f}, at engine {best.engine:.2f}, "
        f"language model {best.relevance:.2f}, bi-encoder {best.similarity:.2f}."
    )
    return _draw((5.4, 4.2), title, paint)


def reliability(curves: Sequence[tuple[Role, Calibration]]) -> str:
    """What the model says against what is: on the diagonal its probabilities can be taken at their word."""
    styles = {Role.CANDIDATE: (_BLUE, "o"), Role.CURRENT: (_ORANGE, "s")}

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":")
        for role, curve in curves:
            colour, marker = styles[role]
            predicted, observed = [b.predicted for b in curve.bins], [b.observed for b in curve.bins]
            axes.plot(predicted, observed, color=colour, marker=marker, label=f"{role.value} (ECE {curve.ece:.3f})")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("probability of being relevant, by the model")
        axes.set_ylabel("share that is relevant")
        axes.legend(frameon=False)

    spoken = "; ".join(f"{role.value}: expected calibration error {curve.ece:.3f}" for role, curve in curves)
    return _draw((4.6, 4.2), f"Reliability of the label probabilities. {spoken}.", paint)


def _draw(inches: tuple[float, float], title: str, paint: Callable[[Axes], None]) -> str:
    """What `paint` draws, as an element of the page, with a text for those who do not see it."""
    # A third of a second that only a report needs to spend
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    drawn = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": title}):
        figure = Figure(figsize=inches, layout="constrained")
        paint(figure.subplots())
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    svg = re.sub(
        r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :].replace(_INK, "currentColor"), flags=re.DOTALL
    )
    # Several plots on one page must not share ids
    prefix = f"p{digest(title)}-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title, quote=True)}" ', 1)
