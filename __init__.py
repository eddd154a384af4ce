"""Z-SAMB: one style for a set of pictures, in ComfyUI, on SDXL, without training."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from .nodes import (
    adapter_export,
    adapter_loaders,
    attention_picture,
    blend,
    contact_sheet,
    context,
    context_models,
    demo_model,
    describe,
    ip_adapter,
    prompts,
    reference_files,
    references,
    scores,
    style_aligned,
    style_embeds,
    weather,
)

WEB_DIRECTORY = "./web"


class ZSambExtension(ComfyExtension):
    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            *style_aligned.NODES,
            *references.NODES,
            *reference_files.NODES,
            *adapter_loaders.NODES,
            *ip_adapter.NODES,
            *style_embeds.NODES,
            *adapter_export.NODES,
            *blend.NODES,
            *scores.NODES,
            *contact_sheet.NODES,
            *attention_picture.NODES,
            *context_models.NODES,
            *describe.NODES,
            *weather.NODES,
            *context.NODES,
            *prompts.NODES,
            *demo_model.NODES,
        ]


async def comfy_entrypoint() -> ZSambExtension:
    return ZSambExtension()
