"""Files that are there whole or not at all, and new ones that replace no other, whoever writes meanwhile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zsamb_core.files.whole_file import write_new, write_over, write_part

ROOT = Path(__file__).resolve().parents[3]


def test_the_first_free_place_is_taken(tmp_path):
    places = [tmp_path / name for name in "abc"]
    places[0].write_text("a user's")
    places[1].symlink_to(tmp_path / "nowhere")  # a name that is taken, though nothing is behind it
    assert write_new(places, lambda path: path.write_text("new")) == places[2]
    assert places[0].read_text() == "a user's" and not places[1].exists() and places[2].read_text() == "new"
    with pytest.raises(FileExistsError, match="/c is there already, and no file is replaced"):
        write_new(places, lambda path: path.write_text("newer"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_nothing_is_written_where_no_place_is_free(tmp_path):
    """What is large is not written only to be thrown away."""
    (tmp_path / "a").write_text("a user's")
    calls = []
    with pytest.raises(FileExistsError):
        write_new(tmp_path / "a", calls.append)
    assert calls == []


def test_a_place_that_is_taken_meanwhile_is_left(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"

    def write(path):
        path.write_text("ours")
        first.write_text("another's")

    assert write_new([first, second], write) == second
    assert first.read_text() == "another's" and second.read_text() == "ours"


def test_a_move_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no such device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no such device"):
        write_new(tmp_path / "a", lambda path: path.write_text("new"))
    assert not list(tmp_path.iterdir())


def test_the_file_can_be_read_by_whom_the_system_lets(tmp_path):
    (tmp_path / "plain").write_text("")
    write_new(tmp_path / "new", lambda path: path.write_text(""))
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_processes_at_once_get_a_place_each(tmp_path):
    code = (
        "import sys; from itertools import count; from pathlib import Path;"
        "from zsamb_core.files.whole_file import write_new; folder, who = Path(sys.argv[1]), sys.argv[2]\n"
        "for i in range(40):\n"
        "    places = (folder / f'{n}.txt' for n in count(1))\n"
        "    write_new(places, lambda path: path.write_text(f'{who} {i}'))\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(who)], cwd=ROOT) for who in range(3)
    ]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    expected = {f"{who} {i}" for who in range(3) for i in range(40)}
    assert {path.read_text() for path in tmp_path.iterdir()} == expected
    assert {path.name for path in tmp_path.iterdir()} == {f"{n}.txt" for n in range(1, 121)}


def half(path):
    path.write_text("ha")
    raise OSError("disk full")


def test_a_file_that_is_replaced_is_the_old_or_the_new(tmp_path):
    place = tmp_path / "a"
    for text in ("old", "new"):
        write_over(place, lambda path, text=text: path.write_text(text))
        with pytest.raises(OSError, match="disk full"):
            write_over(place, half)
        assert place.read_text() == text and list(tmp_path.iterdir()) == [place]


def test_a_move_over_a_folder_leaves_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_over(tmp_path / "a", lambda path: path.write_text("new"))
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").is_dir()


def test_a_part_is_a_new_file_or_none(tmp_path):
    precious, part = tmp_path / "precious", tmp_path / "part"
    precious.write_text("a user's")
    with pytest.raises(OSError, match="disk full"):
        write_part(part, half)
    assert not part.exists()
    part.symlink_to(precious)
    with pytest.raises(FileExistsError):
        write_part(part, lambda path: path.write_text("ours"))
    assert part.is_symlink() and precious.read_text() == "a user's"
