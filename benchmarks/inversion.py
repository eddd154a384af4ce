"""How well inversion rebuilds a picture, at equal numbers of model calls: ``python -m benchmarks.inversion``.

On the demo model: pictures in the held-out styles are encoded, inverted, sampled back with the stock KSampler
(ddim, no added noise; scheduler, steps, CFG and prompt of the inversion) and decoded. Reported is the mean
PSNR in dB against the VAE's own reconstruction. Three ways up the noise levels:

- published: DDIM Invert without refinements, the rule that StyleAligned publishes;
- euler: the host's own way, FlipSigmas and its euler sampler through SamplerCustom;
- refined n: DDIM Invert with n refinements.

A call is one evaluation of the guided model, which above CFG 1 runs the network on two rows. Calls are those
of the inversion alone, counted by a hook in the host. A way that makes k calls a step takes budget / k steps,
and so does its sampling back, so a second table compares at equal steps.
"""

import argparse

import numpy as np
import torch

from demo.objects import OBJECTS
from demo.pictures import caption, draw
from demo.styles import HELD_OUT
from demo.training.hosting import import_host
from demo.training.measure import load_pack
from demo.training.train_vae import psnr

SCHEDULER = "simple"
METHODS = {"published": 0, "euler": None, "refined 1": 1, "refined 3": 3, "refined 5": 5}  # refinements


class Bench:
    def __init__(self, pictures: int) -> None:
        self.pack = load_pack()
        model, clip, self.vae = self.pack.nodes.demo_model.LoadDemoModel.execute().result[:3]
        self.model, self.calls = model.clone(), 0
        self.model.set_model_sampler_post_cfg_function(self.count)
        objects = [list(OBJECTS)[(2 * i + i // 5) % len(OBJECTS)] for i in range(pictures)]
        styles = [list(HELD_OUT.values())[i % len(HELD_OUT)] for i in range(pictures)]
        drawn = [draw(o, styles[i], np.random.default_rng(i)) for i, o in enumerate(objects)]
        self.start = torch.cat([self.vae.encode(torch.from_numpy(d)[None].float()) for d in drawn])
        self.wanted = self.vae.decode(self.start).clamp(0, 1)
        texts = ([caption(o) for o in objects], [""] * pictures)
        self.prompts = [self.encode(clip, t) for t in texts]
        self.figures: dict[tuple, tuple[int, float]] = {}

    @staticmethod
    def encode(clip, texts: list[str]) -> list:
        """One CONDITIONING for a batch: a prompt for each picture."""
        parts = [clip.encode_from_tokens_scheduled(clip.tokenize(text))[0] for text in texts]
        pooled = torch.cat([extra["pooled_output"] for _, extra in parts])
        return [[torch.cat([cond for cond, _ in parts]), {"pooled_output": pooled}]]

    def count(self, args: dict):
        self.calls += 1
        return args["denoised"]

    def inverted(self, refinements: int | None, steps: int, cfg: float) -> torch.Tensor:
        import comfy.samplers
        from comfy_extras.nodes_custom_sampler import BasicScheduler, FlipSigmas, SamplerCustom

        if refinements is None:
            flipped = FlipSigmas.execute(BasicScheduler.execute(self.model, SCHEDULER, steps, 1.0).result[0])
            latent, euler = {"samples": self.start}, comfy.samplers.sampler_object("euler")
            settings = (self.model, False, 0, cfg, *self.prompts, euler, flipped.result[0], latent)
            return SamplerCustom.execute(*settings).result[0]["samples"]
        # What DDIM Invert runs for its one picture; the sampler carries a batch, which takes less time.
        invert = self.pack.nodes._host.style_aligned.inversion.invert
        return invert(self.model, self.start, *self.prompts, SCHEDULER, steps, cfg, refinements)[1]

    def measured(self, method: str, steps: int, cfg: float) -> tuple[int, float]:
        """Calls of the inversion, and PSNR."""
        import nodes

        key = method, steps, cfg
        if key not in self.figures:
            self.calls = 0
            latent = {"samples": self.inverted(METHODS[method], steps, cfg)}
            calls, settings = self.calls, (0, steps, cfg, "ddim", SCHEDULER, *self.prompts, latent)
            back = nodes.common_ksampler(self.model, *settings, disable_noise=True)[0]["samples"]
            self.figures[key] = calls, psnr(self.vae.decode(back).clamp(0, 1), self.wanted)
        return self.figures[key]


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=5, help="styles and objects take turns")
    parser.add_argument("--budgets", type=int, nargs="+", default=[12, 24, 48, 96], help="model calls")
    parser.add_argument("--steps", type=int, nargs="+", default=[12, 24], help="of the second table")
    parser.add_argument("--cfg", type=float, nargs="+", default=[1.0, 2.0])
    options = parser.parse_args()
    import_host()
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    bench = Bench(options.pictures)
    print(f"PSNR dB, mean of {options.pictures} pictures")
    for cfg in options.cfg:
        print(f"\nCFG {cfg:g}: at equal model calls (steps in brackets)")
        print(" " * 12, *(f"{f'{budget} calls':>13}" for budget in options.budgets))
        for method, n in METHODS.items():
            row = []
            for budget in options.budgets:
                steps = budget // max(1, n or 0)
                calls, quality = bench.measured(method, steps, cfg)
                row.append(f"{quality:8.2f} ({steps:2})" + f" [{calls} calls]" * (calls != budget))
            print(f"{method:12}", *(f"{cell:>13}" for cell in row), flush=True)
        print(f"\nCFG {cfg:g}: at equal steps (calls in brackets)")
        print(" " * 12, *(f"{f'{steps} steps':>14}" for steps in options.steps))
        for method in METHODS:
            row = [bench.measured(method, steps, cfg) for steps in options.steps]
            print(f"{method:12}", *(f"{quality:8.2f} ({calls:3})" for calls, quality in row), flush=True)


if __name__ == "__main__":
    main()
