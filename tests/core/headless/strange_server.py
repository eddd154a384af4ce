"""A local HTTP server that answers as ComfyUI does, or, for rows that are to go wrong, as it is told."""

import asyncio
import json
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

PNG = b"\x89PNG\r\n\x1a\nnot much of a picture"
WORKFLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
    "2": {"class_type": "KSampler", "inputs": {"seed": 1}},
    "7": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}, "_meta": {"title": "Save"}},
}
RANGES = {
    "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}},
    "KSampler": {"input": {"required": {"seed": ["INT", {"min": 0, "max": 9999}]}}},
    "SaveImage": {"input": {"required": {"images": ["IMAGE"]}}},
}


@dataclass
class Raw:
    """An answer that is not simply JSON."""

    body: bytes = b""
    status: int = 200
    headers: dict = field(default_factory=dict)


class Close:
    """No answer, the connection is closed."""


@dataclass
class StrangeServer:
    """What it gives in place of ComfyUI's answers, by the name of a path ("prompt"): a JSON value, a Raw, a
    Close, or a function of ComfyUI's answer. ``answers`` hold for all rows, ``rows`` for those with a seed.
    ``messages``, by seed, come over the websocket before a run's own; None stands for its end.
    """

    url: str = ""
    answers: dict = field(default_factory=dict)
    rows: dict = field(default_factory=dict)
    messages: dict = field(default_factory=dict)
    runs: dict = field(default_factory=dict)  # seed by the run's id
    sockets: dict = field(default_factory=dict)
    sent: list = field(default_factory=list)  # names of the files
    asked: int = 0  # how often for the queue

    def reset(self):
        self.answers, self.rows, self.messages, self.runs, self.sockets = {}, {}, {}, {}, {}
        self.sent, self.asked = [], 0

    def answer(self, what, seed, usual):
        """What is given in place of the usual answer."""
        answers = {**self.answers, **self.rows.get(seed, {})}
        if what not in answers:
            return usual if isinstance(usual, web.Response) else web.json_response(usual)
        answer = answers[what](usual) if callable(answers[what]) else answers[what]
        if isinstance(answer, Close):
            raise ConnectionResetError
        if isinstance(answer, Raw):
            return web.Response(body=answer.body, status=answer.status, headers=answer.headers)
        return web.json_response(answer)

    async def stats(self, request):
        return self.answer("stats", None, {"system": {}})

    async def info(self, request):
        name = request.match_info["name"]
        return self.answer("info", None, {name: RANGES[name]})

    async def upload(self, request):
        """Of files named by their row's seed."""
        name = (await request.post())["image"].filename
        self.sent.append(name)
        return self.answer("upload", _seed(name), {"name": name, "subfolder": "", "type": "input"})

    async def socket(self, request):
        if "ws" in self.answers:
            return self.answer("ws", None, {})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets[request.query["clientId"]] = socket
        async for _ in socket:
            pass
        return socket

    async def prompt(self, request):
        body = await request.json()
        seed = body["prompt"]["2"]["inputs"]["seed"]
        prompt_id = str(uuid.uuid4())
        self.runs[prompt_id] = seed
        asyncio.ensure_future(self.tell(self.sockets[body["client_id"]], prompt_id, seed))
        return self.answer("prompt", seed, {"prompt_id": prompt_id, "number": 1, "node_errors": {}})

    async def tell(self, socket, prompt_id, seed):
        """A run's messages."""
        for message in self.messages.get(seed, ()):
            if message is None:
                await socket.close()
                return
            if isinstance(message, bytes):
                await socket.send_bytes(message)
            else:
                text = message if isinstance(message, str) else json.dumps(message)
                await socket.send_str(text.replace("THE RUN", prompt_id))
        own = {"prompt_id": prompt_id}
        for kind, data in (("executing", {"node": "2"}), ("progress", {"node": "2", "value": 1, "max": 1})):
            await socket.send_json({"type": kind, "data": {**own, **data}})
        await socket.send_json({"type": "execution_success", "data": own})

    async def queue(self, request):
        self.asked += 1
        return self.answer("queue", None, {"queue_running": [], "queue_pending": []})

    async def history(self, request):
        prompt_id = request.match_info["id"]
        if prompt_id not in self.runs:
            return web.json_response({})
        seed = self.runs[prompt_id]
        file = {"filename": f"{seed}_00001_.png", "subfolder": "", "type": "output"}
        record = {"status": {"status_str": "success"}, "outputs": {"7": {"images": [file]}}}
        return self.answer("history", seed, {prompt_id: record})

    async def view(self, request):
        return self.answer("view", _seed(request.query["filename"]), web.Response(body=PNG))

    async def other(self, request):
        return web.json_response({})


def _seed(name):
    """The seed that a file's name begins with."""
    number = name.partition("_")[0].partition(".")[0]
    return int(number) if number.isdigit() else None


@contextmanager
def strange_server():
    """A StrangeServer in a thread of its own."""
    server, loop, started = StrangeServer(), asyncio.new_event_loop(), threading.Event()

    @web.middleware
    async def closing(request, handler):
        try:
            return await handler(request)
        except ConnectionResetError:
            request.transport.abort()
            return web.Response()

    async def start():
        app = web.Application(middlewares=[closing])
        app.router.add_get("/system_stats", server.stats)
        app.router.add_get("/object_info/{name}", server.info)
        app.router.add_post("/upload/image", server.upload)
        app.router.add_get("/ws", server.socket)
        app.router.add_post("/prompt", server.prompt)
        app.router.add_get("/queue", server.queue)
        app.router.add_get("/history/{id:.*}", server.history)
        app.router.add_get("/view", server.view)
        app.router.add_post("/{path:queue|interrupt}", server.other)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        started.set()
        return runner

    def serve():
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=serve)
    thread.start()
    started.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
