"""Memory that a process may still have, from the files of a system that is made up."""

from __future__ import annotations

import sys

import pytest
from shared import python

from mfpde.support import memory
from mfpde.support.memory import available, check_memory

MIB = 2**20
MEMINFO = "MemTotal:       16384000 kB\nMemFree:          100000 kB\nMemAvailable:    1024000 kB\n"


def machine(root, **files):
    """A system whose files are these, `/` in their names written as a double underscore."""
    for name, text in ({"proc__meminfo": MEMINFO} | files).items():
        file = root.joinpath(*name.split("__"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return str(root)


def mounted(kind, place, root="/", options="rw"):
    return f"31 23 0:27 {root} {place} rw,nosuid - {kind} {kind} {options}\n"


def test_what_the_machine_has_without_swapping(tmp_path):
    assert available(machine(tmp_path)) == 1024000 * 1024


def test_the_least_of_nested_groups_counts_less_what_they_cannot_give_back(tmp_path):
    """Version 2. The group above has the least: 300 MiB, of which 250 are used and 30 + 40 are files in memory."""
    root = machine(
        tmp_path,
        proc__self__cgroup="0::/slurm/job/step\n",
        proc__self__mountinfo=mounted("cgroup2", "/sys/fs/cgroup"),
        **{
            "sys__fs__cgroup__slurm__memory.max": "max\n",
            "sys__fs__cgroup__slurm__job__memory.max": f"{300 * MIB}\n",
            "sys__fs__cgroup__slurm__job__memory.current": f"{250 * MIB}\n",
            "sys__fs__cgroup__slurm__job__memory.stat": f"anon 1\ninactive_file {30 * MIB}\nactive_file {40 * MIB}\n",
            "sys__fs__cgroup__slurm__job__step__memory.max": f"{600 * MIB}\n",
            "sys__fs__cgroup__slurm__job__step__memory.current": f"{10 * MIB}\n",
        },
    )
    assert available(root) == (300 - 250 + 70) * MIB


def test_a_container_sees_its_own_group_as_the_root(tmp_path):
    """What is mounted is the group ``/docker/abc``, whose path is the process's."""
    root = machine(
        tmp_path,
        proc__self__cgroup="0::/docker/abc\n",
        proc__self__mountinfo=mounted("cgroup2", "/sys/fs/cgroup", "/docker/abc"),
        **{"sys__fs__cgroup__memory.max": f"{200 * MIB}", "sys__fs__cgroup__memory.current": f"{50 * MIB}"},
    )
    assert available(root) == 150 * MIB


def test_groups_of_version_1(tmp_path):
    """Its files have other names, and a limit of 2^63 less a page is none."""
    names = {
        "limit_in_bytes": f"{400 * MIB}",
        "usage_in_bytes": f"{380 * MIB}",
        "stat": f"cache 5\ntotal_inactive_file {100 * MIB}\ntotal_active_file 0\n",
    }
    files = {f"sys__fs__cgroup__memory__user__memory.{name}": text for name, text in names.items()}
    files |= {"sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712"}
    root = machine(
        tmp_path,
        proc__self__cgroup="5:cpu:/\n4:memory:/user\n0::/\n",
        proc__self__mountinfo=mounted("cgroup", "/sys/fs/cgroup/cpu", options="rw,cpu")
        + mounted("cgroup", "/sys/fs/cgroup/memory", options="rw,memory"),
        **files,
    )
    assert available(root) == 120 * MIB


def test_a_system_that_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}[name])
    assert available(str(tmp_path)) == 4096 * 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of a process are read from /proc")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_less_what_it_has(limit):
    """A run that fits is made under the limit; one that does not is refused in one line before it is made."""
    code = """
import resource, sys
import mfpde as mf
problem = mf.problems.three_gaussians()
arguments = dict(t_end=1e-6, save=2, max_steps=1, throw=False, progress=False, threads=1)
mf.solve(problem, (30, 30), **arguments)
from mfpde.support.memory import available
name = getattr(resource, sys.argv[1])
used = {l.split()[0]: int(l.split()[1]) * 1024 for l in open('/proc/self/status') if l.startswith('Vm')}
limit = used['VmSize:' if sys.argv[1] == 'RLIMIT_AS' else 'VmData:'] + 300 * 2**20
resource.setrlimit(name, (limit, resource.getrlimit(name)[1]))
assert 250 * 2**20 < available() <= 300 * 2**20, available()
mf.solve(problem, (800, 800), **arguments)
try:
    mf.solve(problem, (4000, 4000), **arguments)
except MemoryError as error:
    print(error)
"""
    done = python("-c", code, limit)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("16000000 cells and 2 saved densities (")
    assert "there are 0.2" in done.stdout
    assert done.stdout.count("\n") == 1


def test_what_fits_is_said(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 8 * 3 * 1000)
    check_memory(1000, 3, "particles")
    with pytest.raises(MemoryError, match=r"1001 particles need about .*; use at most 1000 particles"):
        check_memory(1001, 3, "particles")
