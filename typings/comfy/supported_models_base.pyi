from typing import Any

class ClipTarget:
    def __init__(self, tokenizer: type, clip: type) -> None: ...
    params: dict[str, Any]
