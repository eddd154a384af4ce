"""What the pack adds to ComfyUI's start: seconds to import it after the host's own imports.

The host is imported once, and each import of the pack is in a fork of that process (not on Windows).
``--before FOLDER``: beside another copy of the pack, in turns.
"""

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import sys
import time
from pathlib import Path

from demo.training.hosting import import_host

from .figures import keep, table

ROOT = Path(__file__).resolve().parents[1]


def imported(folder: Path) -> tuple[float, float]:
    """Seconds on the clock, and of work."""
    spec = importlib.util.spec_from_file_location(
        "pack", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
    start, worked = time.perf_counter(), time.process_time()
    spec.loader.exec_module(module)
    return time.perf_counter() - start, time.process_time() - worked


def in_a_fork(folder: Path) -> tuple[float, float]:
    read, write = os.pipe()
    if not os.fork():
        try:
            os.write(write, json.dumps(imported(folder)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        clock, work = json.load(answer)
    os.wait()
    return clock, work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--before", type=Path, help="another copy of the pack")
    parser.add_argument("--docs", action="store_true", help="write the table to docs/measured.md")
    args = parser.parse_args()
    sys.dont_write_bytecode = False  # Python keeps what it compiled, as it does at a user's
    import_host()
    for name in ("nodes", "comfy.samplers", "comfy_api.latest", "comfy.sd"):
        importlib.import_module(name)

    folders = {"this": ROOT} if args.before is None else {"before": args.before.resolve(), "this": ROOT}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in folders}
    for i in range(args.rounds + 1):  # in the first, Python compiles
        for name, folder in folders.items():
            times[name] += [in_a_fork(folder)] if i else []
    rows: list[dict] = []
    for name, found in times.items():
        clocks, works = zip(*found, strict=True)
        rows.append(
            {
                "import of the pack": name,
                "ms of work, least": round(1000 * min(works)),
                "ms of work, median": round(1000 * statistics.median(works)),
                "ms on the clock, median": round(1000 * statistics.median(clocks)),
                "of the first's work, median": statistics.median(
                    own / first for (_, own), (_, first) in zip(found, times[next(iter(times))], strict=True)
                ),
            }
        )
    print(table(rows))
    if args.docs:
        keep("import_time", rows)


if __name__ == "__main__":
    main()
