from typing import Any

class EPS:
    sigmas: Any

class V_PREDICTION(EPS): ...
class EDM(V_PREDICTION): ...
