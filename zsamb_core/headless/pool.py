"""Rows shared among servers. A server that is gone, or at which row after row fails, is left out."""

import asyncio
import errno
import time
import traceback
from collections import Counter, deque
from collections.abc import Sequence

from ..console import say, show_step, tell
from .claim import InUse, claimed
from .client import Cancelled, Client, ClientError, Refused, Unreachable
from .row_folder import Job, is_done, keep, refuse_link
from .workflow import set_input, title

LOSSES = 2  # servers that may go under one row before the row is taken to be the cause
STREAK = 3  # rows that may fail in a row on one server before it must wait for what others say of them
PAUSE = 1.0  # seconds before a row that another run has is looked at again
# No row could be written after these.
DISK = {errno.ENOSPC, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC)}


class Pool:
    """Jobs that servers take one by one as they are free.

    A job that one server refuses is given to another before it counts as failed: either may be the cause.
    A server that refuses several in a row takes no new ones until another has tried them, and is left out if
    that one does them.
    """

    def __init__(self, jobs: Sequence[Job], clients: Sequence[Client], resume: bool):
        """``resume``: a job that is done by now is not done again."""
        self.waiting, self.alive, self.resume = deque(jobs), list(clients), resume
        self.several = len(clients) > 1  # so that progress says which
        self.done, self.busy = 0, 0
        self.failed: list[str] = []
        self.losses: Counter[str] = Counter()
        # Who refused a job, and why, by its name, until another server has tried it.
        self.refused: dict[str, tuple[Client, str]] = {}
        self.streaks: Counter[Client] = Counter()
        self.others: set[str] = set()  # names of jobs that another run has
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Until there are no jobs or no servers. Raises OSError for a disk that takes no more."""
        tasks = [asyncio.create_task(self._serve(client)) for client in self.alive]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, client: Client) -> None:
        while (job := await self._next(client)) is not None:
            try:
                await self._do(job, client)
                self._clear(job, client)
            except InUse:
                await self._later(job)
            except Unreachable as error:
                if await self._is_there(client):
                    # Something about this row breaks the connection, or the server has been started again.
                    self._refuse(job, client, str(error))
                else:
                    self._lost(job, client, error)
            except Cancelled as error:
                self._fail(job, str(error))
            except Refused as error:
                self._refuse(job, client, str(error))
            except OSError as error:
                if error.errno in DISK:
                    raise
                self._fail(job, str(error))
            except Exception as error:
                # A mistake of this program must not cost the other rows.
                traceback.print_exc()
                self._fail(job, f"an error of this program, please report it: {error!r}")
            finally:
                self.busy -= 1
                self.changed.set()

    async def _next(self, client: Client) -> Job | None:
        while client in self.alive:
            suspect = self._is_suspect(client)
            for job in self.waiting:
                first = self._first(job)
                if first is not client and not (first is None and suspect):
                    self.waiting.remove(job)
                    self.busy += 1
                    return job
            if self.alive == [client]:
                for job in self.waiting:  # no other server is left to try them
                    self._fail(job, self.refused[job.name][1])
                self.waiting.clear()
            # A job that another server has may come back.
            if not self.busy and not self.waiting:
                break
            self.changed.clear()
            await self.changed.wait()
        return None

    async def _do(self, job: Job, client: Client) -> None:
        refuse_link(job)
        with claimed(job.folder):
            if self.resume and is_done(job):
                say(f"{job.name} was done by another run")
            else:
                await self._draw(job, client)
        self.done += 1

    async def _draw(self, job: Job, client: Client) -> None:
        start, workflow = time.monotonic(), job.workflow
        for node, file in job.pictures.items():
            workflow = set_input(workflow, f"{node}.image", await client.upload(file))
        label = f"{job.name} on {client.name}" if self.several else job.name

        def step(node: str, done: int, total: int) -> None:
            show_step(f"{label}: {title(workflow, node)}", done, total)

        run = await client.run(workflow, step)
        # Previews count where nothing is saved.
        outputs = [o for o in run.outputs if o.type == "output"] or run.outputs
        if not outputs and not run.texts:
            raise Refused("the workflow ran but saved no file; it needs a node such as Save Image")
        files = [(output, await client.fetch(output)) for output in outputs]
        pictures, texts = keep(job, client.name, files, run.texts)
        written = [f"{len(p)} {w}{'s' * (len(p) > 1)}" for p, w in ((pictures, "file"), (texts, "text")) if p]
        say(f"{label}: {', '.join(written)}, {time.monotonic() - start:.1f} s")
        # A script that takes pictures from stdout finds no texts among them.
        tell(pictures or texts)

    async def _later(self, job: Job) -> None:
        if job.name not in self.others:
            say(f"{job.name}: another run has {job.folder}; it is waited for")
        self.others.add(job.name)
        self.waiting.append(job)
        self.changed.set()
        await asyncio.sleep(PAUSE)

    async def _is_there(self, client: Client) -> bool:
        try:
            await asyncio.wait_for(client.is_there(), 10)
        except (ClientError, asyncio.TimeoutError):
            return False
        return True

    def _lost(self, job: Job, client: Client, error: Unreachable) -> None:
        say(f"{client.name} is given up: {error}")
        self.alive.remove(client)
        self.losses[job.name] += 1
        if self.losses[job.name] >= LOSSES:
            self._fail(job, f"{LOSSES} servers were lost while they ran it, so no other is given it")
        else:
            self.waiting.appendleft(job)

    def _refuse(self, job: Job, client: Client, why: str) -> None:
        if (first := self._first(job)) is not None:
            self.streaks[first] -= 1  # two servers refuse it, so the first is not to blame
            self._fail(job, why)
        elif self.alive == [client]:
            self._fail(job, why)
        else:
            self.refused[job.name] = (client, why)
            self.streaks[client] += 1
            self.waiting.appendleft(job)
            say(f"{job.name} goes to another server, {client.name} says: {why}")

    def _clear(self, job: Job, client: Client) -> None:
        """What it says of the servers that this one did the job."""
        self.streaks[client] = 0
        first = self._first(job)
        if first in self.alive and self.streaks[first] >= STREAK:
            say(f"{first.name} is left out: {STREAK} rows in a row failed there, and {client.name} does them")
            self.alive.remove(first)
        self.refused.pop(job.name, None)

    def _first(self, job: Job) -> Client | None:
        """The server that refused it, if one did."""
        return self.refused.get(job.name, (None, ""))[0]

    def _is_suspect(self, client: Client) -> bool:
        """Whether another server is to try what this one refused before it gets more."""
        asked = any(first is client for first, _ in self.refused.values())
        return asked and self.streaks[client] >= STREAK and len(self.alive) > 1

    def _fail(self, job: Job, why: str) -> None:
        self.failed.append(job.name)
        self.refused.pop(job.name, None)
        say(f"{job.name}{f' ({job.place})' if job.place else ''} failed: {why}")
