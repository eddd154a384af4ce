"""Rows on several servers: one that is broken costs no row, a row that is wrong no server; folders, pictures
and disks that fail; and two commands at once.
"""

import errno
import re
import threading
from types import SimpleNamespace

import pytest

from tests.core.headless.batches import Batch
from tests.core.headless.strange_answers import HTML, failing, of_run
from tests.core.headless.strange_server import Close, Raw
from zsamb_core.headless import client, pool, run
from zsamb_core.headless.claim import claimed


@pytest.mark.parametrize(
    "what, answer",
    [
        ("prompt", Raw(b"Internal Server Error", 500)),
        ("prompt", Raw(HTML)),
        ("history", failing({"node_id": "2", "exception_message": "CUDA error: no device"})),
        ("view", Raw(HTML)),
        ("upload", Raw(HTML, 413)),
        ("prompt", Close()),
    ],
)
def test_a_server_where_row_after_row_fails_costs_no_row(servers, server, batch, what, answer):
    one, two = servers
    one.answers = {what: answer}
    outcome = batch([(f"row{i}", i) for i in range(20)], one, two)
    assert outcome.code == 0 and "20 done, 0 failed, 0 not run" in outcome.err, outcome.err
    assert set(outcome.complete.values()) == {two.url} and len(outcome.complete) == 20
    assert outcome.err.count(f"{one.url} is left out: 3 rows in a row failed there") == 1, outcome.err
    assert outcome.err.count(f"goes to another server, {one.url} says: ") == 3, outcome.err


def test_rows_that_are_bad_themselves_leave_no_server_out(servers, server, batch):
    """Each is tried on both servers, and the good rows behind them are done; also one that fails once."""
    tried = []

    def once(usual):
        tried.append(usual)
        return Raw(status=500) if len(tried) == 1 else usual

    for each in servers:
        each.rows = {i: {"prompt": Raw(b'{"error": {"message": "no such seed"}}', 400)} for i in range(12)}
        each.rows[12] = {"prompt": once}
    outcome = batch([(f"row{i}", i) for i in range(20)], *servers)
    assert outcome.code == 1 and "8 done, 12 failed, 0 not run" in outcome.err and len(outcome.complete) == 8
    assert outcome.err.count("failed: no such seed") == 12 and "left out" not in outcome.err
    assert all(sorted(each.runs.values())[:13] == list(range(13)) for each in servers)


def test_servers_that_wait_for_each_other_s_word_do_not_wait_for_ever(servers, server, batch, monkeypatch):
    """Nor where a row ends without one: both have refused their fill, and then its picture is gone."""
    gone, upload = set(), client.Client.upload

    async def upload_once(self, path):
        if path.name in gone:
            raise FileNotFoundError(2, "No such file", str(path))
        gone.add(path.name)
        return await upload(self, path)

    monkeypatch.setattr(client.Client, "upload", upload_once)
    for each in servers:
        each.rows = {i: {"prompt": Raw(status=500)} for i in range(12)}
    outcome = batch([(f"row{i}", i) for i in range(20)], *servers)
    assert outcome.code == 1 and "8 done, 12 failed, 0 not run" in outcome.err


def test_only_failures_in_a_row_count_against_a_server():
    one, two = (client.Client(f"http://127.0.0.1:{port}") for port in (1, 2))
    jobs = [SimpleNamespace(name=f"row{i}", place="") for i in range(2 * pool.STREAK + 2)]
    server_pool = pool.Pool([], [one, two], resume=False)
    for refused, done in zip(jobs[::2], jobs[1::2], strict=True):
        server_pool._refuse(refused, one, "no memory")
        server_pool._clear(done, one)
        server_pool._clear(refused, two)
    assert server_pool.alive == [one, two]
    for job in jobs[: pool.STREAK]:
        server_pool._refuse(job, one, "no memory")
    server_pool._clear(jobs[0], two)
    assert server_pool.alive == [two]


def test_a_row_that_two_servers_were_lost_under_is_given_to_no_third():
    clients = [client.Client(f"http://127.0.0.1:{port}") for port in (1, 2, 3)]
    job, server_pool = SimpleNamespace(name="row", place=""), pool.Pool([], clients, resume=False)
    server_pool._lost(job, clients[0], client.Unreachable("gone"))
    assert list(server_pool.waiting) == [job] and not server_pool.failed
    server_pool.waiting.clear()
    server_pool._lost(job, clients[1], client.Unreachable("gone"))
    assert not server_pool.waiting and server_pool.failed == ["row"] and server_pool.alive == clients[2:]


def test_the_last_server_is_not_left_out(servers, server, batch):
    for each in servers:
        each.answers = {"prompt": Raw(b"Internal Server Error", 500)}
    for group in (servers[:1], servers):
        outcome = batch([(f"row{i}", i) for i in range(8)], *group)
        assert outcome.code == 1 and "0 done, 8 failed, 0 not run" in outcome.err
        assert "is left out" not in outcome.err
        assert len(re.findall(r"^row\d .* failed: ", outcome.err, re.M)) == 8


def test_a_run_that_somebody_stopped_is_not_given_to_another(servers, server, batch):
    for each in servers:
        each.answers = {"history": of_run(status={"messages": [["execution_interrupted", {}]]})}
    outcome = batch([("a", 1)], *servers)
    assert outcome.code == 1 and "failed: the run was interrupted on the server" in outcome.err
    assert sum(len(each.runs) for each in servers) == 1


def test_a_folder_that_cannot_be_written_fails_its_row_alone_and_before_it_runs(server, batch, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "file").write_text("kept")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    outcome = batch([("first", 1), ("link", 5), ("file", 2), ("n" * 300, 3), ("last", 4)], server)
    assert outcome.code == 1 and "2 done, 3 failed, 0 not run" in outcome.err
    assert "link is a link, expected a folder in --out" in outcome.err and "name too long" in outcome.err
    assert sorted(server.runs.values()) == [1, 4] and not list((tmp_path / "elsewhere").iterdir())
    assert (tmp_path / "out" / "file").read_text() == "kept"


def test_a_picture_that_is_gone_fails_its_row_alone(server, batch, tmp_path, monkeypatch):
    prepare_rows = run.prepare_rows

    def gone(*args):
        jobs = prepare_rows(*args)
        (tmp_path / "2.png").unlink()
        return jobs

    monkeypatch.setattr(run, "prepare_rows", gone)
    outcome = batch([("a", 1), ("b", 2), ("c", 3)], server)
    assert outcome.code == 1 and "2.png" in outcome.err and "2 done, 1 failed" in outcome.err


def test_a_full_disk_stops_the_batch(server, batch, monkeypatch):
    """No row could be kept, so none is drawn in vain."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pool, "keep", full)
    outcome = batch([("a", 1), ("b", 2), ("c", 3)], server)
    assert outcome.code == 1 and "stopped: " in outcome.err and len(server.runs) == 1


def test_two_runs_share_one_folder(servers, server, tmp_path):
    """No row is drawn twice, none is lost, none is a mixture, and both end well."""
    batch, codes = Batch(tmp_path, [(f"row{i}", i) for i in range(8)]), []
    threads = [threading.Thread(target=lambda s=each: codes.append(batch.run(s))) for each in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert codes == [0, 0] and len(batch.complete()) == 8
    assert sorted([*servers[0].runs.values(), *servers[1].runs.values()]) == list(range(8))


def test_a_folder_that_another_run_has_is_waited_for(server, tmp_path, capsys):
    this, codes = Batch(tmp_path, [("a", 1), ("b", 2)]), []
    with claimed(this.out / "a"):
        thread = threading.Thread(target=lambda: codes.append(this.run(server)))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive() and set(server.runs.values()) <= {2}
    thread.join(60)
    assert codes == [0] and sorted(this.complete()) == ["a", "b"]
    err = capsys.readouterr().err
    assert err.count(f"a: another run has {this.out / 'a'}; it is waited for") == 1 and "2 done" in err


def test_a_mistake_of_the_program_costs_its_row_alone(server, batch, monkeypatch, capsys, tmp_path):
    class Wrong:
        def __init__(self, *_):
            raise KeyError("a mistake")

    monkeypatch.setattr(pool, "show_step", Wrong)
    assert Batch(tmp_path, [("a", 1), ("b", 2)]).run(server) == 1
    err = capsys.readouterr().err
    assert err.count("an error of this program, please report it: KeyError('a mistake')") == 2
