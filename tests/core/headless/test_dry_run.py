"""``zsamb run --dry-run``: what would run and all that is wrong, and nothing sent or written."""

import json
import socket

import pytest
from PIL import Image

from tests.core.headless.strange_server import WORKFLOW, strange_server
from zsamb_core import cli


@pytest.fixture(scope="module")
def running():
    with strange_server() as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


@pytest.fixture
def dry(tmp_path, server, capsys, monkeypatch):
    """Makes a dry run of rows, (name, what is set), in a folder of its own: (exit code, stdout's lines,
    stderr). Fails where anything was sent to the server, or written.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow.json").write_text(json.dumps(WORKFLOW))
    Image.new("RGB", (4, 4)).save(tmp_path / "cat.png")

    def run(rows, *args, server_url=None):
        lines = [json.dumps({"output": name, **fields}) for name, fields in rows]
        (tmp_path / "rows.jsonl").write_text("\n".join(lines))
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        words = ["--manifest", "rows.jsonl"] if rows else []
        code = cli.main(
            ["run", "flow.json", *words, "--server", server_url or server.url, "--dry-run", *args]
        )
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        assert not (tmp_path / "output").exists()
        assert (server.sent, server.runs, server.sockets, server.asked) == ([], {}, {}, 0)
        console = capsys.readouterr()
        return code, console.out.splitlines(), console.err

    return run


def test_good_rows_are_listed_with_what_they_set(dry, server):
    code, out, err = dry([("one", {"seed": 5, "image:1": "cat.png"}), ("two", {"image:1": "cat.png"})])
    assert code == 0 and out == [
        "row 1 (line 1): output/one sets 2.seed=5, 1.image from cat.png",
        "row 2 (line 2): output/two sets 1.image from cat.png",
    ]
    assert f"{server.url} would run these 2 rows" in err and "nothing was run" in err


def test_every_bad_row_is_named_in_one_pass(dry, server):
    """Those that are no rows, those with a wrong input or picture, and those that a server would refuse;
    more of them than an error lists.
    """
    bad = [(f"bad{i}", {"seed": "five"}) for i in range(25)]
    rows = [("good", {"seed": 1}), *bad, ("a/b", {}), ("good", {}), ("none", {"image:1": "none.png"})]
    rows += [("far", {"seed": 99999}), ("further", {"seed": -1}), ("lost", {"1.image": "b.png"})]
    rows += [(f"more{i}", {"seed": 10_000 + i}) for i in range(150)]
    code, out, err = dry(rows)
    assert code == 2
    listed = [line.split()[4].removeprefix("output/") for line in out]
    assert listed == ["good", "far", "further", "lost", *(f"more{i}" for i in range(150))]
    for i in range(25):
        assert f"\nrow {i + 2} (line {i + 2}): seed is 'five', expected a number such as 1." in err
    assert "\nrow 27 (line 27): output is 'a/b', expected a folder name" in err
    assert "\nrow 28 (line 28): output is 'good', as in row 1 (line 1)" in err
    assert "\nrow 29 (line 29): picture none.png: not a picture file" in err
    server_s = err.partition(f"{server.url} would refuse:\n")[2]
    assert "row 30 (line 30): seed of node 2 (KSampler) is 99999, expected at most 9999\n" in server_s
    assert "row 31 (line 31): seed of node 2 (KSampler) is -1, expected at least 0\n" in server_s
    assert "row 32 (line 32): image of node 1 (LoadImage) is 'b.png', which is no file" in server_s
    for i in range(150):
        assert f"\nrow {i + 33} (line {i + 33}): seed of node 2 (KSampler) is {10_000 + i}, exp" in server_s


def test_one_that_a_server_alone_finds_bad_is_bad(dry):
    assert dry([("good", {}), ("far", {"seed": 99999})])[0] == 2
    assert dry([("good", {}), ("wrong", {"sede": 1})])[0] == 2
    assert dry([("wrong", {"sede": 1})])[:2] == (2, [])


def test_the_rows_of_a_table_that_breaks_off_are_checked(tmp_path, dry):
    (tmp_path / "rows.csv").write_text('output,seed\na,1\nb,five\nc,"2')
    code, out, err = dry([], "--manifest", "rows.csv")
    assert code == 2 and out == ["row 1 (line 2): output/a sets 2.seed=1"]
    assert "row 2 (line 3): seed is 'five'" in err and "the rows behind row 2 cannot be read" in err


def test_rows_are_checked_without_a_server_too(dry):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    code, out, err = dry([("one", {}), ("two", {})], server_url=url)
    assert code == 3 and len(out) == 2 and f"{url} does not answer" in err
    code, out, err = dry([("one", {}), ("two", {"seed": "x"})], server_url=url)
    assert code == 2 and len(out) == 1 and "row 2 (line 2): seed is 'x'" in err


def test_a_single_run_is_checked_too(dry, server):
    code, out, err = dry([], "--set", "seed=7", "--out", "cat")
    assert (code, out) == (0, ["cat sets 2.seed=7"]) and f"{server.url} would run this" in err
    code, _, err = dry([], "--set", "seed=77777")
    assert code == 2 and "flow: seed of node 2 (KSampler) is 77777, expected at most 9999" in err


def test_a_server_without_a_class_is_said(dry, server):
    server.answers = {"info": {}}
    code, out, err = dry([("one", {})])
    assert code == 2 and len(out) == 1 and "the server has no class 'KSampler'" in err


@pytest.mark.parametrize("refusing_first", [True, False])
def test_one_of_two_servers_that_refuses_is_enough(dry, server, refusing_first):
    server.answers = {"info": {}}
    with strange_server() as other:
        urls = (server.url, other.url) if refusing_first else (other.url, server.url)
        code, _, err = dry([("one", {})], "--server", urls[1], server_url=urls[0])
    assert code == 2 and f"{server.url} would refuse" in err and f"{other.url} would run this" in err


def test_rows_that_are_complete_are_said_so(dry, server, tmp_path):
    rows = [("one", {"seed": 1}), ("two", {"seed": 2})]
    (tmp_path / "first.jsonl").write_text(json.dumps({"output": "one", "seed": 1}))
    args = ("--out", "done")
    first = ["run", "flow.json", "--manifest", "first.jsonl", "--server", server.url, *args]
    assert cli.main(first) == 0 and len(server.runs) == 1
    server.reset()
    code, out, err = dry(rows, *args)
    assert code == 0 and "1 of 2 rows are complete already" in err and "would run this" in err
    assert out[-2:] == [
        "row 1 (line 1): done/one is complete already",
        "row 2 (line 2): done/two sets 2.seed=2",
    ]
    assert (
        dry(rows[:1], *args, server_url="http://127.0.0.1:9")[0] == 0
    )  # nothing is left to ask a server for
