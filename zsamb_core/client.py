"""Run workflows on a ComfyUI server over HTTP: send pictures, queue, follow, fetch what was saved.

Needs aiohttp, imported when a connection is opened, and nothing of ComfyUI.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from .workflow import Workflow, title

if TYPE_CHECKING:
    import aiohttp

# Called with a node's id, its step and its number of steps; with 0, 0 when the node starts.
Progress = Callable[[str, int, int], None]

SILENCE = 30.0  # seconds without a message after which the server is asked whether the run is still there
TRIES = 3  # to connect again to a server that dropped the connection
GATEWAY = (502, 503, 504)  # what a proxy answers for a server that is gone


class ClientError(RuntimeError):
    """A run that did not come to its end."""


class Unreachable(ClientError):
    """The server does not answer, or is gone with the run; another may do it."""


class Refused(ClientError):
    """The server refused the workflow, or failed in it; the message is the server's own."""


@dataclass(frozen=True)
class Output:
    """A file that a node left on the server."""

    node: str
    kind: str  # the server's word: images, audio, video, ...
    filename: str
    subfolder: str
    type: str  # "output" where it was saved, "temp" where it is a preview


@dataclass(frozen=True)
class Run:
    """A run that came to its end, and its files in the order of the nodes' ids."""

    prompt_id: str
    outputs: list[Output]


def read_address(text: str) -> str:
    """A server's address without what follows the path. Raises ValueError for what is not one."""
    parts = urlsplit(text.strip())
    try:
        named = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:  # a port that is no number
        named = False
    if not named:
        raise ValueError(
            f"server {_shown(text)!r}: not an address, expected one such as http://127.0.0.1:8188"
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


class Client:
    """A connection to one server. Use as an async context manager; runs may go side by side.

    ``name`` is the address without the password that it may hold.
    """

    def __init__(self, address: str):
        """``address`` such as http://127.0.0.1:8188, with user:password@ if a proxy asks for them, and a
        path if the server is behind one. Raises ValueError for another.
        """
        self.address = read_address(address)
        self.name = _shown(self.address)

    async def __aenter__(self) -> "Client":
        import aiohttp

        # Pictures and models take their time; a socket that stays silent this long is dead.
        limit = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)
        self._session = aiohttp.ClientSession(timeout=limit)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any:
        """The JSON at a path of the server, such as /system_stats. Raises Unreachable and Refused."""
        return await self._json("GET", path)

    async def node_info(self, class_type: str) -> dict[str, Any] | None:
        """What the server says of a class of nodes, None if it has none of this name."""
        found: dict[str, Any] = await self.get(f"/object_info/{quote(class_type, safe='')}")
        return found.get(class_type)

    async def upload(self, path: Path) -> str:
        """Send a file to the server's input folder and return its name there, which is another if the
        server has another file of this name.
        """
        import aiohttp

        form = aiohttp.FormData()
        form.add_field("image", path.read_bytes(), filename=path.name)
        answer = await self._json("POST", "/upload/image", data=form)
        return str(answer["name"])

    async def run(self, workflow: Workflow, progress: Progress | None = None) -> Run:
        """Queue a workflow and wait for it. Cancelled, it takes the run off the server.

        Raises Unreachable if the server goes, and Refused with its message if it refuses or fails.
        """
        client_id = uuid.uuid4().hex
        # Connected before it is queued, so that no message is missed.
        socket = await self._connect(client_id)
        try:
            prompt_id = await self._submit(workflow, client_id)
            dropped = False
            try:
                while not await self._follow(socket, prompt_id, progress):
                    dropped = True
                    socket = await self._connect_again(client_id)
                    if not await self._knows(prompt_id):
                        break
            except asyncio.CancelledError:
                with suppress(ClientError):
                    await self.cancel(prompt_id)
                raise
        finally:
            await socket.close()
        record = await self._record(prompt_id)
        if record is None and dropped:
            raise Unreachable(f"{self.name} closed the connection and no longer knows the run: restarted?")
        if record is None:
            raise Refused("the run was taken out of the server's queue")
        for kind, data in record.get("status", {}).get("messages", []):
            if kind == "execution_error":
                node = str(data["node_id"])
                raise Refused(
                    f"{title(workflow, node)} (node {node}, {data['node_type']}):"
                    f" {str(data['exception_message']).strip()}"
                )
            if kind == "execution_interrupted":
                raise Refused("the run was interrupted on the server")
        return Run(prompt_id, _outputs(record.get("outputs", {})))

    async def fetch(self, output: Output) -> bytes:
        """A file's content."""
        where = {"filename": output.filename, "subfolder": output.subfolder, "type": output.type}
        async with self._ask("GET", "/view", params=where) as response:
            if not response.ok:
                raise Refused(
                    f"{self.name} does not give {output.filename}, which it saved (HTTP {response.status})."
                    " A run like one before is not done again: if the file was deleted since, change the"
                    " seed."
                )
            return await response.read()

    async def cancel(self, prompt_id: str) -> None:
        """Take a run out of the queue, or stop it."""
        # First the queue, so that none slips from it into running between the two. Newer hosts have one
        # call for both; these work on the oldest that the pack runs on too.
        for path, body in (("/queue", {"delete": [prompt_id]}), ("/interrupt", {"prompt_id": prompt_id})):
            async with self._ask("POST", path, json=body) as response:
                if not response.ok:
                    raise Refused(f"{self.name}{path} answers HTTP {response.status}")

    async def _submit(self, workflow: Workflow, client_id: str) -> str:
        body = {"prompt": workflow, "client_id": client_id}
        answer = await self._json("POST", "/prompt", json=body)
        prompt_id = str(answer["prompt_id"])
        if answer.get("node_errors"):
            # The host runs the outputs that are in order, and leaves out the others.
            await self.cancel(prompt_id)
            raise Refused(_refusal(answer, workflow))
        return prompt_id

    async def _follow(
        self, socket: "aiohttp.ClientWebSocketResponse[bool]", prompt_id: str, progress: Progress | None
    ) -> bool:
        """True when the run is over, however it ended; False when the connection is."""
        import aiohttp

        ended = ("execution_success", "execution_error", "execution_interrupted")
        while True:
            try:
                message = await socket.receive(timeout=SILENCE)
            except asyncio.TimeoutError:
                # Nobody tells a client that its run was deleted from the queue.
                if await self._queued(prompt_id):
                    continue
                return True
            if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE):
                return False
            if message.type != aiohttp.WSMsgType.TEXT:
                continue
            kind, data = (message.json()[key] for key in ("type", "data"))
            if data.get("prompt_id") != prompt_id:
                continue
            if kind in ended:
                return True
            if progress is not None and data.get("node") is not None:
                if kind == "progress":
                    progress(str(data["node"]), int(data["value"]), int(data["max"]))
                if kind == "executing":
                    progress(str(data["node"]), 0, 0)

    async def _connect(self, client_id: str) -> "aiohttp.ClientWebSocketResponse[bool]":
        import aiohttp

        try:
            # The heartbeat notices a machine that is gone without a word. A host that loads a model may
            # be busy for many seconds, so it is slow.
            return await self._session.ws_connect(
                f"{self.address}/ws?clientId={client_id}", max_msg_size=0, heartbeat=60
            )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in GATEWAY:
                raise Unreachable(self._no_answer(error)) from error
            raise Refused(
                f"{self.name} answers HTTP {error.status} where ComfyUI has its websocket. Is this the"
                " address of a ComfyUI?"
            ) from error
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise Unreachable(self._no_answer(error)) from error

    async def _connect_again(self, client_id: str) -> "aiohttp.ClientWebSocketResponse[bool]":
        for _ in range(TRIES - 1):
            await asyncio.sleep(1)
            with suppress(Unreachable):
                return await self._connect(client_id)
        await asyncio.sleep(1)
        return await self._connect(client_id)

    async def _queued(self, prompt_id: str) -> bool:
        queue = await self.get("/queue")
        return any(item[1] == prompt_id for part in queue.values() for item in part)

    async def _knows(self, prompt_id: str) -> bool:
        return await self._queued(prompt_id) or prompt_id in await self.get(f"/history/{prompt_id}")

    async def _record(self, prompt_id: str) -> dict[str, Any] | None:
        """A run's record; the host files it a moment after it says that the run is over."""
        for _ in range(100):
            history: dict[str, dict[str, Any]] = await self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            await asyncio.sleep(0.1)
        return None

    async def _json(self, method: str, path: str, **what: Any) -> Any:
        async with self._ask(method, path, **what) as response:
            text = await response.text(errors="replace")
            try:
                answer = json.loads(text)
            except ValueError:
                answer = None
            if response.ok and answer is not None:
                return answer
            if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
                raise Refused(_refusal(answer, what.get("json", {}).get("prompt", {})))
            raise Refused(
                f"{self.name}{path} answers HTTP {response.status} and {text.strip()[:300]!r}, expected"
                " ComfyUI's JSON. Is this the address of a ComfyUI?"
            )

    @asynccontextmanager
    async def _ask(self, method: str, path: str, **what: Any) -> AsyncIterator["aiohttp.ClientResponse"]:
        import aiohttp

        try:
            async with self._session.request(method, self.address + path, **what) as response:
                if response.status in GATEWAY:
                    raise Unreachable(self._no_answer(f"HTTP {response.status}"))
                yield response
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise Unreachable(self._no_answer(error)) from error

    def _no_answer(self, why: object) -> str:
        return (
            f"{self.name} does not answer ({str(why) or type(why).__name__}). Is ComfyUI running there? For"
            " another machine it must be started with --listen."
        )


def _outputs(nodes: dict[str, dict[str, Any]]) -> list[Output]:
    def order(node: str) -> tuple[bool, int, str]:
        return (not node.isdigit(), int(node) if node.isdigit() else 0, node)

    return [
        Output(node, kind, file["filename"], file.get("subfolder", ""), file.get("type", "output"))
        for node in sorted(nodes, key=order)
        for kind, files in nodes[node].items()
        if isinstance(files, list)
        for file in files
        if isinstance(file, dict) and "filename" in file
    ]


def _refusal(answer: dict[str, Any], workflow: Workflow) -> str:
    """The host's answer to a workflow that it refuses, a line for each mistake."""
    error = answer.get("error") or {"message": "The server leaves out a part of the workflow"}
    lines = [" ".join(str(error[k]) for k in ("message", "details") if error.get(k))]
    for node, found in answer.get("node_errors", {}).items():
        label = f"{title(workflow, node)} (node {node}, {found['class_type']})"
        lines += [f"{label}: {e['message']} {e['details']}".rstrip() for e in found["errors"]]
    return "\n".join(lines)


def _shown(address: str) -> str:
    """An address without user and password, for messages."""
    before, mark, after = address.rpartition("@")
    return f"{before.partition('//')[0]}//{after}" if mark and "//" in before else after
