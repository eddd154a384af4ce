"""Values that are no numbers, refused by name where they come in: further on they would be black pictures."""

import math

from torch import Tensor


def require_finite(x: Tensor, what: str, cure: str = "") -> None:
    """Raises ValueError, with ``what`` (a subject, such as "the mask input") before and ``cure`` behind,
    where ``x`` of any shape holds NaN or infinite values.
    """
    wrong = x.numel() - int(x.isfinite().sum())
    if wrong:
        cure = cure or (
            "Look at what is connected there: a VAE or a model in half precision can make such values, which"
            " ComfyUI's options --fp32-vae and --force-fp32 prevent, and so can a damaged file."
        )
        raise ValueError(
            f"{what} has {wrong} of {x.numel()} values that are not numbers (NaN or infinite), expected"
            f" finite ones. {cure}"
        )


def require_numbers(node: str, **inputs: float) -> None:
    """Raises ValueError, with the ``node`` and the input's name, for NaN and infinity: ComfyUI compares only
    what is typed with an input's bounds, and NaN passes even those.
    """
    for name, value in inputs.items():
        if not math.isfinite(value):
            raise ValueError(
                f"{node}: {name} is {value}, expected a number. Look at what is connected there: a division"
                " by zero makes such a value."
            )
