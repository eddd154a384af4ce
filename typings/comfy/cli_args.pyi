from typing import Any

args: Any
