"""The tightest memory limit, from made-up kernel files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.hardware.limits import LimitReader, soft_resource_limits
from ravan.manifest.profile import LimitSource

GIB, MIB = 1 << 30, 1 << 20


class Machine:
    """A /proc and a /sys; 8 GiB of memory and no other limit."""

    def __init__(self, root: Path) -> None:
        self.proc, self.sys = root / "proc", root / "sys"
        self.write(self.proc / "meminfo", f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\n")
        self.rlimits: list[int] = []

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def group(self, path: str, text: str) -> None:
        self.write(self.sys / "fs" / "cgroup" / path, text)

    def reader(self, configured_mb: int = 0) -> LimitReader:
        return LimitReader(
            configured_mb=configured_mb,
            proc=self.proc,
            sys_fs=self.sys,
            resource_limits=lambda: iter(self.rlimits),
        )

    def read(self, configured_mb: int = 0) -> tuple[int, LimitSource]:
        limit = self.reader(configured_mb).read()
        return limit.limit_bytes, limit.source


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_limits_it_is_the_machine(machine: Machine) -> None:
    assert machine.read() == (8 * GIB, LimitSource.MACHINE)
    assert machine.reader().total_bytes() == 8 * GIB


def test_configuration(machine: Machine) -> None:
    assert machine.read(configured_mb=600) == (600 * MIB, LimitSource.CONFIG)


def test_configuration_cannot_widen(machine: Machine) -> None:
    machine.rlimits = [500 * MIB]
    assert machine.read(configured_mb=600) == (500 * MIB, LimitSource.RLIMIT)


def test_group_of_version_1(machine: Machine) -> None:
    machine.write(machine.proc / "self/cgroup", "5:cpu,cpuacct:/\n4:memory:/plant/a\n")
    machine.group("memory/plant/a/memory.limit_in_bytes", f"{700 * MIB}\n")
    machine.group("memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert machine.read() == (700 * MIB, LimitSource.CGROUP)


def test_group_of_version_2(machine: Machine) -> None:
    machine.write(machine.proc / "self/cgroup", "0::/plant/a\n")
    machine.group("plant/a/memory.max", f"{700 * MIB}\n")
    assert machine.read() == (700 * MIB, LimitSource.CGROUP)


def test_an_outer_group_may_be_tighter(machine: Machine) -> None:
    machine.write(machine.proc / "self/cgroup", "0::/plant/a\n")
    machine.group("plant/memory.max", f"{300 * MIB}\n")
    machine.group("plant/a/memory.max", "max\n")
    assert machine.read() == (300 * MIB, LimitSource.CGROUP)


@pytest.mark.parametrize(
    ("line", "file"),
    [("0::/docker/0a1b", "memory.max"), ("4:memory:/docker/0a1b", "memory/memory.limit_in_bytes")],
)
def test_in_a_container_the_own_group_is_the_root(machine: Machine, line: str, file: str) -> None:
    machine.write(machine.proc / "self/cgroup", f"{line}\n")
    machine.group(file, f"{400 * MIB}\n")
    assert machine.read() == (400 * MIB, LimitSource.CGROUP)


def test_groups_of_another_kind_do_not_count(machine: Machine) -> None:
    machine.write(machine.proc / "self/cgroup", "5:cpu:/plant\nnonsense\n")
    machine.group("memory/plant/memory.limit_in_bytes", f"{1 * MIB}\n")
    assert machine.read() == (8 * GIB, LimitSource.MACHINE)


def test_a_limit_that_changes_is_seen(machine: Machine) -> None:
    machine.write(machine.proc / "self/cgroup", "0::/a\n")
    machine.group("a/memory.max", f"{800 * MIB}\n")
    reader = machine.reader()
    before = reader.read().limit_bytes
    machine.group("a/memory.max", f"{400 * MIB}\n")
    assert (before, reader.read().limit_bytes) == (800 * MIB, 400 * MIB)


def test_this_process_has_a_limit() -> None:
    limit = LimitReader().read()
    assert 0 < limit.limit_bytes <= LimitReader().total_bytes()


def test_resource_limits_of_this_process_are_read() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (64 * GIB, before[1]))
        assert 64 * GIB in list(soft_resource_limits())
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.parametrize(
    ("available_mb", "pressed"), [(100, True), (400, True), (511, True), (513, False), (4000, False)]
)
def test_what_other_programs_are_to_have_comes_off_where_it_gets_short(
    machine: Machine, available_mb: int, pressed: bool
) -> None:
    machine.write(machine.proc / "meminfo", f"MemTotal: {8 << 20} kB\nMemAvailable: {available_mb << 10} kB\n")
    reader = LimitReader(
        keep_free_mb=256,
        proc=machine.proc,
        sys_fs=machine.sys,
        resource_limits=lambda: iter(()),
        held_bytes=lambda: 700 * MIB,
    )
    assert reader.is_pressed == pressed
    found = reader.read().limit_bytes
    if pressed:
        wanted = (700 + available_mb - 256) * MIB
        assert wanted - 64 * MIB < found <= wanted
        assert found % (64 * MIB) == 0
    else:
        assert found == 8 * GIB


def test_without_a_wish_of_others_nothing_comes_off(machine: Machine) -> None:
    machine.write(machine.proc / "meminfo", f"MemTotal: {8 << 20} kB\nMemAvailable: 1024 kB\n")
    assert not machine.reader().is_pressed
    assert machine.read() == (8 * GIB, LimitSource.MACHINE)


@pytest.mark.parametrize(
    ("available_mb", "needed_mb", "room"),
    [
        (4000, 1000, True),
        (4000, 4444, True),
        (4000, 4445, False),
        (600, 1044, True),
        (600, 1045, False),
        (511, 1, False),
    ],
)
def test_there_is_room_for_what_the_agent_holds_and_others_leave(
    machine: Machine, available_mb: int, needed_mb: int, room: bool
) -> None:
    machine.write(machine.proc / "meminfo", f"MemTotal: {8 << 20} kB\nMemAvailable: {available_mb << 10} kB\n")
    reader = LimitReader(
        keep_free_mb=256,
        proc=machine.proc,
        sys_fs=machine.sys,
        resource_limits=lambda: iter(()),
        held_bytes=lambda: 700 * MIB,
    )
    assert reader.leaves_room_for(needed_mb * MIB) is room
