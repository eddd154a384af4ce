"""How many tokens of CLIP's a prompt has."""

from functools import cache

from comfy.sd1_clip import SDTokenizer

CLIP_READS = 77


@cache
def _tokenizer() -> SDTokenizer:
    # As the host's own for CLIP, but without its cuts: the whole prompt is one piece.
    return SDTokenizer(max_length=1_000_000, pad_to_max_length=False)


def count_tokens(prompt: str) -> int:
    """With the start and the end, as the 77 are counted; weights in brackets are no tokens."""
    return sum(map(len, _tokenizer().tokenize_with_weights(prompt)))
