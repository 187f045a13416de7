"""The picture of a report: one panel of bars a metric, as SVG without any library."""

from __future__ import annotations

from html import escape

from benchmarks.results import Results
from benchmarks.servers import OURS, OURS_IN_PROCESS
from benchmarks.workloads import METRICS, Metric

COLUMNS, PANEL_WIDTH, ROW_HEIGHT, NAME_WIDTH, VALUE_WIDTH, GAP = 2, 520, 18, 190, 60, 28
OUR_COLOUR, PEER_COLOUR, TEXT_COLOUR = "#1f6f5c", "#b7bdc4", "#22262a"


def picture(results: Results) -> str:
    """An SVG document; a bar is a median, the thin line on it goes from the lowest to the highest round."""
    panels = [panel for metric in METRICS if (panel := _rows(results, metric))]
    shown = [metric for metric in METRICS if _rows(results, metric)]
    heights = [56 + ROW_HEIGHT * len(rows) for rows in panels]
    parts, top, lowest = [], 24, 0
    for index, (metric, rows) in enumerate(zip(shown, panels, strict=True)):
        column = index % COLUMNS
        if column == 0 and index:
            top, lowest = top + lowest, 0
        parts.append(_panel(metric, rows, GAP + column * (PANEL_WIDTH + GAP), top))
        lowest = max(lowest, heights[index])
    width, height = GAP + COLUMNS * (PANEL_WIDTH + GAP), top + lowest
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{TEXT_COLOUR}">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _rows(results: Results, metric: Metric) -> list[tuple[str, float, float, float]]:
    """Name, median, lowest and highest of each server that has the metric."""
    rows = []
    for server in results.servers:
        values = [value for value in results.values(server.name, metric) if value is not None]
        middle = results.median(server.name, metric)
        if middle is not None:
            rows.append((server.name, middle, min(values), max(values)))
    return rows


def _panel(metric: Metric, rows: list[tuple[str, float, float, float]], left: int, top: int) -> str:
    better = "more" if metric.higher else "less"
    title = f"{metric.workload}: {metric.title} ({metric.unit}, {better} is better)"
    parts = [f'<text x="{left}" y="{top + 12}" font-weight="600">{escape(title)}</text>']
    scale = (PANEL_WIDTH - NAME_WIDTH - VALUE_WIDTH) / max(high for *_, high in rows)
    start = left + NAME_WIDTH
    for index, (name, middle, low, high) in enumerate(rows):
        y = top + 24 + index * ROW_HEIGHT
        colour = OUR_COLOUR if name in (OURS, OURS_IN_PROCESS) else PEER_COLOUR
        line = y + ROW_HEIGHT // 2 - 2
        parts += [
            f'<text x="{start - 8}" y="{y + 11}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{start}" y="{y}" width="{middle * scale:.1f}" height="{ROW_HEIGHT - 4}" fill="{colour}"/>',
            f'<path d="M{start + low * scale:.1f} {line}H{start + high * scale:.1f}" stroke="{TEXT_COLOUR}"/>',
            f'<text x="{start + high * scale + 6:.1f}" y="{y + 11}">{_told(middle)}</text>',
        ]
    return "\n".join(parts)


def _told(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
