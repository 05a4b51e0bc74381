"""Write what the chart repeats: `python -m deploy.helm`, after a change of alert rules or of configuration keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from coordinator.config import CoordinatorFile

CHART: Final = Path(__file__).parent / "ravan"
RULES: Final = Path(__file__).parents[1] / "prometheus" / "rules"
SCHEMA: Final = CHART / "values.schema.json"

SET_BY_CHART: Final = frozenset({"server", "database", "objects"})
"""Tables of coordinator.toml that values of other names decide."""

_LOG_FILES: Final = ("file", "max_mb", "count")
"""A pod's root cannot be written to, and its standard error is collected."""


def write_rules() -> Mapping[str, str]:
    """Return the alert rules by file name: a chart cannot read what lies outside its folder."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(RULES.glob("*.yml"))}


def write_schema(text: str) -> str:
    """Return the schema of values with what it says of `config` taken anew from the coordinator's own model."""
    schema = json.loads(text)
    own = CoordinatorFile.model_json_schema()
    tables = {name: each["$ref"] for name, each in own["properties"].items() if name not in SET_BY_CHART}
    wanted = {ref.rpartition("/")[2] for ref in tables.values()}
    for key in _LOG_FILES:
        del own["$defs"]["LogTable"]["properties"][key]
    schema["$defs"] = {
        name: _without_defaults(each) for name, each in own["$defs"].items() if name in wanted or "enum" in each
    }
    schema["properties"]["config"]["properties"] = {name: {"$ref": ref} for name, ref in sorted(tables.items())}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _without_defaults(table: dict[str, Any]) -> dict[str, Any]:
    left_out = ("default", "title")
    if "properties" not in table:
        return {name: each for name, each in table.items() if name not in left_out}
    properties = {
        key: {name: each for name, each in value.items() if name not in left_out}
        for key, value in table["properties"].items()
    }
    return {**{name: each for name, each in table.items() if name not in left_out}, "properties": properties}


def main() -> None:
    """Write one file for each."""
    folder = CHART / "files" / "rules"
    for stale in folder.glob("*.yml"):
        stale.unlink()
    for name, text in write_rules().items():
        (folder / name).write_text(text, encoding="utf-8")
        print(f"wrote {folder / name}")
    SCHEMA.write_text(write_schema(SCHEMA.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {SCHEMA}")


if __name__ == "__main__":
    main()
