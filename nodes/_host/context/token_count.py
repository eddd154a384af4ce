"""How many tokens of CLIP's a prompt has."""

from functools import cache

from comfy.sd1_clip import SDTokenizer

CLIP_READS = 77


@cache
def _tokenizer(length: int) -> SDTokenizer:
    # As the host's own for CLIP; a large length leaves the whole prompt in one piece.
    return SDTokenizer(max_length=length, pad_to_max_length=False)


def count_tokens(prompt: str) -> tuple[int, int]:
    """(tokens, pieces that the host gives to CLIP): with the start and the end, as the 77 are counted;
    weights in brackets are no tokens.
    """
    whole, pieces = (_tokenizer(length).tokenize_with_weights(prompt) for length in (1_000_000, CLIP_READS))
    return sum(map(len, whole)), len(pieces)
