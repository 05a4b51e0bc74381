"""What holds for every test process."""

from __future__ import annotations

from ravan.heap import give_back_at_once

# As both daemons do at their start: what is measured of memory would else depend on the tests that ran before.
give_back_at_once()
