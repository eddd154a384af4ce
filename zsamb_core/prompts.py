"""Prompt text."""


def prompt_lines(prompts: str, style: str = "") -> list[str]:
    """The non-empty lines of ``prompts``, each with the style words behind it. Raises ValueError when there
    is none.
    """
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    if not lines:
        raise ValueError(
            "Prompt Set: the prompts input is empty, expected at least one line of text. Write one prompt per"
            " line, one line per picture."
        )
    style = style.strip()
    return [f"{line} {style}" if style else line for line in lines]
