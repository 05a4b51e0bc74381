"""What an operator's rank allows. A call that nobody has ranked is for administrators."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ravan.identity.certificates import Rank

_SERVICE: Final = "ravan.wire.v1.OperatorService"

RANKS: Final[Mapping[str, Rank]] = MappingProxyType(
    {
        "ListSites": Rank.VIEWER,
        "ListModels": Rank.VIEWER,
        "ListJobs": Rank.VIEWER,
        "GetJob": Rank.VIEWER,
        "WatchJob": Rank.VIEWER,
        "UploadBlob": Rank.OPERATOR,
        "DownloadBlob": Rank.OPERATOR,
        "AddModel": Rank.OPERATOR,
        "SubmitJob": Rank.OPERATOR,
        "PauseJob": Rank.OPERATOR,
        "ResumeJob": Rank.OPERATOR,
        "StopJob": Rank.OPERATOR,
        "CreateToken": Rank.ADMIN,
        "RevokeSite": Rank.ADMIN,
        "EndorseSite": Rank.ADMIN,
    }
)
"""By method of the operator service: who sees, who runs jobs, who decides on membership."""

HTTP: Final = "http"
"""Stands for a service where somebody asks over HTTP."""

HTTP_RANKS: Final[Mapping[str, Rank]] = MappingProxyType(
    {"GetHealth": Rank.VIEWER, "GetMetrics": Rank.VIEWER, "GetStatus": Rank.VIEWER}
)
"""By what is shown, as RANKS: none of it changes anything."""

_BY_SERVICE: Final = {_SERVICE: RANKS, HTTP: HTTP_RANKS}


def needed_rank(method: str) -> Rank:
    """Return the least rank for a full method name, `/ravan.wire.v1.OperatorService/GetJob`."""
    service, _, name = method.strip("/").partition("/")
    return _BY_SERVICE.get(service, {}).get(name, Rank.ADMIN)
