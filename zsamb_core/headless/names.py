"""Names of files and folders: those that every system takes, and those made of a node's title."""

import re
import unicodedata
from pathlib import PurePosixPath

from ..texts import has_half, without_unfit

# Windows allows neither these characters nor these names, whatever comes behind a dot or blanks.
BAD_CHARACTERS = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
BAD_NAMES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{device}{i}" for device in ("com", "lpt") for i in "123456789\xb9\xb2\xb3"
}
LABEL = 80  # bytes of a title or prefix in a file's name


def is_folder_name(name: str) -> bool:
    """Whether the name stays in its folder and every system takes it."""
    return not (
        not name
        or BAD_CHARACTERS.search(name)
        or has_half(name)
        or name != name.strip(" ")
        or name.startswith(".")
        or name.endswith(".")
        or name.partition(".")[0].rstrip(" ").lower() in BAD_NAMES
    )


def same_as(name: str) -> str:
    """A key that two names share where a file system takes them for one: letters' case, and accents written
    as one character or two.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def sent_name(name: str) -> str:
    """A file's name as a server, whatever its system, takes it and finds it again."""
    name = "".join("_" if BAD_CHARACTERS.match(c) or c == "\x7f" or has_half(c) else c for c in name)
    # ComfyUI reads these as the name of a folder.
    return re.sub(r"\[(input|output|temp)\]$", r"(\1)", name)


def label(text: str) -> str:
    """A title or prefix as a part of a file's name: no blanks, no dots, not long."""
    words = without_unfit(unicodedata.normalize("NFC", text))
    words = re.sub(r"""[\s<>:"'`/\\|?*.,;&$!(){}\[\]#%~^=-]+""", "-", words)
    return words.encode()[:LABEL].decode(errors="ignore").strip("-_")


def suffix(name: str) -> str:
    """A file's ending in small letters, or none where it is no plain one."""
    ending = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    return ending if re.fullmatch(r"\.[a-z0-9][a-z0-9_+-]{0,15}", ending) else ""


def prefix(name: str) -> str:
    """The part of a saved file's name before the number that ComfyUI gives it: of cat_00001_.png, cat."""
    return re.sub(r"_\d+_?$", "", PurePosixPath(name.replace("\\", "/")).stem)
