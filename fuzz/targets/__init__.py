"""All targets by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fuzz.target import Target
from fuzz.targets.arrays import MODEL_STATE
from fuzz.targets.chunks import CHUNKS
from fuzz.targets.errors import ERROR_DETAILS
from fuzz.targets.identity import IDENTITY
from fuzz.targets.images import IMAGES
from fuzz.targets.jobs import JOB_FILE
from fuzz.targets.messages import AGENT_MESSAGES, DOCUMENTS, INSTRUCTIONS
from fuzz.targets.models import MODEL_FILES
from fuzz.targets.shares import SHARES
from fuzz.targets.table_files import TABLE_FILES
from fuzz.targets.tables import TABLES
from fuzz.targets.views import OPERATOR_VIEWS

TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for target in (
        DOCUMENTS,
        INSTRUCTIONS,
        AGENT_MESSAGES,
        CHUNKS,
        SHARES,
        IDENTITY,
        ERROR_DETAILS,
        MODEL_STATE,
        JOB_FILE,
        MODEL_FILES,
        TABLES,
        TABLE_FILES,
        IMAGES,
        OPERATOR_VIEWS,
    )
}
