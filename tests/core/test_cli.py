"""The command ``zsamb``: its sub-commands, its old names, and what it imports."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zsamb_core
from zsamb_core import cli, packages, run

ROOT = Path(__file__).resolve().parents[2]
FLOW = "workflows/api/style_aligned_prompts.json"


def test_its_version_is_the_project_s(capsys):
    (version,) = re.findall('^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"zsamb {version}\n"
    assert zsamb_core.__version__ == version


COMMANDS = ["run", "inputs", "score", "train", "prepare", "adapter"]


def test_help_names_every_command_and_says_what_it_does(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    output = capsys.readouterr().out
    assert stop.value.code == 0 and list(cli.COMMANDS) == COMMANDS
    for name, (summary, _) in cli.COMMANDS.items():
        assert re.search(rf"^    {name} +{summary[:30]}", output, re.MULTILINE)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command_speaks_to_users(name, capsys):
    """Of every argument, in short sentences, without marks or names of the code."""
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    output = capsys.readouterr().out
    assert stop.value.code == 0 and output.startswith(f"usage: zsamb {name} ")
    assert not re.search("``|zsamb_core|argparse|None|Path", output)
    parser = argparse.ArgumentParser()
    cli.COMMANDS[name][1].add_arguments(parser)
    assert all(action.help for action in parser._actions)
    sentences = re.split(r"\.\s", f"{parser.description} ")
    assert all(len(sentence.split()) <= 35 for sentence in sentences)


def test_without_a_command_it_says_which_there_are(capsys):
    assert cli.main([]) == 2
    console = capsys.readouterr()
    assert console.out == "" and console.err.startswith("usage: zsamb ") and "score" in console.err


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["inputs", FLOW]])
def test_what_needs_no_package_imports_none(words):
    code = (
        "import sys; from zsamb_core import cli\ntry: cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'transformers', 'PIL', 'aiohttp', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]" and len(done.stdout) > 10


def test_the_old_name_of_run_is_the_same_and_says_the_new_one(capsys):
    assert run.main(["absent.json"]) == cli.main(["run", "absent.json"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("python -m zsamb_core.run is now called zsamb run")
    assert lines[1:] == [lines[1]] * 2 and lines[1].startswith("zsamb run: absent.json: not a JSON file")
    with pytest.raises(SystemExit) as stop:
        run.main(["--no-such"])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("words", "needs", "install"),
    [
        (["run", FLOW], "aiohttp PIL", "aiohttp pillow"),
        (["run", FLOW, "--dry-run"], "aiohttp PIL", "aiohttp pillow"),
        (["score", "plan.json", "--dino", "x"], "numpy torch transformers safetensors PIL", None),
    ],
)
def test_what_is_not_installed_is_named_with_the_cure(words, needs, install, capsys, monkeypatch):
    find = packages.find_spec
    names = needs.split()
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in names else find(name))
    assert cli.main(words) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"zsamb {words[0]}: {sys.executable} has no {' and no '.join(names)}. ")
    assert message.endswith(f"pip install {install or needs.replace('PIL', 'pillow')}\n")
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == names[-1] else find(name))
    assert cli.main(words) == 2 and f"{sys.executable} has no PIL. " in capsys.readouterr().err
