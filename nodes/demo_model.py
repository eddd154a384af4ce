"""The embedded demo model as a loader node."""

from comfy_api.latest import io

from ._common import CATEGORY
from ._host.demo_model import load_demo_clip_vision, load_demo_model, style_picture


class LoadDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_LoadDemoModel",
            display_name="Load Demo Model",
            category=CATEGORY,
            description=(
                "A small SDXL-shaped model that comes with the pack: it draws twelve objects at 128 x 128"
                " pixels, so every graph can be tried without a download. Replace it with Load Checkpoint for"
                " real pictures."
            ),
            search_aliases=["demo", "test model", "tiny SDXL", "Z-SAMB"],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Clip.Output(display_name="clip"),
                io.Vae.Output(display_name="vae"),
                io.ClipVision.Output(
                    display_name="clip_vision",
                    tooltip="The demo's image encoder, in place of Load CLIP Vision.",
                ),
                io.Image.Output(
                    display_name="style_picture",
                    tooltip=(
                        "A picture to take the style from: a star in a style that the demo model was not"
                        " trained on. In place of Load Image."
                    ),
                ),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_demo_model(), load_demo_clip_vision(), style_picture())


NODES = [LoadDemoModel]
