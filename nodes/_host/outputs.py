"""Outputs that a run does not have."""

from comfy_execution.graph_utils import ExecutionBlocker


def without(message: str) -> ExecutionBlocker:
    """In an output's place: nodes that want it are not run, and the message says why. Others run."""
    return ExecutionBlocker(message)
