"""What a ComfyUI server answers, read without trust: a server may be something else, broken or hostile."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..messages import quoted
from ..texts import has_half, plain, read_json
from .workflow import Workflow, title

LONGEST = 1000  # characters of a server's text in a message
LINES = 20  # mistakes that one message lists
IDS = ("prompt_id", "node")  # of a message
# How files of these endings begin. A login page in place of a picture is no picture.
BEGINNINGS = {
    ".png": (b"\x89PNG",),
    ".jpg": (b"\xff\xd8",),
    ".jpeg": (b"\xff\xd8",),
    ".gif": (b"GIF8",),
    ".webp": (b"RIFF",),
}


class Odd(ValueError):
    """An answer that is not ComfyUI's; says what was found."""


class Stopped(ValueError):
    """The run was stopped by somebody on the server."""


class Failed(ValueError):
    """The run failed, in the server's words."""


@dataclass(frozen=True)
class Output:
    """A file that a node left on the server."""

    node: str
    kind: str  # the server's word: images, audio, video, ...
    filename: str
    subfolder: str
    type: str  # "output" where it was saved, "temp" where it is a preview


@dataclass(frozen=True)
class Text:
    """A text that a node showed, such as a score's numbers."""

    node: str
    content: str

    @property
    def is_json(self) -> bool:
        """Whether it is an object or a list in JSON."""
        try:
            return isinstance(read_json(self.content), dict | list)
        except ValueError:
            return False


@dataclass(frozen=True)
class Event:
    """A message of the server's websocket about a run."""

    kind: str
    prompt_id: str
    node: str  # empty where none is meant
    done: int
    total: int


def anything(answer: Any) -> Any:
    return answer


def an_object(answer: Any) -> dict[str, Any]:
    return _object(answer)


def node_info(answer: Any, class_type: str) -> dict[str, Any] | None:
    """What the server says of a class of nodes, None if it has none of this name."""
    info = _object(answer).get(class_type)
    return None if info is None else _object(info)


def uploaded(answer: Any) -> str:
    """The name of a file that was sent, as a node takes it."""
    name, subfolder = (_object(answer).get(key) for key in ("name", "subfolder"))
    if not _is_name(name) or not (subfolder is None or subfolder == "" or _is_name(subfolder)):
        raise Odd(quoted(answer))
    return f"{subfolder}/{name}" if subfolder else str(name)


def queued(answer: Any) -> tuple[str, bool]:
    """(id of the run that was queued, whether a part of the workflow was left out)."""
    prompt_id = _object(answer).get("prompt_id")
    if isinstance(prompt_id, int) and not isinstance(prompt_id, bool):
        prompt_id = quoted(prompt_id)
    if not _is_name(prompt_id):
        raise Odd(quoted(answer))
    return str(prompt_id), bool(answer.get("node_errors"))


def is_queued(answer: Any, prompt_id: str) -> bool:
    """Whether a run waits or goes on."""
    parts = _object(answer).values()
    if not all(isinstance(part, list) and all(isinstance(item, list) for item in part) for part in parts):
        raise Odd(quoted(answer))
    return any(len(item) > 1 and item[1] == prompt_id for part in parts for item in part)


def record(answer: Any, prompt_id: str) -> dict[str, Any] | None:
    """A run's record, None while the server has none."""
    run = _object(answer).get(prompt_id)
    if run is None and prompt_id in answer:
        raise Odd(quoted(answer))
    return None if run is None else _object(run)


def outcome(run: Mapping[str, Any], workflow: Workflow) -> tuple[list[Output], list[Text]]:
    """A run's files and texts in the order of the nodes' ids, from its record. Raises Failed and Stopped
    where it did not come to its end, and Odd.
    """
    status = _object(run.get("status") or {})
    messages = status.get("messages") or []
    if not isinstance(messages, list):
        raise Odd(quoted(status))
    for message in messages:
        kind, data = message if isinstance(message, list) and len(message) == 2 else (None, None)
        if kind == "execution_error":
            data = data if isinstance(data, dict) else {}
            node = _words(data.get("node_id"))
            reason = _words(data.get("exception_message")) or "an error without a message"
            raise Failed(f"{_labelled(workflow, node, data.get('node_type'))}: {reason}")
        if kind == "execution_interrupted":
            raise Stopped("the run was interrupted on the server")
    if status.get("status_str") == "error":
        raise Failed("the run failed, and the server does not say why")
    nodes = _object(run.get("outputs") or {})
    files: list[Output] = []
    texts: list[Text] = []
    for node in sorted(nodes, key=_order):
        for kind, items in _object(nodes[node] or {}).items():
            items = items if isinstance(items, list) else []
            files += [_file(node, kind, i) for i in items if isinstance(i, dict) and "filename" in i]
            if kind == "text":
                texts += [Text(node, text) for text in _texts(items)]
    return files, texts


def refusal(answer: Any, workflow: Workflow) -> str:
    """The host's answer to a workflow that it refuses, a line for each mistake."""
    error = answer.get("error")
    if isinstance(error, dict):
        lines = [" ".join(filter(None, (_words(error.get(k)) for k in ("message", "details"))))]
    else:
        lines = [_words(error) or "The server leaves out a part of the workflow"]
    errors = answer.get("node_errors")
    for node, refused in errors.items() if isinstance(errors, dict) else ():
        refused = refused if isinstance(refused, dict) else {}
        label = _labelled(workflow, node, refused.get("class_type"))
        mistakes = refused.get("errors")
        for mistake in mistakes if isinstance(mistakes, list) else ():
            if isinstance(mistake, dict):
                words = (_words(mistake.get(k)) for k in ("message", "details"))
                lines.append(f"{label}: {' '.join(filter(None, words))}")
    if len(lines) > LINES:
        lines[LINES:] = [f"and {len(lines) - LINES} more"]
    return "\n".join(lines).strip() or "refused, without a reason"


def event(text: str) -> Event | None:
    """A message of the websocket, None for one that says nothing of a run."""
    try:
        message = read_json(text)
    except ValueError:
        return None
    kind, data = (message.get(k) for k in ("type", "data")) if isinstance(message, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(data, dict):
        return None
    ids = {key: _words(data.get(key)) if isinstance(data.get(key), str | int) else "" for key in IDS}
    done, total = (int(data[key]) if _is_count(data.get(key)) else 0 for key in ("value", "max"))
    return Event(kind, ids["prompt_id"], ids["node"], done, total)


def refuse_strange_content(output: Output, content: bytes) -> None:
    """Raises Odd for a file that cannot be what its name says."""
    ending = "." + output.filename.rpartition(".")[2].lower()
    if not content:
        raise Odd("it is empty")
    if ending in BEGINNINGS and not content.startswith(BEGINNINGS[ending]):
        raise Odd(f"it is no {ending[1:]} but begins with {content[:20]!r}")


def _file(node: str, kind: str, item: dict[str, Any]) -> Output:
    name, subfolder, folder = item["filename"], item.get("subfolder") or "", item.get("type") or "output"
    if not _is_name(name) or not (subfolder == "" or _is_name(subfolder)) or not _is_name(folder):
        raise Odd(f"a file of node {plain(node, 50)} named {quoted(item)}")
    return Output(node, kind, name, subfolder, folder)


def _texts(items: list[Any]) -> list[str]:
    texts = [item for item in items if isinstance(item, str)]
    # The host takes a text that a node gave without a list around it apart into its characters.
    if len(texts) > 1 and all(len(item) == 1 for item in texts):
        texts = ["".join(texts)]
    return [item for item in texts if item.strip()]


def _order(node: str) -> tuple[bool, int, str]:
    # Digits of other scripts are no numbers to int(), nor are thousands of them.
    number = node.isascii() and node.isdigit() and len(node) < 20
    return (not number, int(node) if number else 0, node)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Odd(quoted(value))
    return value


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and not has_half(value) and "\0" not in value


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _words(value: Any) -> str:
    """A server's text or number for a message."""
    if isinstance(value, str):
        return plain(value.strip(), LONGEST)
    return "" if value is None or isinstance(value, bool | dict | list) else quoted(value)


def _labelled(workflow: Workflow, node: str, class_type: Any) -> str:
    kind = _words(class_type)
    if not node:
        return kind or "a node"
    node = plain(node, 100)
    return f"{title(workflow, node)} (node {node}{kind and f', {kind}'})"
