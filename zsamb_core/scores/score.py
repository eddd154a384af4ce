"""``zsamb score``: folders of pictures against each other, references and prompts.

The measures are those of StyleAligned and Z-SASLM. Needs no ComfyUI. What was embedded stays in
``OUT/embeddings``, so that a second run, or one after an interruption, embeds what is new alone. Each prompt
goes with its picture by file name, or by natural order, and never by a guess: with one pair wrong, a mean of
nine tells nothing. Imports are inside functions, so that a wrong argument is told at once.
"""

import argparse
from pathlib import Path

from ..console import FAILED, INTERRUPTED, WRONG, say
from ..packages import require_packages
from .embeddings import Embeddings, embed_sets, find_judge, identify, text_key
from .plan import Set, check, paired, pictures_in, read_plan, read_prompts
from .report import Entry, mean, table, write

MATRIX = 64  # pictures in a set whose pairs are listed one by one


def folders_as_sets(options: argparse.Namespace) -> list[Set]:
    sets: list[Set] = []
    prompts = read_prompts(options.prompts) if options.prompts else None
    for folder in options.images:
        item = Set(folder.resolve().name, pictures_in(folder), options.references, options.weights)
        item.name = str(folder) if any(s.name == item.name for s in sets) else item.name
        if prompts is not None:
            item.prompts = paired(item.images, prompts, str(folder))
        sets.append(check(item, bool(options.dino)))
    return sets


def score(item: Set, sets: list[Set], dino: Embeddings | None, clip: Embeddings | None) -> Entry:
    """All numbers of one set; what was not asked for is None, or an empty list."""
    from . import measures as scores

    entry: Entry = {"name": item.name, "group": item.group, "images": len(item.images)}
    entry |= {"references": [p.name for p in item.references], "weights": item.weights}
    entry |= {"baseline": item.baseline, "consistency": None, "similarity": [], "wms": None, "gains": []}
    entry |= {"correlation": None, "clip": None, "matrix": []}
    pictures: list[Entry] = [
        {"file": p.name, "prompt": None, "clip": None, "similarity": []} for p in item.images
    ]
    if dino:
        rows = dino.of([item.keys[p] for p in item.images])
        entry |= {"consistency": scores.set_consistency(rows)}
        if len(rows) <= MATRIX:
            entry["matrix"] = scores.cosines(rows, rows).tolist()
        if item.references:
            references = dino.of([item.keys[p] for p in item.references])
            entry["similarity"] = scores.similarities(rows, references)
            for picture, cosines in zip(pictures, scores.cosines(rows, references).tolist(), strict=True):
                picture["similarity"] = cosines
        if item.references and item.weights:
            entry["wms"] = scores.weighted_multi_style(entry["similarity"], item.weights)
        if item.baseline:
            (other,) = [s for s in sets if s.name == item.baseline]
            base = scores.similarities(dino.of([other.keys[p] for p in other.images]), references)
            weights = item.weights or [1.0] * len(base)
            balance = scores.balance(entry["similarity"], weights, base)
            entry |= {"gains": list(balance.gains), "correlation": balance.correlation}
    if clip and item.prompts:
        rows = scores.directions(clip.of([item.keys[p] for p in item.images]))
        texts = scores.directions(clip.of([text_key(text) for text in item.prompts]))
        for picture, prompt, cosine in zip(
            pictures, item.prompts, (rows * texts).sum(1).tolist(), strict=True
        ):
            read, count = clip.read(prompt)
            picture |= {"prompt": prompt, "clip": cosine, "tokens": count, "tokens_read": read}
            if read < count:
                print(
                    f"{item.name}: the prompt of {picture['file']} has {count} tokens, and the judge reads"
                    f" {read}: what is behind them is not scored."
                )
        entry["clip"] = mean([p["clip"] for p in pictures])
    return entry | {"pictures": pictures}


def score_sets(options: argparse.Namespace) -> list[Entry]:
    """Raises ValueError for anything the user can mend, before a model is loaded where that is possible."""
    if not options.dino and not options.clip:
        raise ValueError("There is no judge: give --dino or --clip, each a transformers folder, or demo.")
    if bool(options.plan) == bool(options.images):
        raise ValueError("Give either a plan, or --images with the folders of the sets.")
    if options.plan and (options.references or options.weights or options.prompts):
        raise ValueError("With a plan, references, weights and prompts are in the plan.")
    sets = read_plan(options.plan, bool(options.dino)) if options.plan else folders_as_sets(options)
    if options.clip and not any(s.prompts for s in sets):
        raise ValueError(
            "--clip compares pictures with prompts, and no set has any: give some with --prompts."
        )
    identify(sets)
    names = {"dino": options.dino, "clip": options.clip}
    judges = {role: find_judge(role, name) for role, name in names.items() if name}
    options.out.mkdir(parents=True, exist_ok=True)
    stores = {r: embed_sets(sets, judge, options.preprocessing, options.out) for r, judge in judges.items()}
    entries = []
    for item in sets:
        try:
            entries.append(score(item, sets, stores.get("dino"), stores.get("clip")))
        except ValueError as error:
            raise ValueError(f"{item.name}: {error}") from error
    models = {role: {"name": j.name, "sha256": j.digest} for role, j in judges.items()}
    write(entries, {"models": models, "preprocessing": options.preprocessing}, options.out)
    print("\n".join(table(entries)))
    return entries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Score folders of pictures: how alike the pictures of a set are, how like its references, and how"
        "\nwell they fit their prompts. Writes scores.csv, images.csv, scores.json and scores.png."
        "\nGive --dino or --clip, or both. Needs no ComfyUI. A second run embeds new pictures only."
    )
    parser.epilog = (
        "exit codes:\n  0    all done\n  1    a file cannot be written\n  2    an input is wrong\n"
        "  130  interrupted"
    )
    parser.add_argument(
        "plan", metavar="PLAN", type=Path, nargs="?", help="a JSON file that lists sets, instead of --images"
    )
    parser.add_argument(
        "--images", metavar="FOLDER", type=Path, nargs="+", default=[], help="one folder for each set"
    )
    parser.add_argument(
        "--references", metavar="FILE", type=Path, nargs="+", default=[], help="pictures that all sets follow"
    )
    parser.add_argument(
        "--weights", metavar="W", type=float, nargs="+", help="one for each reference, 1 in sum"
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        type=Path,
        help="a JSON object or list, a prompt on each line, or lines of file name, tab, prompt",
    )
    parser.add_argument("--dino", metavar="MODEL", help="a DINO or DINOv2 folder, or demo")
    parser.add_argument("--clip", metavar="MODEL", help="a CLIP folder, or demo")
    parser.add_argument(
        "--preprocessing",
        choices=("published", "own"),
        default="published",
        help="published (if not given): DINO sees pictures squashed to its square, CLIP as its authors do it;"
        " own: both as their authors do it",
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path("output/scores"),
        help="for the files; output/scores if not given",
    )


def main(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    try:
        require_packages("numpy", "torch", "transformers", "safetensors", "PIL")
        score_sets(options)
    except ValueError as error:
        say(f"zsamb score: {error}")
        return WRONG
    except OSError as error:
        say(f"stopped: {error}")  # a full disk, or a folder that cannot be written into
        return FAILED
    except KeyboardInterrupt:
        say("interrupted; what is embedded is kept, and the same command goes on from there")
        return INTERRUPTED
    return 0
