"""What a VM takes of the host's memory, by /proc/<pid>/smaps_rollup of its process."""

from collections.abc import Callable

from ..bench import Bench, close_all
from ..machine import Process
from ..model import Measurement, NotAvailable, Row, Target

CLONES = 16


def pooled(bench: Bench) -> Measurement:
    """VM processes that are children of VM processes and belong to no sandbox: those that wait in pools."""
    bench.full_pool()
    in_use = {sandbox.get("vmm_pid") for sandbox in bench.get("/v1/sandboxes")["sandboxes"]}
    processes = bench.machine.vm_processes()
    waiting = [process for process in processes.values() if process.parent in processes and process.pid not in in_use]
    if not waiting:
        raise NotAvailable("no VM process waits in a pool")
    result = Measurement()
    for process in waiting:
        note(result, "", process)
    return result


def clones(bench: Bench) -> Measurement:
    """Children of one sandbox, right after they were made and after their first run, with what they cost the kernel."""
    result = Measurement()
    with bench.sandbox() as parent:
        bench.require_fork(parent)
        before = bench.machine.memory()
        children = parent.fork(min(CLONES, bench.count(CLONES)))
        try:
            after = bench.machine.memory()
            for kind in ("PageTables", "SecPageTables", "KernelStack", "Slab"):
                if kind in before:
                    result.add(f"{kind} of the kernel", (after[kind] - before[kind]) / len(children) / 1024)
            of_children(bench, children, lambda process: note(result, "at birth: ", process))
            for child in children:
                child.run_code("print(1)")
            of_children(bench, children, lambda process: note(result, "after a run: ", process))
        finally:
            close_all(children)
    return result


def of_children(bench: Bench, children: list, use: Callable[[Process], None]) -> None:
    processes = bench.machine.vm_processes()
    for child in children:
        pid = bench.get(f"/v1/sandboxes/{child.id}").get("vmm_pid")
        if pid not in processes:
            raise NotAvailable(f"the process {pid} of a clone is not to be seen")
        use(processes[pid])


def note(result: Measurement, when: str, process: Process) -> None:
    result.add(f"{when}own", process.own / 1024)
    result.add(f"{when}PSS", process.pss / 1024)
    result.add(f"{when}RSS", process.rss / 1024)
    result.add(f"{when}page tables", process.page_tables / 1024)


ROWS = (
    Row(
        "pooled-memory", "memory of an idle pooled 1 GiB VM", "MiB", pooled,
        (Target("own", "p50", 4),), "40 MB RSS",
    ),
    Row("clone-memory", "memory of a clone", "MiB", clones),
)
