"""Run workflows on a ComfyUI server over HTTP: send pictures, queue, follow, fetch what was saved.

Needs aiohttp, imported when a connection is opened, and nothing of ComfyUI.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from ..texts import plain, read_json
from . import answers
from .answers import Odd, Output, Text
from .names import sent_name
from .workflow import Workflow

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

# Called with a node's id, its step and its number of steps; with 0, 0 when the node starts.
Progress = Callable[[str, int, int], None]

SILENCE = 30.0  # seconds without a word of the run after which the server is asked whether it is still there
TRIES = 3  # to connect again to a server that dropped the connection
PAUSE = 1.0  # seconds before each of these
FILING = 10.0  # seconds that a server may take to file a run's record
GATEWAY = (502, 503, 504)  # what a proxy answers for a server that is gone
# Bytes; what a server sends without end must not fill the memory.
LARGEST_ANSWER, LARGEST_MESSAGE, LARGEST_FILE = 64 << 20, 64 << 20, 4 << 30


class ClientError(RuntimeError):
    """A run that did not come to its end."""


class Unreachable(ClientError):
    """The server does not answer, or is gone with the run; another may do it."""


class Refused(ClientError):
    """The server refused the workflow, or failed in it; the message is the server's own."""


class Cancelled(Refused):
    """Somebody took the run off the server."""


@dataclass(frozen=True)
class Run:
    """A run that came to its end, and its files and texts in the order of the nodes' ids."""

    prompt_id: str
    outputs: list[Output]
    texts: list[Text] = field(default_factory=list)


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
        return await self._json("GET", path, answers.anything)

    async def node_info(self, class_type: str) -> dict[str, Any] | None:
        """What the server says of a class of nodes, None if it has none of this name."""
        path = f"/object_info/{quote(class_type, safe='')}"
        return await self._json("GET", path, lambda answer: answers.node_info(answer, class_type))

    async def is_there(self) -> None:
        """Raises Unreachable and Refused where no ComfyUI answers."""
        await self._json("GET", "/system_stats", answers.an_object)

    async def upload(self, path: Path) -> str:
        """Send a file to the server's input folder and return its name there, which is another if the
        server has another file of this name. Raises OSError too.
        """
        import aiohttp

        # Quoted, letters beyond ASCII would become %E9 in the file's name.
        form = aiohttp.FormData(quote_fields=False)
        form.add_field("image", path.read_bytes(), filename=sent_name(path.name))
        return await self._json("POST", "/upload/image", answers.uploaded, data=form)

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
                    if not await self._queued(prompt_id):
                        break
            except (asyncio.CancelledError, ClientError):
                with suppress(ClientError, asyncio.TimeoutError):
                    await asyncio.wait_for(self.cancel(prompt_id), 10)
                raise
        finally:
            await socket.close()
        record = await self._record(prompt_id)
        if record is None and dropped:
            raise Unreachable(f"{self.name} closed the connection and no longer knows the run: restarted?")
        if record is None:
            raise Cancelled("the run was taken out of the server's queue")
        try:
            return Run(prompt_id, *answers.outcome(record, workflow))
        except answers.Stopped as error:
            raise Cancelled(str(error)) from error
        except answers.Failed as error:
            raise Refused(str(error)) from error
        except Odd as error:
            raise Refused(f"{self.name} tells of the run what is not ComfyUI's: {error}") from error

    async def fetch(self, output: Output) -> bytes:
        """A file's content."""
        where = {"filename": output.filename, "subfolder": output.subfolder, "type": output.type}
        named = f"{self.name} does not give {plain(output.filename, 100)}, which it saved"
        async with self._ask("GET", "/view", params=where) as response:
            if not response.ok:
                raise Refused(
                    f"{named} (HTTP {response.status})."
                    " A run like one before is not done again: if the file was deleted since, change the"
                    " seed."
                )
            try:
                content = await _read(response, LARGEST_FILE)
                answers.refuse_strange_content(output, content)
            except Odd as error:
                raise Refused(f"{named}: {error}") from error
            return content

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
        answer = await self._json("POST", "/prompt", answers.an_object, json=body)
        prompt_id, left_out = self._read_answer("/prompt", answers.queued, answer)
        if left_out:
            # The host runs the outputs that are in order, and leaves out the others.
            with suppress(ClientError):
                await self.cancel(prompt_id)
            raise Refused(answers.refusal(answer, workflow))
        return prompt_id

    async def _follow(
        self, socket: "aiohttp.ClientWebSocketResponse[bool]", prompt_id: str, progress: Progress | None
    ) -> bool:
        """True when the run is over, however it ended; False when the connection is."""
        import aiohttp

        ended = ("execution_success", "execution_error", "execution_interrupted")
        heard = time.monotonic()
        while True:
            try:
                # Other runs' messages, or a monitor's, say nothing of this one.
                left = max(heard + SILENCE - time.monotonic(), 0.001)
                message = await socket.receive(timeout=left)
            except asyncio.TimeoutError:
                # Nobody tells a client that its run was deleted from the queue.
                if not await self._queued(prompt_id):
                    return True
                heard = time.monotonic()
                continue
            if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE):
                return False
            event = answers.event(message.data) if message.type == aiohttp.WSMsgType.TEXT else None
            if event is None or event.prompt_id != prompt_id:
                continue
            heard = time.monotonic()
            if event.kind in ended:
                return True
            if progress is not None and event.node:
                if event.kind == "progress":
                    progress(event.node, event.done, event.total)
                if event.kind == "executing":
                    progress(event.node, 0, 0)

    async def _connect(self, client_id: str) -> "aiohttp.ClientWebSocketResponse[bool]":
        import aiohttp

        try:
            # The heartbeat notices a machine that is gone without a word. A host that loads a model may
            # be busy for many seconds, so it is slow.
            return await self._session.ws_connect(
                f"{self.address}/ws?clientId={client_id}", max_msg_size=LARGEST_MESSAGE, heartbeat=60
            )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in GATEWAY:
                raise Unreachable(self._no_answer(error)) from error
            raise Refused(
                f"{self.name} answers HTTP {error.status} where ComfyUI has its websocket. Is this the"
                " address of a ComfyUI?"
            ) from error
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, UnicodeError) as error:
            raise Unreachable(self._no_answer(error)) from error

    async def _connect_again(self, client_id: str) -> "aiohttp.ClientWebSocketResponse[bool]":
        for _ in range(TRIES - 1):
            await asyncio.sleep(PAUSE)
            with suppress(Unreachable):
                return await self._connect(client_id)
        await asyncio.sleep(PAUSE)
        return await self._connect(client_id)

    async def _queued(self, prompt_id: str) -> bool:
        return await self._json("GET", "/queue", lambda answer: answers.is_queued(answer, prompt_id))

    async def _record(self, prompt_id: str) -> dict[str, Any] | None:
        """A run's record; the host files it a moment after it says that the run is over."""
        path, deadline = f"/history/{quote(prompt_id, safe='')}", time.monotonic() + FILING
        while True:
            run = await self._json("GET", path, lambda answer: answers.record(answer, prompt_id))
            if run is not None or time.monotonic() > deadline:
                return run
            await asyncio.sleep(0.1)

    async def _json(self, method: str, path: str, read: Callable[[Any], T], **what: Any) -> T:
        """An answer as ``read`` takes it. Raises Unreachable and Refused."""
        async with self._ask(method, path, **what) as response:
            try:
                data = await _read(response, LARGEST_ANSWER)
                answer = read_json(data)
            except Odd as error:
                raise self._strange(path, str(error)) from error
            except ValueError:
                answer = None
            if response.ok and answer is not None:
                return self._read_answer(path, read, answer)
            if path == "/prompt" and isinstance(answer, dict) and isinstance(answer.get("error"), dict):
                raise Refused(answers.refusal(answer, what["json"]["prompt"]))
            text = plain(data.decode(errors="replace").strip(), 300)
            raise self._strange(path, f"HTTP {response.status} and {text!r}")

    def _read_answer(self, path: str, read: Callable[[Any], T], answer: Any) -> T:
        try:
            return read(answer)
        except Odd as error:
            raise self._strange(path, str(error)) from error

    def _strange(self, path: str, answer: str) -> Refused:
        return Refused(
            f"{self.name}{path} answers {answer}, expected ComfyUI's JSON. Is this the address of a ComfyUI?"
        )

    @asynccontextmanager
    async def _ask(self, method: str, path: str, **what: Any) -> AsyncIterator["aiohttp.ClientResponse"]:
        import aiohttp

        try:
            async with self._session.request(method, self.address + path, **what) as response:
                if response.status in GATEWAY:
                    raise Unreachable(self._no_answer(f"HTTP {response.status}"))
                yield response
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, UnicodeError) as error:
            raise Unreachable(self._no_answer(error)) from error

    def _no_answer(self, why: object) -> str:
        return (
            f"{self.name} does not answer ({str(why) or type(why).__name__}). Is ComfyUI running there? For"
            " another machine it must be started with --listen."
        )


async def _read(response: "aiohttp.ClientResponse", limit: int) -> bytes:
    """The body, unpacked. Raises Odd for one that is too large."""
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > limit:
            raise Odd(f"more than {limit >> 20} MB")
    return bytes(content)


def _shown(address: str) -> str:
    """An address without user and password, for messages."""
    before, mark, after = address.rpartition("@")
    return f"{before.partition('//')[0]}//{after}" if mark and "//" in before else after
