"""What the daemon reads before it is ready, and how."""

from __future__ import annotations

import subprocess
import sys


def _printed(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip()


def test_the_daemon_reads_no_arithmetic_before_it_computes() -> None:
    code = (
        "import sys\n"
        "from coordinator.daemon.quick_imports import quick_imports\n"
        "with quick_imports():\n"
        "    import coordinator.daemon.app\n"
        "print({'numpy', 'PIL', 'safetensors', 'rich', 'ravan.secagg.coordinator'} & set(sys.modules))"
    )
    assert _printed(code) == "set()"


def test_afterwards_garbage_is_collected_and_rich_is_there() -> None:
    code = (
        "import gc\n"
        "from coordinator.daemon.quick_imports import quick_imports\n"
        "with quick_imports():\n"
        "    during = gc.isenabled()\n"
        "import rich\n"
        "print(during, gc.isenabled(), gc.get_freeze_count() > 0, rich.__name__)"
    )
    assert _printed(code) == "False True True rich"


def test_a_process_that_has_rich_keeps_it() -> None:
    code = (
        "import sys, rich\n"
        "from coordinator.daemon.quick_imports import quick_imports\n"
        "with quick_imports():\n"
        "    during = sys.modules['rich'] is rich\n"
        "print(during, sys.modules['rich'] is rich)"
    )
    assert _printed(code) == "True True"
