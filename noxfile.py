"""``nox -s demo`` makes the pictures, ``nox -s tests`` runs every check. Both install what they need
themselves.
"""

import nox

nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True

# torchaudio and torchvision are built against one torch each, and the host imports all three.
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
# One environment for all sessions: torch is large.
SHARED = {"venv_location": ".nox/z-samb"}


def set_up(session: nox.Session, *extra: str) -> None:
    """Find or fetch ComfyUI, then install torch, what that ComfyUI asks for, and ``extra``."""
    host = session.run("python", "tools/host.py", silent=True)
    assert host is not None
    path = host.strip().splitlines()[-1]
    session.env["COMFYUI_PATH"] = path
    session.install("--quiet", *TORCH, "-r", f"{path}/requirements.txt", *extra)


@nox.session(**SHARED)
def demo(session: nox.Session) -> None:
    """Draw a set in the style of a reference picture, and one from prompts alone, through a real server."""
    set_up(session)
    session.run("python", "-m", "tools.demo", *session.posargs)


@nox.session(**SHARED)
def tests(session: nox.Session) -> None:
    """Lint, types, and the core, host and live tests."""
    set_up(session, "pytest>=8", "ruff==0.14.0", "mypy==1.18.2")
    if not session.posargs:
        session.run("ruff", "check", ".")
        session.run("mypy")
    session.run("pytest", *session.posargs)


@nox.session(**SHARED)
def train(session: nox.Session) -> None:
    """Train the demo model family again, in order: ``nox -s train``, or one part: ``nox -s train --
    train_vae``.
    """
    set_up(session)
    parts = session.posargs[:1] or ["train_vae", "train_unet", "classifier"]
    for part in parts:
        session.run("python", "-m", f"demo.{part}", *session.posargs[1:])


@nox.session(**SHARED)
def measure(session: nox.Session) -> None:
    """Measure the demo model family against its bars."""
    set_up(session)
    session.run("python", "-m", "demo.measure", *session.posargs)


@nox.session(**SHARED)
def workflows(session: nox.Session) -> None:
    """Derive workflows/*.json, for the canvas, from workflows/api/*.json."""
    set_up(session)
    session.run("python", "-m", "tools.ui_workflows")


@nox.session(**SHARED)
def benchmarks(session: nox.Session) -> None:
    """Speed, as ratios measured side by side."""
    set_up(session)
    session.run("python", "-m", "benchmarks.shared_attention", *session.posargs)
    session.run("python", "-m", "benchmarks.import_time")
