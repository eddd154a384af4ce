"""What a server would refuse, told before the first run."""

from collections.abc import Sequence

from .client import Client
from .row_folder import Job
from .workflow import check_inputs, picture_inputs


async def refusals(jobs: Sequence[Job], client: Client) -> list[str]:
    """What this server would refuse in any of the jobs, a line each. Only asks, and sends nothing. Raises
    ClientError.
    """
    classes = {node["class_type"] for job in jobs for node in job.workflow.values()}
    info = {name: await client.node_info(name) for name in sorted(classes)}
    if absent := check_inputs(jobs[0].workflow, [], info):
        return absent
    wrong = []
    for job in jobs:
        # Of what the row leaves as it is, its pictures alone: one forgotten is the likeliest mistake.
        pictures = [(n, name) for n, name in picture_inputs(job.workflow) if n not in job.pictures]
        wrong += [
            f"{job.place or job.name}: {w}"
            for w in check_inputs(job.workflow, dict.fromkeys([*pictures, *job.changed]), info)
        ]
    return wrong
