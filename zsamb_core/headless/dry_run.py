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


async def ask_servers(jobs: Sequence[Job], servers: Sequence[str], wrong: Sequence[str]) -> int:
    """What each server would refuse, on stderr, behind the rows that are ``wrong`` anyway. Returns the exit
    code.
    """
    for line in wrong:
        say(line)
    refused, alive = [], 0
    for address in servers if jobs else ():
        async with Client(address) as client:
            try:
                await client.is_there()
                found = await refusals(jobs, client)
            except ClientError as error:
                say(str(error))
                continue
        alive += 1
        say(f"{client.name} would {'refuse this:' if found else f'run {len(jobs)}'}")
        for line in found:
            say(line)
        refused += found
    say("nothing was run")
    if wrong or refused:
        return WRONG
    return 0 if alive or not jobs else NO_SERVER
