"""``zsamb run``: a workflow with other inputs on one or more servers, once or for each row of a manifest."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from ..console import FAILED, INTERRUPTED, NO_SERVER, WRONG, say
from ..packages import require_packages
from .client import Client, ClientError, read_address
from .dry_run import ask_servers, show_jobs
from .manifest import check_rows, prepare, prepare_rows
from .pool import Pool
from .row_folder import Job, damage, is_done
from .server_check import refusals
from .workflow import read_workflow

DEFAULT = "http://127.0.0.1:8188"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run a ComfyUI workflow with other inputs on one or more servers, once or for each row of a manifest."
        "\nPrints the files it wrote on stdout, progress and errors on stderr."
    )
    parser.epilog = (
        "exit codes:\n  0    all done\n  1    a server refused or failed\n  2    an input is wrong, nothing"
        " was run\n  3    no server answers\n  130  interrupted"
    )
    parser.add_argument(
        "workflow", metavar="WORKFLOW", type=Path, help="a .json file in ComfyUI's API format"
    )
    parser.add_argument(
        "--server",
        action="append",
        metavar="URL",
        help=f"{DEFAULT} if not given; again for each further server",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="INPUT=VALUE",
        help="INPUT is a name (every node that has it), id.name or title.name; zsamb inputs lists them",
    )
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NODE=FILE",
        help="send a picture to the server for the node with this id or title",
    )
    parser.add_argument("--manifest", metavar="FILE", type=Path, help="a .csv or .jsonl file, one run a row")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path("output"),
        help="for the files; output if not given",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="list what would run and every bad row; the servers are asked, nothing is sent or written",
    )


def main(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    servers = options.server or [DEFAULT]
    try:
        require_packages("aiohttp", "PIL")
        jobs, wrong = _jobs(options, servers)
    except (OSError, ValueError) as error:
        say(f"zsamb run: {error}")
        return WRONG
    # A single run is asked for by name and so always done.
    done = {job.name for job in jobs if options.manifest and is_done(job)}
    todo = [job for job in jobs if job.name not in done]
    if options.dry_run:
        show_jobs(jobs, done)
        for line in ([f"{options.manifest}: these rows are wrong:"] if wrong else []) + wrong:
            say(line)
    if done:
        say(f"{len(done)} of {len(jobs) + len(wrong)} rows are complete already")
    for job in todo:
        if damaged := damage(job):
            say(f"{job.name}: {damaged}")
    if not todo:
        return WRONG if wrong else 0
    try:
        if options.dry_run:
            code = asyncio.run(ask_servers(todo, servers))
            say("nothing was run, as it was a dry run")
            return WRONG if wrong else code
        return asyncio.run(_run(todo, servers, check=bool(options.manifest)))
    except KeyboardInterrupt:
        say("interrupted" if options.dry_run else "interrupted; the server's run was cancelled")
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
                wrong = await refusals(jobs, client) if check else []
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


def _jobs(options: argparse.Namespace, servers: Sequence[str]) -> tuple[list[Job], list[str]]:
    """All that is to run, with every input checked that can be without a server; and of a dry run what is
    wrong in each bad row. Raises ValueError, for bad rows too where it is no dry run.
    """
    addresses = [read_address(server) for server in servers]
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
        rows = (options.manifest, workflow, options.out, values, pictures)
        return check_rows(*rows) if options.dry_run else (prepare_rows(*rows), [])
    return [prepare(workflow, options.workflow.stem, "", options.out, values, pictures)], []


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise ValueError(f"{option} {text!r}: expected {form}")
    return key.strip(), value
