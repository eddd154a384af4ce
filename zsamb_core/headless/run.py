"""Run a ComfyUI workflow with other inputs on one or more servers, once or for each row of a manifest.

Prints the files it wrote on stdout, progress and errors on stderr. Exit codes: 0 all done, 1 the server
refused or failed, 2 an input is wrong and nothing was run, 3 no server answers.
"""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path

from ..console import say, take_any_text
from ..texts import plain
from .client import Client, ClientError, read_address
from .manifest import prepare, prepare_rows
from .pool import Pool
from .row_folder import Job, damage, is_done
from .workflow import check_inputs, picture_inputs, read_workflow

FAILED, WRONG, NO_SERVER, INTERRUPTED = 1, 2, 3, 130


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    take_any_text()
    parser, options = _arguments(argv)
    if lacking := [name for name in ("aiohttp", "PIL") if find_spec(name) is None]:
        parser.exit(
            WRONG,
            f"{parser.prog}: {sys.executable} has no {' and no '.join(lacking)}. Use ComfyUI's own Python, or"
            " install them: pip install aiohttp pillow\n",
        )
    try:
        jobs = _jobs(options)
    except (OSError, ValueError) as error:
        parser.exit(WRONG, plain(f"{parser.prog}: {error}\n"))
    # A single run is asked for by name and so always done.
    todo = [job for job in jobs if not (options.manifest and is_done(job))]
    if options.manifest and len(todo) < len(jobs):
        say(f"{len(jobs) - len(todo)} of {len(jobs)} rows are complete already")
    for job in todo:
        if wrong := damage(job):
            say(f"{job.name}: {wrong}")
    if not todo:
        return 0
    try:
        return asyncio.run(_run(todo, options.server, check=bool(options.manifest)))
    except KeyboardInterrupt:
        say("interrupted; the server's run was cancelled")
        return INTERRUPTED
    except OSError as error:
        say(f"stopped: {error}")  # a full disk, or a picture that is gone since it was checked
        return FAILED


async def _run(jobs: Sequence[Job], servers: Sequence[str], check: bool) -> int:
    async with AsyncExitStack() as stack:
        alive = []
        for address in servers:
            client = await stack.enter_async_context(Client(address))
            try:
                await client.is_there()
                wrong = await _check(jobs, client) if check else []
            except ClientError as error:
                say(str(error))
                continue
            if wrong:
                say("\n".join([f"{client.name} would refuse this; nothing was run.", *wrong[:20]]))
                return WRONG
            alive.append(client)
        if not alive:
            return NO_SERVER
        if len(alive) < len(servers):
            say(f"going on without {len(servers) - len(alive)} of {len(servers)} servers")
        pool = Pool(jobs, alive, resume=check)
        await pool.run()
    if check or pool.waiting:
        say(f"{pool.done} done, {len(pool.failed)} failed, {len(pool.waiting)} not run")
    if pool.waiting:
        say("no server is left; run the same command again when one is, and it goes on from there")
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
        unchanged = [(n, name) for n, name in picture_inputs(job.workflow) if n not in job.pictures]
        wrong += [
            f"{job.place}: {w}"
            for w in check_inputs(job.workflow, dict.fromkeys([*unchanged, *job.changed]), info)
        ]
    return wrong


def _arguments(argv: list[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        prog="python -m zsamb_core.headless.run",
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


if __name__ == "__main__":
    sys.exit(main())
