"""What only a GPU can show, in one command: ``nox -s gpu``, or ``python -m benchmarks.gpu``.

SDXL's UNet at full size with random weights, without a download. Three parts, each of which can be run alone:

- parity: the patched layers against an oracle over concatenated keys, in fp16, bf16 and fp32. Tolerances are
  multiples of the error of stock's own attention. Strength 0 is stock's result bit for bit;
- speed: stock, the pack, concatenated keys, a mask, explicit softmax, IP-Adapter; 1024 and 1536 px, one
  picture and four; seconds a step, operations, peak memory;
- demo: the demo model's pictures against the CPU's.

Writes OUT.json and the same as tables to OUT.md. ``--device cpu --small`` runs all of it at a small size: it
shows that the command works, not how fast anything is.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import torch

from demo.training.hosting import import_host
from demo.training.measure import load_pack

from .figures import table

PARTS = ("parity", "speed", "demo")


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; else all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="a narrow UNet, small pictures")
    parser.add_argument("--out", type=Path, default=Path("output/gpu"))
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)  # the demo part's other process
    args = parser.parse_args()
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}, expected some of {', '.join(PARTS)}")
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        sys.exit(
            "torch finds no CUDA device here, so nothing of a GPU was measured. To see the command work, run"
            " it on the CPU at a small size: python -m benchmarks.gpu --device cpu --small"
        )
    import_host()
    pack = load_pack()
    with torch.inference_mode():
        if args.draw:
            from . import gpu_parts

            torch.save(gpu_parts.demo_pictures(pack), args.draw)
            return
        report(pack, torch.device(args.device), args)


def report(pack, device: torch.device, args) -> None:
    """Run the parts, and write what they found. Exits with 1 where something did not pass."""
    from . import gpu_parts

    found: dict = {"device": name_of(device), "torch": torch.__version__, "small": args.small, "seconds": {}}
    texts = [f"{found['device']}, torch {torch.__version__}{', small' if args.small else ''}"]
    for part in args.parts or PARTS:
        start = time.perf_counter()
        print(f"{part} ...", file=sys.stderr, flush=True)
        found[part] = getattr(gpu_parts, part)(pack, device, args.small)
        found["seconds"][part] = time.perf_counter() - start
        texts.append(f"{part}\n\n{table(found[part])}")
        print(texts[-1], flush=True)
    rows = [row for part in PARTS for row in found.get(part, [])]
    found["passed"] = all(row.get("passed", True) for row in rows)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    args.out.with_suffix(".md").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    print(f"{args.out.with_suffix('.json')} and .md written; {'passed' if found['passed'] else 'NOT PASSED'}")
    if not found["passed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
