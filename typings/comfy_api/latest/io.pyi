from typing import Any

class Input:
    id: str
    default: Any
    optional: bool
    def __init__(self, id: str, **settings: Any) -> None: ...

class Output:
    def __init__(self, **settings: Any) -> None: ...

class Socket:
    io_type: str
    Input: type[Input]
    Output: type[Output]

Audio: type[Socket]
Boolean: type[Socket]
Clip: type[Socket]
ClipVision: type[Socket]
Combo: type[Socket]
Conditioning: type[Socket]
Float: type[Socket]
Hooks: type[Socket]
Image: type[Socket]
Int: type[Socket]
Latent: type[Socket]
Mask: type[Socket]
Model: type[Socket]
String: type[Socket]
Vae: type[Socket]

class MultiType:
    class Input(Input):
        def __init__(self, id: str | Input, types: list[type[Socket]], **settings: Any) -> None: ...

class Autogrow:
    class TemplatePrefix:
        def __init__(self, input: Any, prefix: str, min: int = 1, max: int = 10) -> None: ...

    class Input(Input):
        def __init__(self, id: str, template: Autogrow.TemplatePrefix, **settings: Any) -> None: ...

class Schema:
    node_id: str
    display_name: str
    inputs: list[Input]
    outputs: list[Output]
    def __init__(self, node_id: str, **settings: Any) -> None: ...

class NodeOutput:
    result: tuple[Any, ...]
    def __init__(self, *args: Any, ui: Any = None) -> None: ...

class ComfyNode:
    @classmethod
    def define_schema(cls) -> Schema: ...

def Custom(io_type: str) -> type[Socket]: ...
