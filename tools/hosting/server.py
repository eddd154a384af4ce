"""Start a headless ComfyUI with this pack in it, and run API workflows on it over HTTP."""

import asyncio
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from PIL import Image

from zsamb_core.headless.client import Client, ClientError, Unreachable
from zsamb_core.headless.workflow import Workflow, title

PACK = Path(__file__).resolve().parents[2]
Progress = Callable[[str, int, int], None]


class ServerError(RuntimeError):
    """The server did not start, or refused or failed a workflow; the message is the server's own."""


class Server:
    """A ComfyUI process of its own, in a base folder of its own, with this pack as its only custom node.

    Use as a context manager. ``base`` takes the server's models, input, output and log.
    """

    def __init__(
        self,
        host: Path,
        base: Path,
        checkpoint: Path | None = None,
        install: Callable[[Path], None] | None = None,
        options: tuple[str, ...] = (),
    ):
        """``checkpoint`` is a file whose folder the server is to find checkpoints in. ``install`` puts the
        pack into the folder custom_nodes; a link to this repository if not given. ``options`` are more of
        ComfyUI's own.
        """
        self.host, self.base, self.checkpoint, self.options = host, base, checkpoint, options
        self.install = install or link_pack
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = base / "server.log"

    def __enter__(self) -> "Server":
        (self.base / "custom_nodes").mkdir(parents=True, exist_ok=True)
        (self.base / "input").mkdir(exist_ok=True)
        self.install(self.base / "custom_nodes")
        command = [
            sys.executable,
            str(self.host / "main.py"),
            "--listen",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--base-directory",
            str(self.base),
            "--database-url",
            "sqlite:///:memory:",
            "--disable-auto-launch",
            "--disable-api-nodes",
            "--use-pytorch-cross-attention",
            "--preview-method",
            "none",
            *device_args(),
            *self.options,
        ]
        if self.checkpoint is not None:
            paths = self.base / "extra_model_paths.yaml"
            folder = json.dumps(str(self.checkpoint.parent))  # a JSON string is a YAML string
            paths.write_text(f"demo:\n  checkpoints: {folder}\n", encoding="utf-8")
            command += ["--extra-model-paths-config", str(paths)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.base)
        try:
            asyncio.run(self._wait())
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    async def _wait(self) -> None:
        deadline = time.time() + 300
        async with aiohttp.ClientSession() as session:
            while time.time() < deadline:
                if self.process.poll() is not None:
                    break
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/system_stats") as response:
                        if response.ok:
                            return
                await asyncio.sleep(0.3)
        raise ServerError(
            f"ComfyUI did not start. The end of {self.log}:\n" + self.log.read_text(errors="replace")[-3000:]
        )

    def _failure(self, what: str) -> ServerError:
        return ServerError(f"{what}. The end of its log:\n{self.log.read_text(errors='replace')[-3000:]}")

    def get(self, path: str) -> Any:
        """The JSON at a path of the server."""

        async def fetch():
            async with Client(self.url) as client:
                return await client.get(path)

        return asyncio.run(fetch())

    def run(self, workflow: Workflow, progress: Progress | None = None) -> list[np.ndarray]:
        """Queue an API workflow, wait for it, and return its pictures, (H, W, 3) in 0..1, in node order:
        the saved ones, or where none is saved the previews.

        ``progress(node title, step, total)`` is called while it runs. Raises ServerError with the server's
        message.
        """
        try:
            return asyncio.run(self._run(workflow, progress))
        except Unreachable as error:
            raise self._failure(str(error)) from error
        except ClientError as error:
            raise ServerError(str(error)) from error

    async def _run(self, workflow: Workflow, progress: Progress | None) -> list[np.ndarray]:
        def step(node: str, done: int, total: int) -> None:
            if progress is not None and total:
                progress(title(workflow, node), done, total)

        async with Client(self.url) as client:
            result = await client.run(workflow, step)
            pictures = [file for file in result.outputs if file.kind == "images"]
            saved = [file for file in pictures if file.type == "output"] or pictures
            files = [await client.fetch(file) for file in saved]
        return [np.asarray(Image.open(io.BytesIO(f)).convert("RGB"), np.float32) / 255 for f in files]


def device_args() -> list[str]:
    """``--cpu`` where torch sees no accelerator; the host does not look for itself."""
    import torch

    return [] if torch.cuda.is_available() or torch.backends.mps.is_available() else ["--cpu"]


def link_pack(custom_nodes: Path) -> None:
    """Make the pack visible to the host: a link, or a copy where links are not allowed."""
    target = custom_nodes / "zsamb"
    if target.exists():
        return
    try:
        os.symlink(PACK, target, target_is_directory=True)
    except OSError:
        shutil.copytree(
            PACK, target, ignore=shutil.ignore_patterns(".git", ".nox", ".comfyui", "output", "checkpoints")
        )
