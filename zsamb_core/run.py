"""Run a ComfyUI workflow with other inputs on one or more servers, once or for each row of a manifest.

Prints the files it wrote on stdout, progress and errors on stderr. Exit codes: 0 all done, 1 the server
refused or failed, 2 an input is wrong and nothing was run, 3 no server answers.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from .client import Client, ClientError, Refused, Unreachable, read_address
from .manifest import Job, ManifestError, is_done, keep, prepare, prepare_rows
from .workflow import WorkflowError, check_inputs, picture_inputs, read_workflow, set_input, title

FAILED, WRONG, NO_SERVER, INTERRUPTED = 1, 2, 3, 130
LOSSES = 2  # servers that may go under one row before the row is taken to be the cause


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser, options = _arguments(argv)
    if lacking := [name for name in ("aiohttp", "PIL") if find_spec(name) is None]:
        parser.exit(
            WRONG,
            f"{parser.prog}: {sys.executable} has no {' and no '.join(lacking)}. Use ComfyUI's own Python, or"
            " install them: pip install aiohttp pillow\n",
        )
    try:
        jobs = _jobs(options)
    except (WorkflowError, ManifestError, ValueError) as error:
        parser.exit(WRONG, f"{parser.prog}: {error}\n")
    # A single run is asked for by name and so always done.
    todo = [job for job in jobs if not (options.manifest and is_done(job))]
    if options.manifest and len(todo) < len(jobs):
        _say(f"{len(jobs) - len(todo)} of {len(jobs)} rows are complete already")
    if not todo:
        return 0
    try:
        return asyncio.run(_run(todo, options.server, check=bool(options.manifest)))
    except KeyboardInterrupt:
        _say("interrupted; the server's run was cancelled")
        return INTERRUPTED
    except OSError as error:
        _say(f"stopped: {error}")  # a full disk, or a picture that is gone since it was checked
        return FAILED


@dataclass
class Pool:
    """Jobs that servers take one by one as they are free."""

    waiting: deque[Job]
    several: bool  # servers, so that progress says which
    busy: int = 0
    done: int = 0
    failed: list[str] = field(default_factory=list)
    losses: Counter[str] = field(default_factory=Counter)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, client: Client) -> None:
        """Do jobs on this server until there are none, or until it goes."""
        while (job := await self._next()) is not None:
            try:
                await self._do(job, client)
                self.done += 1
            except Unreachable as error:
                self._lost(job, client, error)
                return
            except Refused as error:
                self._failed(job, str(error))
            finally:
                self.busy -= 1
                self.changed.set()

    async def _next(self) -> Job | None:
        while not self.waiting:
            # A job that another server has may come back.
            if not self.busy:
                return None
            self.changed.clear()
            await self.changed.wait()
        self.busy += 1
        return self.waiting.popleft()

    async def _do(self, job: Job, client: Client) -> None:
        start, workflow = time.monotonic(), job.workflow
        for node, file in job.pictures.items():
            workflow = set_input(workflow, f"{node}.image", await client.upload(file))
        label = f"{job.name} on {client.name}" if self.several else job.name

        def step(node: str, done: int, total: int) -> None:
            _show_step(f"{label}: {title(workflow, node)}", done, total)

        run = await client.run(workflow, step)
        # Previews count where nothing is saved.
        outputs = [o for o in run.outputs if o.type == "output"] or run.outputs
        if not outputs:
            raise Refused("the workflow ran but saved no file; it needs a node such as Save Image")
        files = [(output.filename, await client.fetch(output)) for output in outputs]
        paths = keep(job, client.name, files)
        _say(f"{label}: {len(files)} file{'s' * (len(files) > 1)}, {time.monotonic() - start:.1f} s")
        print("\n".join(map(str, paths)), flush=True)

    def _lost(self, job: Job, client: Client, error: Unreachable) -> None:
        _say(f"{client.name} is given up: {error}")
        self.losses[job.name] += 1
        if self.losses[job.name] >= LOSSES:
            self._failed(job, f"{LOSSES} servers were lost while they ran it, so no other is given it")
        else:
            self.waiting.appendleft(job)

    def _failed(self, job: Job, why: str) -> None:
        self.failed.append(job.name)
        _say(f"{job.name}{f' ({job.place})' if job.place else ''} failed: {why}")


async def _run(jobs: Sequence[Job], servers: Sequence[str], check: bool) -> int:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(address)) for address in servers]
        alive = []
        for client in clients:
            try:
                await client.get("/system_stats")
                alive.append(client)
            except ClientError as error:
                _say(str(error))
        if not alive:
            return NO_SERVER
        if check:
            for client in alive:
                try:
                    wrong = await _check(jobs, client)
                except ClientError as error:
                    _say(str(error))
                    return NO_SERVER
                if wrong:
                    _say("\n".join([f"{client.name} would refuse this; nothing was run.", *wrong[:20]]))
                    return WRONG
        pool = Pool(deque(jobs), several=len(alive) > 1)
        tasks = [asyncio.create_task(pool.serve(client)) for client in alive]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    if check or pool.waiting:
        _say(f"{pool.done} done, {len(pool.failed)} failed, {len(pool.waiting)} not run")
    if pool.waiting:
        _say("no server is left; run the same command again when one is, and it goes on from there")
        return NO_SERVER
    return FAILED if pool.failed else 0


async def _check(jobs: Sequence[Job], client: Client) -> list[str]:
    """What this server would refuse in any of the jobs, told before the first runs."""
    classes = {node["class_type"] for job in jobs for node in job.workflow.values()}
    info = {name: await client.node_info(name) for name in sorted(classes)}
    if absent := check_inputs(jobs[0].workflow, [], info):
        return absent
    wrong = []
    for job in jobs:
        # Of what the row leaves as it is, its pictures alone: one forgotten is the likeliest mistake.
        kept = [(n, name) for n, name in picture_inputs(job.workflow) if n not in job.pictures]
        wrong += [
            f"{job.place}: {w}"
            for w in check_inputs(job.workflow, dict.fromkeys([*kept, *job.changed]), info)
        ]
    return wrong


def _arguments(argv: list[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        prog="python -m zsamb_core.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workflow", type=Path, help="a .json in ComfyUI's API format")
    parser.add_argument(
        "--server",
        action="append",
        metavar="URL",
        help="http://127.0.0.1:8188 if not given; again for each further server",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="INPUT=VALUE",
        help="INPUT is a name (every node that has it), id.name or title.name",
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NODE=FILE",
        help="send a picture to the server for the node with this id or title",
    )
    parser.add_argument("--manifest", type=Path, help="a .csv or .jsonl file, one run a row")
    parser.add_argument("--out", type=Path, default=Path("output"), help="folder for what was saved")
    options = parser.parse_args(argv)
    options.server = options.server or ["http://127.0.0.1:8188"]
    return parser, options


def _jobs(options: argparse.Namespace) -> list[Job]:
    """All that is to run, with every input checked that can be without a server. Raises ValueError."""
    addresses = [read_address(server) for server in options.server]
    if twice := [a for a, n in Counter(addresses).items() if n > 1]:
        raise ValueError(
            f"--server {Client(twice[0]).name} is given twice; each server takes one row at once"
        )
    values = [_pair("--set", text, "INPUT=VALUE") for text in options.set]
    pictures = {node: Path(file) for node, file in (_pair("--image", t, "NODE=FILE") for t in options.image)}
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out {options.out}: is a file, expected a folder")
    workflow = read_workflow(options.workflow)
    if options.manifest:
        return prepare_rows(options.manifest, workflow, options.out, values, pictures)
    name = options.workflow.stem
    return [prepare(workflow, name, "", options.out, values, pictures)]


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise ValueError(f"{option} {text!r}: expected {form}")
    return key.strip(), value


def _show_step(label: str, done: int, total: int) -> None:
    """One line that changes on a terminal; in a log, a line when a node's steps are through."""
    if sys.stderr.isatty():
        steps = f" {done}/{total}" if total else ""
        print(f"\r\033[K{label}{steps}", end="", file=sys.stderr, flush=True)
    elif total and done >= total:
        print(f"{label} {done}/{total}", file=sys.stderr, flush=True)


def _say(text: str) -> None:
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{clear}{text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
