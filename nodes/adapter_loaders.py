"""Load an IP-Adapter, alone or with the image encoder that it is made for."""

import logging
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..zsamb_core.instantstyle.adapter_file import EXTENSIONS, Adapter, open_adapter, written_about
from ..zsamb_core.instantstyle.encoder_file import encoder_in, nothing_fits, that_fit
from ..zsamb_core.instantstyle.style_embeds import Encoder, refuse_pairing, wanted
from ._common import AUTO, CATEGORY, IP_ADAPTERS, STYLE_ADAPTER, fingerprint_of, naming
from ._host.demo_model import demo_adapter, demo_encoder, load_demo_clip_vision
from ._host.folders import files, find, places, register
from ._host.instantstyle.vision import encoder_of, load_encoder
from ._host.types import ClipVision

DEMO, DEMO_ENCODER = "demo IP-Adapter", "demo image encoder"
ENCODERS = "clip_vision"  # the host's folder type
BOTH = "Load IP-Adapter and Encoder"
register(IP_ADAPTERS, EXTENSIONS, saved=True)


class LoadIPAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_LoadIPAdapter",
            display_name="Load IP-Adapter",
            category=CATEGORY,
            description=(
                "An IP-Adapter for SDXL or SD1.5, base or plus, whatever its name. Tells which image encoder"
                " it is made for. Its weights are read when they are used, and only those that are."
            ),
            search_aliases=["IPAdapter", "IPAdapter model loader", "InstantStyle", "Z-SAMB"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=[*files(IP_ADAPTERS), DEMO],
                    tooltip=(
                        "A file in models/ipadapter, for example ip-adapter_sdxl_vit-h.safetensors from"
                        " h94/IP-Adapter on Hugging Face (folder sdxl_models). Or the demo model's own."
                    ),
                )
            ],
            outputs=[
                STYLE_ADAPTER.Output(display_name="adapter"),
                io.String.Output(
                    display_name="about", tooltip="What the file is, and the image encoder it is made for."
                ),
            ],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        node = "Load IP-Adapter"
        with naming(node):
            adapter = open_adapter(path_of(file, node))
        return io.NodeOutput(adapter, about(adapter))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> Any:
        return fingerprint_of(path_of, file, "Load IP-Adapter")


def path_of(file: str, node: str) -> Path:
    """Raises ValueError that says where it was looked for."""
    return demo_adapter(node) if file == DEMO else find(IP_ADAPTERS, file, node)


def about(adapter: Adapter) -> str:
    projector, told = adapter.projector, written_about(adapter.path)
    text = (
        f"{adapter.path.name}: {projector.kind} adapter, {projector.tokens} tokens of {projector.width},"
        f" {len(adapter.layers)} attention layers. Made for {wanted(projector)}."
    )
    if "blocks" in told:
        text += f" Its blocks: {told['blocks'].strip('[]').replace(chr(34), '')}."
    if "steps" in told and "pairs" in told:
        text += f" Trained by zsamb train for {told['steps']} steps, pairs: {told['pairs']}."
    return text


class LoadIPAdapterAndEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_LoadIPAdapterAndEncoder",
            display_name=BOTH,
            category=CATEGORY,
            description=(
                "An IP-Adapter and the image encoder that it is made for, found among the files in"
                " models/clip_vision by their numbers, whatever their names. Where none fits, it says which"
                " one is missing and where to get it."
            ),
            search_aliases=[
                "IPAdapter unified loader",
                "IPAdapter model loader",
                "CLIP vision loader",
                "InstantStyle",
                "Z-SAMB",
            ],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=[*files(IP_ADAPTERS), DEMO],
                    tooltip="A file in models/ipadapter, as in Load IP-Adapter. Or the demo model's own.",
                ),
                io.Combo.Input(
                    "encoder",
                    options=[AUTO, *files(ENCODERS), DEMO_ENCODER],
                    default=AUTO,
                    optional=True,
                    tooltip=(
                        "The image encoder. auto: the one that fits the adapter. Or a file in"
                        " models/clip_vision, which is refused where it does not fit."
                    ),
                ),
            ],
            outputs=[
                STYLE_ADAPTER.Output(display_name="adapter"),
                io.ClipVision.Output(display_name="clip_vision"),
                io.String.Output(
                    display_name="about", tooltip="What the adapter is, and which encoder came with it."
                ),
            ],
        )

    @classmethod
    def execute(cls, file: str, encoder: str = AUTO) -> io.NodeOutput:
        with naming(BOTH):
            adapter = open_adapter(path_of(file, BOTH))
            name = chosen_encoder(adapter) if encoder == AUTO else encoder
            clip_vision = loaded(name)
            found = encoder_of(clip_vision, BOTH)
            refuse_pairing(adapter.projector, found)
        return io.NodeOutput(adapter, clip_vision, f"{about(adapter)} Image encoder: {name}, {found}.")

    @classmethod
    def fingerprint_inputs(cls, file: str, encoder: str = AUTO) -> Any:
        looked_at = files(ENCODERS) if encoder == AUTO else [encoder]
        return [
            fingerprint_of(path_of, file, BOTH),
            *(fingerprint_of(encoder_path, x, BOTH) for x in looked_at),
        ]


def chosen_encoder(adapter: Adapter) -> str:
    """The name of an encoder that fits. Raises ValueError that says what is missing."""
    encoders: dict[str, Encoder | str] = {}
    for name in [*files(ENCODERS), DEMO_ENCODER]:
        try:
            encoders[name] = encoder_in(encoder_path(name, BOTH))
        except ValueError as error:
            encoders[name] = str(error)
    fitting = that_fit(adapter.projector, encoders)
    if not fitting:
        del encoders[DEMO_ENCODER]
        raise ValueError(nothing_fits(adapter.path.name, adapter.projector, encoders, places(ENCODERS)))
    if len(fitting) > 1:
        logging.info(f"{BOTH}: {', '.join(fitting)} fit, and {fitting[0]} is taken.")
    return fitting[0]


def encoder_path(name: str, node: str) -> Path:
    """Raises ValueError that says where it was looked for."""
    return demo_encoder(node) if name == DEMO_ENCODER else find(ENCODERS, name, node)


def loaded(name: str) -> ClipVision:
    return load_demo_clip_vision() if name == DEMO_ENCODER else load_encoder(encoder_path(name, BOTH))


NODES = [LoadIPAdapter, LoadIPAdapterAndEncoder]
