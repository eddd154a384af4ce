"""``zsamb run --dry-run``: what would run, and all that is wrong with it. Sends and writes nothing."""

from collections.abc import Collection, Sequence

from ..console import NO_SERVER, WRONG, say, show
from ..messages import quoted
from ..texts import plain
from .client import Client, ClientError
from .row_folder import Job
from .server_check import refusals


def show_jobs(jobs: Sequence[Job], done: Collection[str]) -> None:
    """A line on stdout for each job: its folder, and what is set in it; or that it is among the names of
    those ``done``.
    """
    show([plain(_line(job, job.name in done)) for job in jobs])


def _line(job: Job, is_done: bool) -> str:
    parts = [f"{n}.{name}={quoted(job.workflow[n]['inputs'][name], 60)}" for n, name in job.changed]
    parts += [f"{node}.image from {file}" for node, file in job.pictures.items()]
    status = "is complete already" if is_done else f"sets {', '.join(parts) or 'nothing'}"
    return f"{f'{job.place}: ' if job.place else ''}{job.folder} {status}"


async def ask_servers(jobs: Sequence[Job], servers: Sequence[str]) -> int:
    """Say of each server whether it would run the jobs, or what it would refuse. Returns the exit code."""
    refused, alive = False, 0
    for address in servers:
        async with Client(address) as client:
            try:
                await client.is_there()
                problems = await refusals(jobs, client)
            except ClientError as error:
                say(str(error))
                continue
        alive += 1
        refused = refused or bool(problems)
        rows = "this" if len(jobs) == 1 else f"these {len(jobs)} rows"
        say(f"{client.name} would {'refuse:' if problems else f'run {rows}'}")
        for line in problems:
            say(line)
    if refused:
        return WRONG
    return 0 if alive else NO_SERVER
