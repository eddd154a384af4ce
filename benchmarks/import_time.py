"""What the pack adds to ComfyUI's start: seconds to import it after the host's own imports, in fresh
processes.
"""

import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import importlib.util, sys, time
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
import nodes, comfy.samplers, comfy_api.latest, comfy.sd
spec = importlib.util.spec_from_file_location(
    "pack", sys.argv[2] + "/__init__.py", submodule_search_locations=[sys.argv[2]])
sys.modules["pack"] = module = importlib.util.module_from_spec(spec)
start = time.perf_counter()
spec.loader.exec_module(module)
print(time.perf_counter() - start)
"""


def main() -> None:
    taken = []
    for _ in range(5):
        command = [sys.executable, "-c", CODE, os.environ["COMFYUI_PATH"], str(ROOT)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        taken.append(float(out.splitlines()[-1]))
    print(f"import of the pack: median {statistics.median(taken):.3f} s, worst {max(taken):.3f} s of 5")


if __name__ == "__main__":
    main()
