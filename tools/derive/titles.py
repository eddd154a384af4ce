"""What the graphs are called in ComfyUI's template browser, which shows the names of ``workflows/*.json``.

The files of ``workflows/api`` keep their names: scripts post them. A title begins with its chapter, so that
the easy ones come first in alphabetical order, and a new one moves no other.
"""

TITLES = {
    "style_aligned_prompts": "4 SDXL - a set in one style",
    "style_aligned_reference": "5 SDXL - the style of a picture",
    "instantstyle": "6 SDXL - InstantStyle",
    "style_aligned_famous": "7 Style - a famous picture, not copied",
    "style_aligned_two_references": "7 Style - between two pictures",
    "instantstyle_style_aligned": "7 Style - both methods together",
    "instantstyle_content_subtraction": "7 Style - content taken out by words",
    "blend_two_references": "7 Style - three ways between two pictures",
    "instantstyle_or_all_blocks": "7 Style - InstantStyle or the whole picture",
    "style_aligned_depth": "8 Structure - a set over the depth of a picture",
    "style_aligned_canny": "8 Structure - a set over the edges of a picture",
    "instantstyle_controlnet": "8 Structure - InstantStyle over edges",
    "instantstyle_plus": "8 Structure - one picture in another style",
    "style_aligned_high_resolution": "9 More - a larger second pass",
    "style_kept_in_a_file": "9 More - a style kept for later",
    "strength_by_picture": "9 More - prompts from other nodes, strength by picture",
    "attention_picture": "9 More - where each picture looks",
    "context_to_prompt": "9 More - prompts from picture, speech and music",
    "score_sheet": "9 More - with and without the patch, scored",
}


def title_of(name: str) -> str:
    """The name of a graph's file for the canvas, by the name of its API file."""
    return TITLES.get(name, name)


def name_of(title: str) -> str:
    """The name of a graph's API file, by the name of its file for the canvas."""
    return next((name for name, known in TITLES.items() if known == title), title)
