"""Style scores: how alike a set is, how like its references, and how like its prompts."""

import json
from typing import Any

import numpy as np
import PIL.Image
import torch
from comfy_api.latest import io, ui

from ..zsamb_core.scores.judge import OWN, PUBLISHED
from ..zsamb_core.scores.measures import (
    balance,
    cosines,
    set_consistency,
    similarities,
    to_others,
    weighted_multi_style,
)
from ..zsamb_core.scores.picture import bars, matrix, stacked
from ..zsamb_core.style_aligned.blend import counted
from ._common import CATEGORY, VISION_MODEL, fingerprint_of, naming, place, problem_of, weight_rows
from ._host.folders import TRANSFORMERS, register
from ._host.scores.judges import SOURCE, Judge, embed, embed_texts, folder_of, listed, load_judge
from ._host.types import Image

register(TRANSFORMERS, ())
MATRIX = 256


def preprocessing_input(default: str, tooltip: str) -> io.Input:
    return io.Combo.Input(
        "preprocessing", options=[PUBLISHED, OWN], default=default, advanced=True, tooltip=tooltip
    )


class LoadVisionModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_LoadVisionModel",
            display_name="Load Vision Model",
            category=CATEGORY,
            description=(
                "A DINO, DINOv2 or CLIP that judges pictures, from a transformers folder with safetensors, or"
                " the small ones of the demo."
            ),
            search_aliases=["DINO", "DINOv2", "CLIP score", "Z-SAMB"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=listed(),
                    default=SOURCE.kind.example,
                    tooltip=(
                        "A folder under models/transformers, for example facebook/dino-vitb8 from Hugging"
                        " Face, or the demo's own, which know drawn pictures only."
                    ),
                )
            ],
            outputs=[VISION_MODEL.Output(display_name="vision_model")],
        )

    @classmethod
    def validate_inputs(cls, name: Any) -> bool | str:
        return problem_of(folder_of, name, "Load Vision Model")

    @classmethod
    def execute(cls, name: Any) -> io.NodeOutput:
        node = "Load Vision Model"
        with naming(node):
            return io.NodeOutput(load_judge(name, node))

    @classmethod
    def fingerprint_inputs(cls, name: Any) -> Any:
        return fingerprint_of(folder_of, name, "Load Vision Model")


class DINOStyleScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_DINOStyleScore",
            display_name="DINO Style Score",
            category=CATEGORY,
            description=(
                "How alike a set of pictures is, how like its references, and how well each reference's"
                " weight shows: mean cosines of DINO's CLS features."
            ),
            search_aliases=["style consistency", "style similarity", "WMS", "Z-SASLM", "Z-SAMB"],
            inputs=[
                VISION_MODEL.Input("vision_model", tooltip="From Load Vision Model: a DINO, DINOv2 or CLIP."),
                io.Image.Input("images", tooltip="The set, two pictures at least."),
                io.Autogrow.Input(
                    "references",
                    template=io.Autogrow.TemplatePrefix(
                        io.Image.Input(
                            "reference", optional=True, tooltip="One reference picture, or a batch."
                        ),
                        prefix="reference",
                        min=0,
                        max=16,
                    ),
                    optional=True,
                    tooltip="The style references. Another input appears with each that is connected.",
                ),
                io.String.Input(
                    "weights",
                    default="1",
                    tooltip="The references' weights, in order: 0.7, 0.3. One number alone: all the same.",
                ),
                preprocessing_input(
                    PUBLISHED,
                    "published (squash): the whole picture squashed to the model's square, as in the"
                    " published evaluations. the model's own: as its authors do, often scaled and cut.",
                ),
                io.Image.Input(
                    "baseline",
                    optional=True,
                    tooltip=(
                        "The same set drawn without references. What each similarity gains over it is the"
                        " balance report: the weighted sum alone rewards the reference that is easier to be"
                        " like."
                    ),
                ),
            ],
            outputs=[
                io.Float.Output(display_name="consistency", tooltip="Mean cosine over all pairs of the set."),
                io.Float.Output(
                    display_name="weighted",
                    tooltip="Weighted Multi-Style: similarities by weight; 0 without.",
                ),
                io.String.Output(display_name="json", tooltip="All numbers."),
                io.Image.Output(display_name="picture", tooltip="Similarity matrix, and bars per reference."),
            ],
        )

    @classmethod
    def execute(
        cls,
        vision_model: Judge,
        images: Image,
        weights: str,
        preprocessing: str,
        references: Any = None,
        baseline: Any = None,
    ) -> io.NodeOutput:
        node = "DINO Style Score"
        with naming(node):
            if len(images) < 2:
                raise ValueError(f"images holds {len(images)} picture, expected a set of two at least")
            named_references = sorted((references or {}).items(), key=lambda i: place(i[0]))
            by_input = {name: value for name, value in named_references if value is not None}
            shares = weigh(weights, sum(map(len, by_input.values())))
            sizes = [len(images), len(shares), 0 if baseline is None else len(baseline)]
            base = {} if baseline is None else {"baseline": baseline}
            embeds = embed(vision_model, {"images": images, **by_input, **base}, preprocessing)
            of_set, of_references, of_baseline = embeds.split(sizes)
            report, picture = scored(of_set, of_references, of_baseline, shares)
        report = {"model": vision_model.name, "preprocessing": preprocessing, **report}
        weighted = report.get("weighted_multi_style", 0.0)
        shown = as_image(picture)
        text = json.dumps(report, ensure_ascii=False)
        return io.NodeOutput(report["consistency"], weighted, text, shown, ui=preview(shown, text))


def weigh(text: str, count: int) -> list[float]:
    """The references' shares. Raises ValueError for other than ``count`` weights, or several lines."""
    if not count:
        return []
    rows = weight_rows(text, count, "DINO Style Score")
    if len(rows) > 1:
        raise ValueError(f"weights has {len(rows)} lines, expected one")
    return counted(rows[0], count)


def scored(
    images: torch.Tensor, references: torch.Tensor, baseline: torch.Tensor, shares: list[float]
) -> tuple[dict[str, Any], PIL.Image.Image]:
    """(numbers, picture) from the embeddings of set, references and baseline, the latter two maybe empty."""
    report: dict[str, Any] = {
        "images": len(images),
        "consistency": set_consistency(images),
        "to_others": to_others(images),
    }
    # Of large sets the matrix shows the first pictures: it grows with their square.
    first = images[:MATRIX]
    names = [f"{i + 1}" for i in range(len(first))]
    title = f"set of {len(images)}, consistency {report['consistency']:.3f}"
    pictures = [matrix(cosines(first, first), names, names, title)]
    if shares:
        likeness = similarities(images, references)
        report |= {
            "weights": shares,
            "similarities": likeness,
            "weighted_multi_style": weighted_multi_style(likeness, shares),
        }
        labels = [f"reference {i + 1} ({w:.2f})" for i, w in enumerate(shares)]
        title = f"similarity to references (weight), weighted {report['weighted_multi_style']:.3f}"
        pictures.append(bars(likeness, labels, title))
        if len(baseline):
            base = similarities(baseline, references)
            balanced = balance(likeness, shares, base)
            report |= {"baseline": base, "gains": balanced.gains, "correlation": balanced.correlation}
            correlation = "none" if balanced.correlation is None else f"{balanced.correlation:.2f}"
            pictures.append(
                bars(balanced.gains, labels, f"gain over the baseline, correlation with weight {correlation}")
            )
    return report, stacked(pictures)


def as_image(picture: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture, np.float32) / 255)[None]


def preview(picture: torch.Tensor, text: str) -> dict:
    """What the node shows; the numbers, too, for clients without an interface, which get no outputs."""
    return {**ui.PreviewImage(picture).as_dict(), "text": (text,)}


class CLIPScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_CLIPScore",
            display_name="CLIP Score",
            category=CATEGORY,
            description="How well each picture shows what its own prompt says: CLIP's cosine of the two.",
            search_aliases=["text alignment", "CLIPScore", "prompt fidelity", "Z-SAMB"],
            inputs=[
                VISION_MODEL.Input("vision_model", tooltip="A CLIP, from Load Vision Model."),
                io.Image.Input("images", tooltip="The pictures to score."),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    tooltip="One prompt per line, in the pictures' order; or one for all.",
                ),
                # CLIP's published numbers were made so: the evaluations squash for DINO alone.
                preprocessing_input(
                    OWN,
                    "the model's own: scaled and cut to the middle square, as the published CLIP numbers were"
                    " made. published (squash): the whole picture squashed to the square, as they were made"
                    " for DINO.",
                ),
            ],
            outputs=[
                io.Float.Output(display_name="mean", tooltip="The mean cosine."),
                io.String.Output(display_name="json", tooltip="Every picture's cosine."),
                io.Image.Output(display_name="picture", tooltip="A bar for each picture."),
            ],
        )

    @classmethod
    def execute(cls, vision_model: Judge, images: Image, prompts: str, preprocessing: str) -> io.NodeOutput:
        node = "CLIP Score"
        with naming(node):
            lines = [line.strip() for line in prompts.splitlines() if line.strip()]
            if len(lines) not in (1, len(images)):
                raise ValueError(
                    f"prompts has {len(lines)} lines for {len(images)} images, expected one each, or one for"
                    " all"
                )
            texts, cut = embed_texts(vision_model, lines, node)
            similarity = cosines(embed(vision_model, {"images": images}, preprocessing), texts)
        own = similarity[:, 0] if len(lines) == 1 else similarity.diagonal()
        report: dict[str, Any] = {
            "model": vision_model.name,
            "preprocessing": preprocessing,
            "mean": float(own.mean()),
            "cosines": own.tolist(),
            "prompts": lines * (len(images) // len(lines)),
            "cut": cut,
        }
        labels = [f"{i + 1}: {prompt[:40]}" for i, prompt in enumerate(report["prompts"])]
        title = f"cosine to the prompt, mean {report['mean']:.3f}"
        title += f"; {len(cut)} prompts read in part" if cut else ""
        picture = bars(report["cosines"], labels, title)
        shown = as_image(picture)
        text = json.dumps(report, ensure_ascii=False)
        return io.NodeOutput(report["mean"], text, shown, ui=preview(shown, text))


NODES = [LoadVisionModel, DINOStyleScore, CLIPScore]
