"""The hardware report, from a made-up processor description and the real machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.hardware.limits import LimitReader
from edge_agent.hardware.probe import HardwareProbe, training_threads, usable_cores
from edge_agent.storage.share import DiskShare
from ravan.codec.profiles import hardware_from_wire, hardware_to_wire
from ravan.manifest.profile import LimitSource

X86 = "processor : 0\nmodel name : Old CPU\nflags\t\t: fpu sse2{} avx2\n\n"
ARM = "processor : 0\nFeatures\t: fp asimd{} crc32\n"


def share(folder: Path) -> DiskShare:
    return DiskShare(limit_bytes=0, folders=(folder,))


@pytest.mark.parametrize(("text", "expected"), [(X86, True), (ARM, True)])
def test_aes_is_a_flag_of_its_own(tmp_path: Path, text: str, expected: bool) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(text.format(" aes"))
    assert HardwareProbe(LimitReader(), share(tmp_path), info).read().aes_instructions is expected
    info.write_text(text.format(" aeskl"))
    assert HardwareProbe(LimitReader(), share(tmp_path), info).read().aes_instructions is False


def test_the_report_passes_the_wire(tmp_path: Path) -> None:
    profile = HardwareProbe(LimitReader(configured_mb=100), share(tmp_path)).read()
    assert hardware_from_wire(hardware_to_wire(profile)) == profile
    assert (profile.ram_limit_bytes, profile.ram_limit_source) == (100 << 20, LimitSource.CONFIG)
    assert profile.cpu_capability


def test_cores_are_those_of_this_process() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert (usable_cores(), training_threads(0), training_threads(3)) == (1, 1, 3)
    finally:
        os.sched_setaffinity(0, allowed)
