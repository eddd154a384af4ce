"""``nox -s soak -- --runs 300``: mixed runs of all the pack's nodes on one server, with interrupts at random
moments, prompts that are refused or fail, and /free in between. The server is to be as good afterwards as it
was found: the stock model's pictures stay the same bit by bit, and memory and file descriptors do not grow.
"""

import argparse
import copy
import hashlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tools.hosting import workflows
from tools.hosting.server import Server

Prompt = dict[str, Any]
WAITING = 3  # runs in the queue at a time
STOCK, GOOD, WRONG = "stock", "good", "wrong"
HEAVY = ("style_aligned_depth", "style_aligned_high_resolution")  # seconds each, and nothing of their own
MEGABYTE = 1 << 20


@dataclass
class Report:
    """What happened. ``memory`` in MiB and ``files`` open, after every run."""

    runs: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    interrupted: int = 0
    freed: int = 0
    stock: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        same = self.stock.count(self.stock[0]) if self.stock else 0
        early, late = thirds(self.memory)
        return [
            f"{self.runs} runs ({kinds}), {self.interrupted} of them interrupted, {self.freed} times /free",
            f"stock pictures: {same} of {len(self.stock)} runs bit-identical",
            f"memory, medians: {early:.0f} MiB in the second third, {late:.0f} MiB in the last",
            f"open files: {min(self.files)} to {max(self.files)}, {self.files[-1]} at the end",
            *(f"PROBLEM: {problem}" for problem in self.problems),
        ]


def thirds(values: list[float]) -> tuple[float, float]:
    """Medians of the second third and the last: the first is for what is loaded once."""
    third = max(1, len(values) // 3)
    return statistics.median(values[third : 2 * third] or values), statistics.median(values[-third:])


def shipped() -> dict[str, Prompt]:
    names = sorted(path.stem for path in workflows.FOLDER.glob("*.json") if path.stem not in HEAVY)
    return {name: workflows.demo_twin(workflows.load(name)) for name in names}


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def stock() -> Prompt:
    """The model's own pictures, without a node of the pack between checkpoint and sampler."""
    prompt = workflows.fill(workflows.demo_twin(workflows.load("style_aligned_prompts")), steps=3)
    (patch,) = [key for key, made in prompt.items() if made["class_type"] == "ZSAMB_SharedAttention"]
    (sampler,) = [made for made in prompt.values() if made["class_type"] == "KSampler"]
    sampler["inputs"]["model"] = prompt.pop(patch)["inputs"]["model"]
    return prompt


def beside(embeds: str, reference: str = "") -> dict[str, Prompt]:
    """The nodes that no shipped workflow has; ``embeds``: a file of Save Style Embeds, ``reference``: one of
    Save Style Reference.
    """
    prompts = {}
    for maker in ("ZSAMB_NoiseReference", "ZSAMB_RecordReference"):
        prompt = workflows.demo_twin(workflows.load("style_aligned_reference"))
        inputs = prompt["13"]["inputs"]
        settings = {key: inputs[key] for key in ("model", "positive", "negative")} | {"seed": 1}
        if maker == "ZSAMB_NoiseReference":
            settings |= {"latent": inputs["latent"]}
        else:
            settings |= {"latent_image": inputs["latent"], "steps": 3, "cfg": 4.0, "denoise": 1.0}
            settings |= {"sampler_name": "dpmpp_2m", "scheduler": "karras"}
        prompt["13"] = node(maker, **settings)
        prompt["kept"] = node("ZSAMB_SaveStyleReference", reference=["13", 0], filename_prefix="soak")
        prompts[maker] = prompt
    if reference:
        prompt = workflows.demo_twin(workflows.load("style_aligned_reference"))
        prompt["13"] = node("ZSAMB_LoadStyleReference", file=reference)
        prompts["ZSAMB_LoadStyleReference"] = prompt
    queries = workflows.demo_twin(workflows.load("style_aligned_prompts"))
    (sampler,) = [made for made in queries.values() if made["class_type"] == "KSampler"]
    queries["adain"] = node(
        "ZSAMB_AdaINQueries", model=sampler["inputs"]["model"], queries=True, keys=True, values=True,
        strength=0.7,
    )  # fmt: skip
    sampler["inputs"]["model"] = ["adain", 0]
    prompts["ZSAMB_AdaINQueries"] = queries
    prompt = workflows.demo_twin(workflows.load("instantstyle"))
    (key,) = [k for k, made in prompt.items() if made["class_type"] == "ZSAMB_StyleBlockIPAdapter"]
    inputs = prompt[key]["inputs"]
    sliders = {f"{place}_{i}": 0.3 for place, count in (("output", 6),) for i in range(count)}
    sliders |= {"input_4": 0.0, "input_5": 0.1, "input_7": 0.0, "input_8": 0.0, "middle_0": 0.0}
    prompt["weights"] = node("ZSAMB_BlockWeights", **sliders, layers="")
    prompt["coded"] = node(
        "ZSAMB_EncodeStyleImages", clip_vision=inputs["clip_vision"], image=inputs["image"], weights="1",
        crop="tiles",
    )  # fmt: skip
    prompt["content"] = node("ZSAMB_SubtractContent", embeds=["coded", 0], method="project out", scale=1.0,
        content="a star", clip=["1", 1])  # fmt: skip
    prompt["saved"] = node("ZSAMB_SaveStyleEmbeds", embeds=["content", 0], filename_prefix="soak")
    prompt["adapter"] = node(
        "ZSAMB_SaveStyleAdapter", adapter=inputs["adapter"], model=["1", 0], preset="style", padded=False,
        filename_prefix="soak", block_weights=["weights", 0],
    )  # fmt: skip
    saving = copy.deepcopy(prompt)
    inputs |= {"image": ["content", 0], "block_weights": ["weights", 0]}
    prompts["ZSAMB_SaveStyleEmbeds"] = saving
    prompts["ZSAMB_SubtractContent"] = prompt
    if embeds:
        loading = copy.deepcopy(prompt)
        loading["content"] = node("ZSAMB_LoadStyleEmbeds", file=embeds)
        loading.pop("saved"), loading.pop("adapter"), loading.pop("coded")
        prompts["ZSAMB_LoadStyleEmbeds"] = loading
    summary = workflows.demo_twin(workflows.load("context_to_prompt"))
    (where,) = [k for k, m in summary.items() if m["inputs"].get("template") == "{image} {speech}"]
    summary["summary"] = node("ZSAMB_LoadSummaryModel", name="google-t5/t5-small")
    summary[where]["inputs"] |= {"fusion": "summarize", "summary_model": ["summary", 0]}
    prompts["ZSAMB_LoadSummaryModel"] = summary
    return prompts


def wrong() -> list[tuple[Prompt, str]]:
    """Prompts that are refused or fail, each with a part of what is said."""
    first = workflows.fill(workflows.demo_twin(workflows.load("style_aligned_prompts")), steps=2)
    blend = workflows.fill(workflows.demo_twin(workflows.load("style_aligned_two_references")), steps=2)
    adapter = workflows.fill(workflows.demo_twin(workflows.load("instantstyle")), steps=2)
    return [
        (workflows.fill(first, strength=7), "bigger than max"),
        (workflows.fill(first, blocks="output 9"), "names no block of this model"),
        (workflows.fill(first, prompts="  "), "prompts input is empty"),
        (workflows.fill(first, preset="best"), "not in"),
        (workflows.fill(blend, weight=0.0), "all have weight 0"),
        (workflows.fill(adapter, weight_curve="x"), "weight_curve"),
        ({"1": node("ZSAMB_Unheard"), "2": node("PreviewAny", source=["1", 0])}, "not found"),
    ]


def plan(rng: random.Random, embeds: str, reference: str) -> Iterator[tuple[str, str, Prompt, str]]:
    """(kind, name, prompt, what a wrong one says) without end. No good run is asked for twice."""
    good, plain, bad = shipped() | beside(embeds, reference), stock(), wrong()
    names: list[str] = []
    for number in range(sys.maxsize):
        kind = rng.choices((STOCK, GOOD, WRONG), (28, 60, 12))[0]
        if kind == STOCK:
            # Blanks behind the style change no prompt, and what the host has in its cache does not fit.
            yield STOCK, STOCK, workflows.fill(plain, style=f"in woodcut style{' ' * number}"), ""
        elif kind == WRONG:
            prompt, message = rng.choice(bad)
            yield WRONG, message, prompt, message
        else:
            names = names or rng.sample(sorted(good), len(good))
            name = names.pop()
            prompt = workflows.with_steps(good[name], rng.randint(1, 4))
            for made in prompt.values():
                if "seed" in made["inputs"]:
                    made["inputs"]["seed"] = rng.randrange(1 << 32)
            yield GOOD, name, prompt, ""


class Soak:
    def __init__(self, server: Server, seed: int, say: Callable[[str], None] = lambda line: None):
        # Two, so that a machine's speed does not change what is asked for.
        self.asking, self.rng = random.Random(seed), random.Random(seed + 1)
        self.server, self.say = server, say
        self.process = psutil.Process(server.process.pid)
        self.report, self.asked, self.due = Report(), 0, 0.0
        self.running: dict[str, tuple[str, str, str]] = {}

    def post(self, path: str, body: dict) -> tuple[int, str]:
        data, head = json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.server.url}{path}", data, head)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def run(self, runs: int) -> Report:
        embeds = self.saved("ZSAMB_SaveStyleEmbeds", "ZSAMB_LoadStyleEmbeds")
        reference = self.saved("ZSAMB_NoiseReference", "ZSAMB_LoadStyleReference")
        work = plan(self.asking, embeds, reference)
        while self.report.runs < runs or self.running:
            while len(self.running) < WAITING and self.report.runs + len(self.running) < runs:
                self.queue(*next(work))
            self.collect()
            if self.due and time.monotonic() > self.due:
                self.post("/interrupt", {})
                self.asked, self.due = self.asked + 1, 0.0
            time.sleep(0.05)
        self.judge()
        return self.report

    def saved(self, name: str, loader: str) -> str:
        """A file that the prompt ``name`` saves, which is run first, as the ``loader`` lists it."""
        self.queue(GOOD, name, workflows.with_steps(beside("")[name], 1), "")
        while self.running:
            self.collect()
            time.sleep(0.05)
        listed = self.server.get(f"/object_info/{loader}")[loader]["input"]
        kind, options = listed["required"]["file"]
        return options["options"][0] if kind == "COMBO" else kind[0]

    def queue(self, kind: str, name: str, prompt: Prompt, message: str) -> None:
        status, answer = self.post("/prompt", {"prompt": prompt})
        if status == 200:
            self.running[json.loads(answer)["prompt_id"]] = (kind, name, message)
            return
        expected = kind == WRONG and message in answer
        self.ended(kind, "" if expected else f"{name} was refused: {answer[:300]}")

    def collect(self) -> None:
        for key, (kind, name, message) in list(self.running.items()):
            record = self.server.get(f"/history/{key}").get(key)
            if record is None:
                continue
            del self.running[key]
            status, messages = record["status"]["status_str"], json.dumps(record["status"]["messages"])
            if "execution_interrupted" in messages:
                self.report.interrupted += 1
                self.ended(kind, "" if self.asked else f"{name} was interrupted, and nobody asked")
            elif kind == WRONG:
                expected = status == "error" and message in messages
                self.ended(kind, "" if expected else f"{message}: {messages[:300]}")
            else:
                self.ended(kind, "" if status == "success" else f"{name}: {messages[-600:]}")
                if kind == STOCK and status == "success":
                    self.report.stock.append(self.digest(record["outputs"]))

    def digest(self, outputs: dict) -> str:
        """Of the pictures' pixels: the files hold their prompts too."""
        from PIL import Image

        checksum = hashlib.sha256()
        for shown in outputs.values():
            for picture in shown.get("images", []):
                path = self.server.base / "output" / picture["subfolder"] / picture["filename"]
                with Image.open(path) as image:
                    checksum.update(image.tobytes())
        return checksum.hexdigest()

    def ended(self, kind: str, problem: str) -> None:
        report = self.report
        report.runs += 1
        report.kinds[kind] = report.kinds.get(kind, 0) + 1
        report.problems += [problem] if problem else []
        report.memory.append(self.process.memory_info().rss / MEGABYTE)
        handles = getattr(self.process, "num_fds", None) or self.process.num_handles
        report.files.append(handles())
        if self.rng.random() < 0.15:
            self.due = time.monotonic() + self.rng.uniform(0, 3)
        if self.rng.random() < 0.05:
            self.post("/free", {"unload_models": True, "free_memory": True})
            report.freed += 1
        if report.runs % 10 == 0:
            self.say(
                f"{report.runs} runs, {report.memory[-1]:.0f} MiB, {report.files[-1]} files,"
                f" {len(report.problems)} problems"
            )

    def judge(self) -> None:
        report = self.report
        if len(set(report.stock)) > 1:
            report.problems.append("the stock model's pictures are not the same every time")
        early, late = thirds(report.memory)
        if late > early * 1.1 + 50:
            report.problems.append(f"memory grew from {early:.0f} to {late:.0f} MiB")
        third = report.files[len(report.files) // 3 :]
        if report.files[-1] > min(third) + 8:
            report.problems.append(f"open files grew from {min(third)} to {report.files[-1]}")


def main() -> None:
    from tests.live.stand_ins import save_all
    from tests.weather_server import weather_server
    from tools.hosting import tiny_models
    from tools.hosting.host import find_host

    parser = argparse.ArgumentParser(prog="nox -s soak --", description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    makers = {"blip": tiny_models.save_blip, "whisper": tiny_models.save_whisper}
    makers |= {"clap": tiny_models.save_clap, "t5": tiny_models.save_t5}
    with tempfile.TemporaryDirectory() as work, weather_server() as weather:
        os.environ.update(weather.environment())
        tiny = {name: make(Path(work) / name) for name, make in makers.items()}
        with Server(find_host(), Path(work) / "server") as server:
            save_all(server.base, tiny)
            report = Soak(server, options.seed, lambda line: print(line, flush=True)).run(options.runs)
    print("\n".join(report.lines()))
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
