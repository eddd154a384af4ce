"""Servers that are broken, hostile, or something else than ComfyUI, against the whole command: each wrong
answer is a message and costs its own row alone, or its server.
"""

import asyncio
import gzip
import io
import re
import time
from types import SimpleNamespace

import pytest

from tests.core.headless.batches import Batch, refuse_ugly
from tests.core.headless.strange_answers import ANYTHING, DEEP, FINE, HTML, MESSAGES, ROWS, STRANGE_INFO, WS
from tests.core.headless.strange_server import Raw
from zsamb_core.headless import answers, client

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table(servers, tmp_path_factory):
    """All cases of ROWS, FINE and MESSAGES in one batch, with good rows among them; and the same command when
    the server is well again.
    """
    (server, _), rows = servers, []
    server.reset()
    for i, name in enumerate((*ROWS, *FINE, *MESSAGES), 1000):
        rows += [(f"good {i}", i - 999)] * (i % 10 == 0) + [(f"case {i}", i)]
        if name in MESSAGES:
            server.messages[i] = MESSAGES[name]
        else:
            what, answer = {**ROWS, **FINE}[name]
            server.rows[i] = {what: answer}
    this = Batch(tmp_path_factory.mktemp("table"), rows)
    # No capsys for a module.
    with pytest.MonkeyPatch.context() as patch:
        out, err = io.StringIO(), io.StringIO()
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        code, complete = this.run(server), this.complete()
        server.reset()
        again = this.run(server)
    numbers = {name: i for i, name in enumerate((*ROWS, *FINE, *MESSAGES), 1000)}
    return SimpleNamespace(
        code=code, again=again, err=err.getvalue(), complete=complete, in_the_end=this.complete(),
        rows=[name for name, _ in rows], numbers=numbers,
    )  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_strange_answer_fails_its_row_alone(table, name):
    row = f"case {table.numbers[name]}"
    assert re.search(rf"^{row} \(row \d+ \(line \d+\)\) failed: \S", table.err, re.M)
    assert row not in table.complete


@pytest.mark.parametrize("name", [*FINE, *MESSAGES])
def test_odd_answers_and_messages_do_no_harm(table, name):
    assert f"case {table.numbers[name]}" in table.complete


def test_nothing_else_is_lost_and_the_same_command_goes_on(table):
    refuse_ugly(table.err)
    good = [name for name in table.rows if name.startswith("good")]
    assert len(ROWS) > 130 and len(good) > 13 and set(good) <= set(table.complete)
    assert (table.code, table.again) == (1, 0)
    assert f"{len(table.rows) - len(ROWS)} done, {len(ROWS)} failed, 0 not run" in table.err
    assert f"{len(table.complete)} of {len(table.rows)} rows are complete already" in table.err
    assert sorted(table.in_the_end) == sorted(table.rows)


@pytest.mark.parametrize("answer", WS.values(), ids=WS)
def test_a_websocket_that_is_none(server, batch, answer):
    server.answers = {"ws": answer}
    outcome = batch([("a", 1), ("b", 2)], server)
    assert outcome.code == 1 and "0 done, 2 failed, 0 not run" in outcome.err and not server.runs


def test_a_flood_of_other_messages_does_not_hide_that_the_run_is_gone(server, batch, monkeypatch):
    """Monitors send one every second; the run was deleted from the queue, of which nobody sends word."""
    monkeypatch.setattr(client, "SILENCE", 0.1)

    async def flood(socket, prompt_id, seed):
        for _ in range(1500):
            await socket.send_json({"type": "crystools.monitor", "data": {"cpu": 5}})
            await asyncio.sleep(0.01)

    monkeypatch.setattr(server, "tell", flood)
    server.answers, start = {"history": {}}, time.monotonic()
    outcome = batch([("a", 1)], server)
    assert outcome.code == 1 and "the run was taken out of the server's queue" in outcome.err
    assert time.monotonic() - start < 10


def test_a_long_silence_is_not_filled_with_questions(server, batch, monkeypatch):
    async def later(socket, prompt_id, seed, tell=server.tell):
        await asyncio.sleep(1)
        await tell(socket, prompt_id, seed)

    monkeypatch.setattr(server, "tell", later)
    server.answers = {"queue": lambda _: {"queue_running": [[0, key] for key in server.runs]}}
    assert batch([("a", 1)], server).code == 0 and server.asked <= 4


def test_a_queue_that_is_none(server, batch):
    """It is asked when the connection breaks."""
    server.messages = {1: [None]}
    for answer in ({"a": 5}, {"a": [5]}, [], 5, "x", Raw(HTML), Raw(DEEP)):
        server.answers = {"queue": answer}
        outcome = batch([("a", 1)], server)
        assert outcome.code == 1 and "/queue answers" in outcome.err


@pytest.mark.parametrize("what", ["stats", "info"])
@pytest.mark.parametrize("answer", ANYTHING.values(), ids=ANYTHING)
def test_a_server_that_is_none_is_left_out(servers, server, batch, what, answer):
    """Alone, there is no server; beside another, that one does the rows."""
    one, two = servers
    server.answers, rows = {what: answer}, [("a", 1), ("b", 2)]
    outcome = batch(rows, one)
    if isinstance(answer, dict):  # an object is all that is asked of its state, or it has no such node
        assert outcome.code == {"stats": 0, "info": 2}[what]
        return
    assert outcome.code == 3 and outcome.err.startswith(one.url) and not outcome.out and not outcome.complete
    outcome = batch(rows, one, two)
    assert outcome.code == 0 and outcome.err.startswith(one.url)
    assert "going on without 1 of 2 servers" in outcome.err
    assert outcome.complete == dict.fromkeys(["a", "b"], two.url)


@pytest.mark.parametrize("about", STRANGE_INFO.values(), ids=STRANGE_INFO)
def test_strange_words_about_a_node(server, batch, about):
    """What cannot be checked is not; what is no word about a node leaves the server out."""
    server.answers = {"info": lambda usual: dict.fromkeys(usual, about)}
    outcome = batch([("a", 1)], server)
    if about is None:
        assert outcome.code == 2 and "has no class" in outcome.err
    elif not isinstance(about, dict):
        assert outcome.code == 3 and "/object_info/KSampler answers" in outcome.err
    else:
        assert outcome.code == 0 and list(outcome.complete) == ["a"]


def test_bodies_without_end_are_cut(server, batch, monkeypatch):
    for name in ("LARGEST_ANSWER", "LARGEST_FILE"):
        monkeypatch.setattr(client, name, 1 << 20)
    packed = gzip.compress(b"[" + b"1," * (4 << 20) + b"1]")
    for what in ("prompt", "history", "upload", "view"):
        server.answers = {what: Raw(packed, headers={"Content-Encoding": "gzip"})}
        outcome = batch([("a", 1)], server)
        assert outcome.code == 1 and "more than 1 MB" in outcome.err, (what, outcome.err)


def test_odd_is_a_value_error():
    """What reads an answer raises nothing else."""
    for read in (answers.uploaded, answers.queued, lambda a: answers.record(a, "x"), answers.an_object):
        for value in (None, [], 5, "x", True, 1.5):
            with pytest.raises(answers.Odd):
                read(value)
