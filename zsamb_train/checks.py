"""Arguments that mean nothing, told before anything is loaded."""

import argparse

LEAST = {
    "steps": 1, "batch": 1, "accumulate": 1, "resolution": 64, "keep": 1, "save_every": 1, "workers": 0,
    "warmup": 0, "probe_every": 0, "sheet_every": 0, "rate": 0.0, "weight_decay": 0.0, "clip": 0.0,
    "drop_image": 0.0, "drop_text": 0.0, "drop_both": 0.0, "offset_noise": 0.0, "min_snr": 0.0,
}  # fmt: skip


def check(options: argparse.Namespace) -> None:
    """Raises ValueError that names the argument."""
    for name, low in LEAST.items():
        value = getattr(options, name)
        if not low <= value < float("inf"):
            raise ValueError(f"{_argument(name)} is {value}, expected {low:g} or more")
    shares = options.drop_image + options.drop_text + options.drop_both
    if shares > 1:
        raise ValueError(
            f"the drop rates are {shares:g} together, expected 1 at most: no sample is dropped twice"
        )
    for name in ("average", "style_share"):
        if not 0 <= getattr(options, name) <= 1:
            raise ValueError(f"{_argument(name)} is {getattr(options, name)}, expected 0 to 1")
    for name in ("style_spread", "tflops"):
        if not 0 < getattr(options, name) < float("inf"):
            raise ValueError(f"{_argument(name)} is {getattr(options, name)}, expected more than 0")
    if options.resolution % 8:
        raise ValueError(f"--resolution is {options.resolution}, expected a multiple of 8, as the VAE has it")
    if options.checkpoint is None and not options.plan:
        raise ValueError(
            "--checkpoint is missing: give an SDXL checkpoint, such as models/checkpoints/"
            "sd_xl_base_1.0.safetensors of your ComfyUI, or demo for the pack's small model"
        )
    if options.freeze_projector and options.init is None:
        raise ValueError(
            "--freeze-projector without --init would leave the projector as it was drawn at random. Give an"
            " adapter to start from."
        )


def _argument(name: str) -> str:
    return f"--{name.replace('_', '-')}"
