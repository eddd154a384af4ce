"""Pickles of tensors that ask for much, written by hand: what each file holds, and what is said of it."""

import io
import pickle
import struct
import zipfile

MAGIC = 0x1950A86A20F9469CFC6C
BIG = 3_000_000_000
FOREIGN, STEPS = "besides tensors", "more than 1,000,000 instructions"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def called(name: str, *args: bytes) -> bytes:
    return b"c" + name.encode() + b"\n(" + b"".join(args) + b"tR"


def tensor(shape, stride, count=1, older=False, function="_rebuild_tensor_v2") -> bytes:
    kind = b"ctorch\nFloatStorage\n"
    storage = b"(" + text("storage") + kind + text("0") + text("cpu") + number(count)
    storage += (b"N" if older else b"") + b"tQ"
    sizes = (b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (shape, stride))
    return called(f"torch._utils\n{function}", storage, number(0), *sizes, b"\x89", b"}")


def holding(value: bytes, name="image_proj.proj.weight") -> bytes:
    return b"\x80\x02}" + text(name) + value + b"s."


def zipped(pickled: bytes, data=bytes(4), packed=False, data_packed=False, more=()) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickled, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
        how = zipfile.ZIP_DEFLATED if data_packed else zipfile.ZIP_STORED
        archive.writestr("archive/data/0", data, how)
        for name in more:
            archive.writestr(name, b"")
    return stream.getvalue()


def older(pickled: bytes, keys=(), data=b"") -> bytes:
    parts = (MAGIC, 1001, {"protocol_version": 1001, "little_endian": True})
    head = b"".join(pickle.dumps(part, 2) for part in parts)
    return head + pickled + pickle.dumps(list(keys), 2) + data


def saved(tree) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(tree, stream)
    return stream.getvalue()


def nested(levels: int, keys: int):
    import torch

    tree = {"weight": torch.ones(1)}
    for level in range(levels):
        tree = {f"{level}.{key}": tree for key in range(keys)}
    return tree


def with_another_list(content: bytes) -> bytes:
    """A second list of files behind the first, which PyTorch finds and Python does not, or the reverse."""
    return content[:-22] + content


def calling(name: str) -> bytes:
    """A function that would make three thousand million of something."""
    return holding(called(name, number(BIG)))


def small() -> bytes:
    return zipped(holding(tensor([1], [1])))


TOWER = b"\x80\x02}K\x01\x85q\x00" + b"h\x00\x86q\x00" * 60 + b"Ns."
PAIRS = b"](" + b"K\x01K\x02\x86" * 20_000 + b"eq\x00"
ORDERED = b"ccollections\nOrderedDict\nh\x00\x85R"
ENCODED = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
NEW = b"ctorch\nTensor\n" + number(BIG) + b"\x85\x81"
PICKLES = {
    "bytearray": (lambda: zipped(calling("__builtin__\nbytearray")), FOREIGN),
    "older bytearray": (lambda: older(calling("__builtin__\nbytearray")), FOREIGN),
    "bytearray of Python 3": (lambda: zipped(calling("builtins\nbytearray")), FOREIGN),
    "storage": (lambda: zipped(calling("torch.storage\nUntypedStorage")), FOREIGN),
    "tensor of a size": (lambda: zipped(calling("torch\nTensor")), FOREIGN),
    "new tensor of a size": (lambda: zipped(holding(NEW)), FOREIGN),
    "quantised": (lambda: zipped(calling("torch._utils\n_rebuild_qtensor")), FOREIGN),
    "packed pickle": (
        lambda: zipped(b"\x80\x02" + bytes(1_000_000_000), packed=True), "16 MB beside the tensors",
    ),
    "packed data": (
        lambda: zipped(holding(tensor([10**6], [1], 10**6)), bytes(4 * 10**6), data_packed=True),
        "damaged .compressed",
    ),
    "long pickle": (lambda: zipped(b"\x80\x02](" + b"]" * 6_000_000 + b"e."), STEPS),
    "the same dicts": (lambda: saved(nested(4, 3000)), "more than 100,000 names"),
    "deep dicts": (lambda: zipped(b"\x80\x02" + b"}" * 500_000 + b"."), "damaged .it ends in the middle"),
    "tower of tuples": (lambda: zipped(TOWER), FOREIGN),
    "the same list": (lambda: zipped(b"\x80\x02](" + PAIRS + ORDERED * 99_999 + b"e."), STEPS),
    "the same text": (
        lambda: zipped(b"\x80\x02](" + text("x" * 10**6) + b"q\x00" + ENCODED * 9_999 + b"e."), STEPS,
    ),
    "older data without bytes": (
        lambda: older(holding(tensor([1], [1], BIG, older=True)), ["0"], bytes(12)), "larger than the file",
    ),
    "older tensor past its data": (
        lambda: older(holding(tensor([BIG], [1], 1, older=True)), ["0"], struct.pack("<q4x", 1)),
        "larger than its data",
    ),
    "tensor past its data": (lambda: zipped(holding(tensor([BIG], [1], BIG))), "larger than its data"),
    "stride past its data": (lambda: zipped(holding(tensor([2, 1], [BIG, 1]))), "larger than its data"),
    "two of one name": (
        lambda: zipped(holding(tensor([1], [1])), more=["archive/DATA.pkl"]), "damaged .two files of",
    ),
    "two lists of files": (lambda: with_another_list(small()), "damaged .no list of files"),
    "more behind it": (lambda: small() + b"PK", "damaged .no list of files"),
    "many files": (
        lambda: zipped(holding(tensor([1], [1])), more=[str(i) for i in range(100_001)]), "a zip of 100,005",
    ),
    "a long name": (lambda: zipped(holding(tensor([1], [1]), "x" * 3_000_000)), "a name of 3,000,000"),
    "code of a long name": (lambda: zipped(calling("os\n" + "x" * 3_000_000)), FOREIGN),
}  # fmt: skip
