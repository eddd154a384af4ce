"""Manifests: rows as CSV and JSONL, and mistakes named before anything runs."""

import json
import ntpath
import os
import sys

import pytest
from PIL import Image

from zsamb_core import cli
from zsamb_core.headless.manifest import ManifestError, prepare_rows, read_manifest
from zsamb_core.headless.names import is_folder_name

WORKFLOW = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 1, "cfg": 5.0}, "_meta": {"title": "Sampler"}},
    "2": {"class_type": "PromptSet", "inputs": {"prompts": "a cat"}, "_meta": {"title": "Prompts"}},
    "3": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "Style"}},
}


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


def write(tmp_path, text, name="rows.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_text(text, encoding=encoding, newline="")
    return path


def test_both_kinds_say_the_same(tmp_path, picture):
    csv_file = write(
        tmp_path,
        'output,prompts,1.seed,image:Style\r\nfirst,"a cat, asleep\na dog",5,red.png\r\n\r\nsecond,,,\r\n',
        encoding="utf-8-sig",  # as spreadsheets write it
    )
    rows = [
        {"output": "first", "prompts": ["a cat, asleep", "a dog"], "1.seed": 5, "image:Style": "red.png"},
        {"output": "second"},
    ]
    jsonl = write(tmp_path, "\n\n".join(map(json.dumps, rows)) + "\n", "rows.jsonl")
    a, b = (prepare_rows(path, WORKFLOW, tmp_path / "out", [("cfg", "7")], {}) for path in (csv_file, jsonl))
    assert [j.fingerprint for j in a] == [j.fingerprint for j in b]
    assert a[0].workflow["2"]["inputs"]["prompts"] == "a cat, asleep\na dog"
    assert a[0].workflow["1"]["inputs"] == {"seed": 5, "cfg": 7} and a[0].pictures == {"3": picture}
    assert a[0].changed == [("1", "cfg"), ("2", "prompts"), ("1", "seed")]
    assert a[0].folder == tmp_path / "out" / "first"
    # An empty cell leaves what the workflow has.
    assert a[1].workflow["2"]["inputs"] == {"prompts": "a cat"} and a[1].pictures == {}
    assert a[1].place == "row 2 (line 5)" and b[1].place == "row 2 (line 3)"


def test_a_row_goes_before_the_command_line(tmp_path, picture):
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "blue.png")
    path = write(tmp_path, "output,seed,image:3\na,5,red.png\nb,,\n")
    common = {"Style": tmp_path / "blue.png"}
    a, b = prepare_rows(path, WORKFLOW, tmp_path, [("seed", "9")], common)
    assert (a.workflow["1"]["inputs"]["seed"], b.workflow["1"]["inputs"]["seed"]) == (5, 9)
    assert (a.pictures["3"].name, b.pictures["3"].name) == ("red.png", "blue.png")


def test_every_bad_row_is_named_and_none_is_run(tmp_path, picture):
    good = "\n".join(f"row{i},{i},red.png" for i in range(1, 7))
    bad = "row7,five,red.png\nrow8,8,absent.png\nrow9,9"
    path = write(tmp_path, f"output,seed,image:3\n{good}\n")
    assert len(prepare_rows(path, WORKFLOW, tmp_path, [], {})) == 6
    with pytest.raises(ManifestError, match=r"(?s)nothing was run.*row 9 \(line 10\): 2 cells, expected 3"):
        prepare_rows(write(tmp_path, f"output,seed,image:3\n{good}\n{bad}"), WORKFLOW, tmp_path, [], {})
    two = write(tmp_path, f"output,seed,image:3\n{good}\n{bad},red.png")
    with pytest.raises(ManifestError) as error:
        prepare_rows(two, WORKFLOW, tmp_path, [], {})
    _, seventh, eighth = str(error.value).splitlines()
    assert seventh == "row 7 (line 8): seed is 'five', expected a number such as 1."
    assert eighth.startswith("row 8 (line 9): picture ") and "absent.png: not a picture file" in eighth


@pytest.mark.parametrize(
    "text, message",
    [
        ("name,seed\na,1\n", "columns .'name', 'seed'., expected one named 'output'"),
        ("output;seed\na;1\n", "expected one named 'output' among them, with commas"),
        ("output,seed,seed\na,1,2\n", "columns .'seed'.; each needs a name of its own"),
        ("output,\na,1\n", "2 cells, expected 1 as in the first line"),
        ("output,seed\n", "no rows in it"),
        ("", "expected one named 'output'"),
        ("output,\na,\n", None),
        ("output,,seed\na,,1\n", "columns without a name"),
        ("output,seed\n,1\n", r"row 1 \(line 2\): output is None"),
        ("output,seed\na,1\nA,2\n", r"row 2 \(line 3\): output is 'A', as in row 1 \(line 2\)"),
        ("output\na\u0301\n\xc1\n", r"row 2 \(line 3\): output is '\xc1', as in row 1"),
        ('output,prompts\na,"b\n', "cannot be read"),
    ],
)
def test_tables_that_are_not_manifests(tmp_path, text, message):
    path = write(tmp_path, text)
    if message is None:
        assert len(read_manifest(path)) == 1
        return
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


@pytest.mark.parametrize(
    "line, message",
    [
        ("{", r"row 2 \(line 2\): not JSON"),
        ("[1]", "not an object"),
        ('{"output": "b", "seed": 1, "seed": 2}', "a name stands twice"),
        ('{"output": 5}', "output is 5, expected a name"),
        ('{"output": "b", "image:3": ["x.png"]}', "expected a picture file"),
        ('{"output": "b", "seed": ' + "[" * 900 + "]" * 900 + "}", "nested more than 200 levels deep"),
        ('{"output": "b", "seed": ' + "[" * 99999 + "]" * 99999 + "}", "nested more than 200 levels deep"),
        ('{"output": "b", "seed": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_lines_that_are_not_rows(tmp_path, line, message):
    with pytest.raises(ManifestError, match=message):
        read_manifest(write(tmp_path, f'{{"output": "a"}}\n{line}\n', "rows.jsonl"))


BAD = ["../up", "a/b", "a\\b", ".hidden", "..", "a:b", "a.", " a", "a ", "a\tb", "a\0b", "a\ud800", "?"]
KEPT_BY_WINDOWS = [
    "nul",
    "COM1.x",
    "com\xb9",
    "LPT\xb3.png",
    "CONIN$",
    "conout$.txt",
    "con .txt",
    "Aux  .a.b",
]
GOOD = [
    "common",
    "com",
    "com10",
    "conin",
    "nul1",
    "\u9ce5 \u732b",
    "caf\xe9",
    "e\u0301t\xe9",
    "\U0001f408",
    "a.b",
]


@pytest.mark.parametrize("name", [*BAD, *KEPT_BY_WINDOWS])
def test_outputs_stay_in_their_folder(tmp_path, name):
    line = json.dumps({"output": name})
    with pytest.raises(ManifestError, match="expected a folder name"):
        read_manifest(write(tmp_path, line, "rows.jsonl"))


def test_names_of_every_script_are_taken():
    assert all(map(is_folder_name, GOOD)) and not any(map(is_folder_name, ["", *BAD, *KEPT_BY_WINDOWS]))


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python says so itself from 3.13 on")
def test_what_windows_keeps_is_what_python_says():
    for name in [*BAD, *KEPT_BY_WINDOWS, *GOOD, *(f"{d}{i}" for d in ("com", "LPT") for i in range(20))]:
        assert not (ntpath.isreserved(name) and is_folder_name(name)), name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_manifests_in_the_encodings_that_files_come_in(tmp_path, encoding, kind):
    text = 'output,prompts\n\u732b,"\u043a\u043e\u0442, caf\xe9"\n'
    if kind == "jsonl":
        row = {"output": "\u732b", "prompts": "\u043a\u043e\u0442, caf\xe9"}
        text = json.dumps(row, ensure_ascii=False)
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    (job,) = prepare_rows(write(tmp_path, mark + text, f"rows.{kind}", encoding), WORKFLOW, tmp_path, [], {})
    assert job.name == "\u732b" and job.folder == tmp_path / "\u732b"
    assert job.workflow["2"]["inputs"]["prompts"] == "\u043a\u043e\u0442, caf\xe9"


def test_rows_and_columns_of_empty_cells_are_not_there(tmp_path, picture):
    """As spreadsheets write them behind a table."""
    path = write(tmp_path, "output,seed,image:3,,\na,5,red.png,,\n,,,,\n , ,,,\n\nb,,,,\n,,,,\n")
    a, b = read_manifest(path)
    assert (a.output, a.values, b.output, b.values) == ("a", {"seed": "5"}, "b", {})
    assert b.place == "row 2 (line 6)"
    with pytest.raises(ManifestError, match=r"row 1 \(line 2\): output is None"):
        read_manifest(write(tmp_path, "output,seed\n,5\n"))
    with pytest.raises(ManifestError, match="no rows in it"):
        read_manifest(write(tmp_path, "output,seed\n,\n,\n"))


def test_pictures_that_are_none_are_named(tmp_path):
    """None is waited for, and none ends the command otherwise than by a message."""
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "huge.png")
    names = [
        "folder.png",
        "empty.png",
        "cut.png",
        "huge.png",
        "absent.png",
        "\ud800.png",
        "a\0.png",
        "n" * 300,
    ]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        names.append("pipe.png")
    rows = [{"output": f"row{i}", "image:3": name} for i, name in enumerate(names)]
    path = write(tmp_path, "\n".join(map(json.dumps, rows)), "rows.jsonl")
    with pytest.raises(ManifestError) as error:
        prepare_rows(path, WORKFLOW, tmp_path, [], {})
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == len(names) and all("not a picture file that can be read (" in line for line in lines)
    assert "exceeds limit" in lines[3] and "make it smaller" in lines[3]
    assert "a folder, a pipe or a device" in lines[0] and "a folder, a pipe or a device" in lines[-1]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"seed": 10**4000}, r"seed is 10+ \.\.\. 0+, expected a number such as 1"),
        ({"seed": "9" * 4000}, r"seed is '9+ \.\.\. 9+', expected a number such as 1"),
        ({"seed": "9" * 5000}, "expected a number such as 1"),
        ({"seed": 2**64}, "expected a number such as 1"),
        ({"seed": -(2**64)}, "expected a number such as 1"),
        ({"prompts": "a \ud83d cat"}, r"prompts is 'a \\ud83d cat': half of a character, expected text"),
        ({"prompts": ["a cat", "\udc08"]}, "half of a character"),
        ({"Prompts\ud800.seed": 1}, "no node of the workflow has the id or title"),
    ],
)
def test_values_that_no_server_takes(tmp_path, values, message):
    path = write(tmp_path, json.dumps({"output": "a", **values}), "rows.jsonl")
    with pytest.raises(ManifestError, match=message):
        prepare_rows(path, WORKFLOW, tmp_path, [], {})


def test_a_seed_of_64_bits_is_taken(tmp_path):
    path = write(tmp_path, f"output,seed\na,{2**64 - 1}\n")
    (job,) = prepare_rows(path, WORKFLOW, tmp_path, [], {})
    assert job.workflow["1"]["inputs"]["seed"] == 2**64 - 1


def test_other_files_are_no_manifests(tmp_path):
    with pytest.raises(ManifestError, match="a .csv or a .jsonl file"):
        read_manifest(write(tmp_path, "output\na", "rows.txt"))
    with pytest.raises(ManifestError, match="absent.csv: cannot be read"):
        read_manifest(tmp_path / "absent.csv")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(write(tmp_path, "output\n\u00e9", encoding="latin-1"))


@pytest.mark.parametrize(
    "extra, message",
    [
        (["--set", "sede=1"], "no node of the workflow has an input of this name. Did you mean 'seed'"),
        (["--set", "seed"], "--set 'seed': expected INPUT=VALUE"),
        (["--image", "9=red.png"], "no node of the workflow has this id or title"),
        (["--image", "Style=absent.png"], "absent.png: not a picture file"),
        (["--image", "Style=w.json"], "w.json: not a picture file"),
        (["--server", "127.0.0.1:8188"], "not an address, expected one such as http://127.0.0.1:8188"),
        (["--server", "http://me:s3cret@host:port"], "server 'http://host:port': not an address"),
        (["--server", "http://a", "--server", "http://a/"], "http://a is given twice"),
        (["--out", "w.json"], "is a file, expected a folder"),
        (["--manifest", "rows.txt"], "a .csv or a .jsonl file"),
    ],
)
def test_the_command_refuses_wrong_inputs_without_a_server(tmp_path, monkeypatch, capsys, extra, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.json").write_text(json.dumps(WORKFLOW))
    code = cli.main(["run", "w.json", *extra])
    console = capsys.readouterr()
    assert code == 2 and message in console.err and "s3cret" not in console.err and console.out == ""
