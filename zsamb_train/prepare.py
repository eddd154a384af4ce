"""``zsamb prepare``: encode a set once, into shards with VAE latents and image embeddings.

The encoders nearly double a training step. Texts are left as they are: their encodings would be larger than
all else. A run that was stopped goes on; what was not yet in a shard is encoded again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsamb_core.console import FAILED, INTERRUPTED, WRONG, say
from zsamb_core.packages import require_packages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .data.sample import Sample, Source
    from .data.shard_writer import ShardWriter
    from .host import Host

SAY_EVERY = 20.0  # seconds
RECORD = "prepared.json"

DESCRIPTION = """Encode a set of pictures once: latents of the VAE and embeddings of the image encoder, in
.tar shards that `zsamb train` reads in place of the pictures. The same command again goes on where it
stopped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("data", metavar="DATA", type=Path, help="pictures, as zsamb train reads them")
    parser.add_argument("output", metavar="FOLDER", type=Path, help="for the shards")
    parser.add_argument("--pictures", metavar="FOLDER", type=Path, help="where the files of a JSON list lie")
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="an SDXL checkpoint, or demo")
    parser.add_argument("--clip-vision", metavar="FILE", type=Path, help="the image encoder's file")
    parser.add_argument("--resolution", metavar="PX", type=int, default=512, help="512 if not given")
    parser.add_argument("--per-shard", metavar="N", type=int, default=1000, help="pictures in a .tar")
    parser.add_argument("--batch", metavar="N", type=int, default=8, help="pictures encoded at once")
    parser.add_argument("--keep-pictures", action="store_true", help="in the shards too, for --pairs crop")


def main(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    try:
        require_packages("torch", "safetensors", "PIL")
        prepare(options)
    except (ValueError, RuntimeError) as error:
        say(f"zsamb prepare: {error}")
        return WRONG
    except OSError as error:
        say(f"stopped: {error}")  # a full disk, or a folder that cannot be written into
        return FAILED
    except KeyboardInterrupt:
        say("interrupted; whole shards are kept, and the same command goes on from there")
        return INTERRUPTED
    return 0


def prepare(options: argparse.Namespace) -> None:
    """Raises ValueError for anything the user can mend, before a model is loaded."""
    from .data.shard_writer import ShardWriter
    from .data.source import open_source
    from .host import DEMO, load_host

    for name in ("resolution", "per_shard", "batch"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}, expected 1 or more")
    if options.checkpoint != DEMO and options.clip_vision is None:
        raise ValueError("--clip-vision is missing: give the file of the image encoder to train with")
    source = open_source(options.data, options.pictures)
    if not source.pictured:
        raise ValueError(f"{options.data} has no pictures, only what was prepared from them")
    for line in [*(f"left out: {one}" for one in source.skipped), *source.notes]:
        say(line)
    remember(options, source)
    host = load_host(options.checkpoint, options.clip_vision, half=False)
    with ShardWriter(options.output, options.per_shard) as writer:
        encode_all(options, host, source, writer)


def remember(options: argparse.Namespace, source: "Source") -> None:
    """Raises ValueError where the folder's shards were made from other data or with other settings."""
    now = {
        "digest": source.digest, "checkpoint": str(options.checkpoint), "resolution": options.resolution,
        "clip_vision": str(options.clip_vision), "keep_pictures": options.keep_pictures,
    }  # fmt: skip
    place = options.output / RECORD
    if place.is_file() and json.loads(place.read_text(encoding="utf-8")) != now:
        raise ValueError(
            f"{options.output} holds shards of other pictures, or made with other settings (see {RECORD})."
            " Give another folder, or the settings that it was begun with."
        )
    options.output.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")


def encode_all(options: argparse.Namespace, host: "Host", source: "Source", writer: "ShardWriter") -> None:
    """In the order of the set, pictures of one bucket at once. One that is broken is named and left out."""
    from .data.buckets import buckets, nearest

    sides = buckets(options.resolution, min(64, options.resolution))
    kinds = nearest(source.sizes, sides)
    keys = [f"{i:08d}" for i in range(len(source))]
    waiting: dict[int, list[tuple[int, Sample]]] = {}
    start, told, done = time.monotonic(), 0.0, 0
    for i, sample in readable(source, [i for i, key in enumerate(keys) if not writer.done(key)]):
        waiting.setdefault(int(kinds[i]), []).append((i, sample))
        if len(waiting[int(kinds[i])]) < options.batch:
            continue
        part = waiting.pop(int(kinds[i]))
        write_part(options, host, source, writer, part, sides[kinds[i]])
        done += len(part)
        if time.monotonic() - told > SAY_EVERY:
            told = time.monotonic()
            say(f"{done} pictures encoded, {done / (told - start):.1f} a second")
    for kind, part in waiting.items():
        write_part(options, host, source, writer, part, sides[kind])
        done += len(part)
    say(f"{done} pictures encoded into {options.output}")


def readable(source: "Source", numbers: list[int]) -> "Iterator[tuple[int, Sample]]":
    for i in numbers:
        try:
            yield i, source.read(i, latent=False)
        except ValueError as error:
            say(f"left out: {error}")


def write_part(
    options: argparse.Namespace, host: "Host", source: "Source", writer: "ShardWriter",
    part: "list[tuple[int, Sample]]", side: tuple[int, int],
) -> None:  # fmt: skip
    import torch

    from .batch import features_of
    from .data.buckets import fit

    fitted = [fit(sample.picture, side) for _, sample in part if sample.picture is not None]
    latents = host.encode_latents(torch.stack([pixels for pixels, _ in fitted]))
    embeds = features_of(host, "base", [sample for _, sample in part])
    for (i, sample), latent, embed, (_, crop) in zip(part, latents, embeds, fitted, strict=True):
        writer.add(
            f"{i:08d}", fields(sample, group_of(source, i), latent, embed, crop, options.keep_pictures)
        )


def group_of(source: "Source", i: int) -> str | None:
    return source.group_names[source.groups[i]] if source.groups[i] >= 0 else None


def fields(
    sample: "Sample", group: str | None, latent: Any, embed: Any, crop: tuple[int, int], picture: bool
) -> dict[str, bytes]:
    """A sample's members in a shard, by what comes behind the dot."""
    import io

    from .data.shard_writer import array_bytes

    width, height = sample.size
    said = {"text": sample.caption, "width": width, "height": height, "crop": list(crop)}
    if group is not None:
        said["group"] = group
    out = {"json": json.dumps(said).encode()}
    out |= {"latent.npy": array_bytes(latent.numpy()), "embed.npy": array_bytes(embed.numpy())}
    if picture and sample.picture is not None:
        data = io.BytesIO()
        sample.picture.save(data, "JPEG", quality=95)
        out["jpg"] = data.getvalue()
    return out
