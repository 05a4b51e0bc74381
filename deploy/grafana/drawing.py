"""Turn dashboards into what Grafana reads."""

from __future__ import annotations

from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.panels import Board, Panel, Query, Shape

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
"""Chosen at the top of each dashboard."""

_STAT_SPAN: Final = 6
_SPAN: Final = 12
_STAT_HEIGHT: Final = 4
_HEIGHT: Final = 8


def draw(board: Board) -> str:
    """Return a dashboard as JSON, the same for the same board."""
    drawn = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .tags(["ravan"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for panel in board.panels:
        drawn = drawn.with_panel(_panel(panel))
    return f"{JSONEncoder(sort_keys=True, indent=2).encode(drawn.build())}\n"


def _panel(panel: Panel) -> Any:
    drawn = _empty_panel(panel).title(panel.title).description(panel.question).datasource(SOURCE)
    is_stat = panel.shape is Shape.STAT
    drawn = drawn.span(_STAT_SPAN if is_stat else _SPAN).height(_STAT_HEIGHT if is_stat else _HEIGHT)
    for number, query in enumerate(panel.queries):
        drawn = drawn.with_target(_target(query, panel.shape, chr(ord("A") + number)))
    return drawn


def _empty_panel(panel: Panel) -> Any:
    """Choose how it is drawn; a heatmap has its unit at the axis, since its cells count sites."""
    unit = panel.unit.value
    match panel.shape:
        case Shape.STAT:
            return stat.Panel().unit(unit).color_mode(BigValueColorMode.VALUE)
        case Shape.LINES:
            return timeseries.Panel().unit(unit)
        case Shape.HEATMAP:
            return heatmap.Panel().calculate(False).y_axis(heatmap.YAxisConfig().unit(unit))


def _target(query: Query, shape: Shape, name: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).ref_id(name).datasource(SOURCE)
    if query.legend:
        target = target.legend_format(query.legend)
    if query.exemplars:
        target = target.exemplar(True)
    if shape is Shape.STAT:
        return target.instant()
    target = target.range()
    return target.format(PromQueryFormat.HEATMAP) if shape is Shape.HEATMAP else target
