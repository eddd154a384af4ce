"""Tables of what a ComfyUI does not answer, for rows of strange_server."""

import math

from tests.core.headless.strange_server import Close, Raw

HTML = b"<!DOCTYPE html><html><body>Log in</body></html>"
NUMBER = "9" * 5000
DEEP = b"[" * 100_000 + b"]" * 100_000
ANYTHING = {
    "null": None,
    "a list": [],
    "a list of lists": [[[]]],
    "a number": 5,
    "a text": "prompt_id",
    "true": True,
    "an empty object": {},
    "strange objects": {"prompt_id": {}, "name": [], "error": [], "node_errors": []},
    "an error that is a text": {"error": "no"},
    "an error that is a list": {"error": [1, {}], "node_errors": 5},
    "deep": Raw(DEEP),
    "deep objects": Raw(b'{"a":' * 3000 + b"1" + b"}" * 3000),
    "a number too long": Raw(b"9" * 5000),
    "HTML": Raw(HTML),
    "HTML, 500": Raw(HTML, 500),
    "nothing": Raw(),
    "nothing, 204": Raw(status=204),
    "half": Raw(b'{"prompt_id": "1'),
    "not text": Raw(b"\xff\xfe\x00\x80", headers={"Content-Type": "application/json; charset=rot13"}),
    "an error, 400": Raw(b'{"error": {"message": 5, "details": [1]}, "node_errors": {"7": 3}}', 400),
    "not packed": Raw(b"{}", headers={"Content-Encoding": "gzip"}),
    "closed": Close(),
    "the way elsewhere": Raw(status=302, headers={"Location": "file:///etc/passwd"}),
    "the way in a circle": Raw(status=307, headers={"Location": "?again"}),
}


def of_run(**changes):
    """A run's record with changes."""
    return lambda usual: {key: {**record, **changes} for key, record in usual.items()}


def of_file(**changes):
    """A run's record with changes in its file."""

    def changed(usual):
        ((key, record),) = usual.items()
        (file,) = record["outputs"]["7"]["images"]
        return {key: {**record, "outputs": {"7": {"images": [{**file, **changes}]}}}}

    return changed


def of_texts(**outputs):
    return of_run(outputs={"7": {"text": ["said"]}, **outputs})


def failing(data):
    return of_run(status={"status_str": "error", "messages": [["execution_error", data]]})


def refusing(**answer):
    """Of a workflow that is run in part."""
    return lambda usual: {**usual, **answer}


ESCAPES = "\x1b[2J\ud83d" * 1000
MISTAKE = {"message": "m", "details": "d"}
ERRORS = {"7": {"class_type": "X", "errors": [MISTAKE], "dependent_outputs": []}}
ROWS = {
    **{f"prompt {name}": ("prompt", answer) for name, answer in ANYTHING.items()},
    **{f"history {name}": ("history", answer) for name, answer in ANYTHING.items()},
    **{f"upload {name}": ("upload", answer) for name, answer in ANYTHING.items()},
    **{
        f"view {name}": ("view", answer)
        for name, answer in ANYTHING.items()
        if isinstance(answer, Raw) and answer.status != 307 or isinstance(answer, Close)
    },
    "prompt with an id that is null": ("prompt", {"prompt_id": None}),
    "prompt with an id that is a list": ("prompt", {"prompt_id": ["a"]}),
    "prompt with an id of 100,000 letters": ("prompt", {"prompt_id": "a" * 100_000}),
    "prompt with an id that is a path": ("prompt", {"prompt_id": "../../queue?x=#"}),
    "prompt with an id that is half a letter": ("prompt", {"prompt_id": "\ud800"}),
    "prompt with an id of its own": ("prompt", {"prompt_id": "unknown"}),
    "prompt that leaves out a part": ("prompt", {"prompt_id": "a", "node_errors": ERRORS}),
    "prompt with errors that are a list": ("prompt", refusing(node_errors=[1])),
    "prompt with errors that are a text": ("prompt", refusing(node_errors="no")),
    "prompt with errors of null": ("prompt", refusing(node_errors={"7": None})),
    "prompt with errors of numbers": ("prompt", refusing(node_errors={"7": {"errors": 5}})),
    "prompt with errors in errors": ("prompt", refusing(node_errors={"x": {"errors": [[], 1, {}]}})),
    "prompt with 10,000 errors": ("prompt", refusing(node_errors={"7": {"errors": [MISTAKE] * 10_000}})),
    "prompt with escapes": ("prompt", Raw(b'{"error": {"message": "\\u001b[2J\\u0007\\ud800"}}', 400)),
    "prompt with a long word": ("prompt", Raw(b'{"error": {"message": "' + b"x" * 10**6 + b'"}}', 400)),
    "history of null": ("history", lambda usual: dict.fromkeys(usual)),
    "history of a list": ("history", lambda usual: {key: [] for key in usual}),
    "history of a number": ("history", lambda usual: {key: 5 for key in usual}),
    "history of another run": ("history", {"unknown": {}}),
    "status is a list": ("history", of_run(status=[1])),
    "status is a text": ("history", of_run(status="success")),
    "status is an error": ("history", of_run(status={"status_str": "error"})),
    "messages are an object": ("history", of_run(status={"messages": {"a": 1}})),
    "messages are a text": ("history", of_run(status={"messages": "execution_error"})),
    "an error of null": ("history", failing(None)),
    "an error of a list": ("history", failing([1, 2])),
    "an error of nothing": ("history", failing({})),
    "an error of lists": ("history", failing({"node_id": [], "node_type": {}, "exception_message": [[]]})),
    "an error of numbers": ("history", failing({"node_id": 7, "node_type": 1, "exception_message": 10**400})),
    "an error with escapes": ("history", failing({"node_id": "7", "exception_message": ESCAPES})),
    "interrupted": ("history", of_run(status={"messages": [["execution_interrupted", None]]})),
    "outputs are null": ("history", of_run(outputs=None)),
    "outputs are a list": ("history", of_run(outputs=[{"images": []}])),
    "outputs are a number": ("history", of_run(outputs=5)),
    "no outputs": ("history", of_run(outputs={})),
    "a node's output is null": ("history", of_run(outputs={"7": None})),
    "a node's output is a list": ("history", of_run(outputs={"7": [{"filename": "x.png"}]})),
    "a node's output is a text": ("history", of_run(outputs={"7": "x.png"})),
    "images are null": ("history", of_run(outputs={"7": {"images": None}})),
    "images are an object": ("history", of_run(outputs={"7": {"images": {"filename": "x.png"}}})),
    "images are texts": ("history", of_run(outputs={"7": {"images": ["x.png"]}})),
    "texts are numbers": ("history", of_run(outputs={"7": {"text": [1, None, [], ""]}})),
    "a name is null": ("history", of_file(filename=None)),
    "a name is a number": ("history", of_file(filename=7)),
    "a name is a list": ("history", of_file(filename=["x.png"])),
    "a name is empty": ("history", of_file(filename="")),
    "a name is half a letter": ("history", of_file(filename="\ud800.png")),
    "a name holds NUL": ("history", of_file(filename="x\0.png")),
    "a name of 100,000 letters": ("history", of_file(filename="x" * 100_000)),
    "a folder is a list": ("history", of_file(subfolder=["x"])),
    "a folder is half a letter": ("history", of_file(subfolder="\udfff")),
    "a kind is a number": ("history", of_file(type=5)),
    "upload with a name of null": ("upload", {"name": None}),
    "upload with a name of a number": ("upload", {"name": 5}),
    "upload with an empty name": ("upload", {"name": ""}),
    "upload with a folder of a list": ("upload", {"name": "x.png", "subfolder": []}),
    "upload with half a letter": ("upload", {"name": "\ud800.png"}),
    "view of a text": ("view", Raw(b"bad picture")),
    "view, 404": ("view", Raw(b"", 404)),
}  # fmt: skip
# None of these is more than odd: the run comes to its end.
FINE = {
    "a file of every name": ("history", of_file(filename="../../x<>:|\u202e.png", subfolder="..")),
    "a file without a kind": ("history", of_file(type=None, subfolder=None)),
    "nodes that are no numbers": ("history", of_texts(**{"\u0667": {"text": ["x"]}, NUMBER: None, "": {}})),
    "outputs of other kinds": ("history", of_texts(**{"8": {"animated": [True], "a": 5, "b": [[{}], None]}})),
    "messages that are none": ("history", of_run(status={"messages": [None, 5, [], ["x"], [1, 2], "x"]})),
    "upload into a folder": ("upload", {"name": "x.png", "subfolder": "of/mine"}),
    "more than is asked for": ("prompt", refusing(more=[{}])),
}  # fmt: skip
HALF = "\udc00"
OWN = {"prompt_id": "THE RUN"}
MESSAGES = {
    "no JSON": ["", "{", "\x00", "5", "null", "[]", '"x"', DEEP.decode(), "9" * 5000],
    "no bytes of ours": [b"", b"\x00\x01", b"\xff" * 70_000],
    "no type": [{}, {"type": None}, {"type": 5, "data": OWN}, {"data": OWN}, {"type": [], "data": OWN}],
    "no data": [{"type": "progress"}, *({"type": "progress", "data": d} for d in (None, [], 5, "x"))],
    "strange ids": [{"type": "execution_error", "data": {"prompt_id": i}} for i in (None, [], {}, True, "x")],
    "strange nodes": [{"type": "executing", "data": {**OWN, "node": n}} for n in (None, [], {}, True, HALF)],
    "strange steps": [
        {"type": "progress", "data": {**OWN, "node": "2", "value": v, "max": m}}
        for v, m in ((None, None), ("1", "2"), ([], {}), (-1, -5), (1e308, 1e308), (math.inf, math.nan))
    ],
    "no steps": [{"type": "progress", "data": {**OWN, "node": "2"}}],
    "other runs' ends": [{"type": "execution_error", "data": {"prompt_id": "another"}}] * 50,
    "its end": [None],
    "its end, after a word": [{"type": "executing", "data": {**OWN, "node": "2"}}, None],
}  # fmt: skip


WS = {
    "answers 200": {},
    "answers HTML": Raw(HTML),
    "answers 404": Raw(status=404),
    "answers 500": Raw(HTML, 500),
    "goes elsewhere": Raw(status=302, headers={"Location": "/queue"}),
    "is closed": Close(),
    "says yes, but not how": Raw(status=101, headers={"Upgrade": "x", "Connection": "Upgrade"}),
}


def of_seed(spec):
    return {"input": {"required": {"seed": spec}}}


STRANGE_INFO = {
    "null": None,
    "a list": [],
    "a text": "x",
    "no input": {},
    "input null": {"input": None},
    "input a list": {"input": []},
    "groups null": {"input": {"required": None}},
    "groups a list": {"input": {"required": [["seed"]]}},
    "spec null": of_seed(None),
    "spec empty": of_seed([]),
    "spec a text": of_seed("INT"),
    "kind an object": of_seed([{"a": 1}]),
    "options null": of_seed(["INT", None]),
    "options a list": of_seed(["INT", [1]]),
    "bounds are texts": of_seed(["INT", {"min": "0", "max": []}]),
    "bounds are null": of_seed(["INT", {"min": None, "max": None}]),
    "choices are null": of_seed(["COMBO", {"options": None}]),
    "choices of lists": of_seed(["COMBO", {"options": [[1], {}, None, 1]}]),
}
