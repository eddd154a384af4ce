"""Nodes that had fewer inputs when the first workflows with them were shipped: those workflows still run.
On the canvas web/first_forms.js puts their values in place.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any


def added_later(first: str) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """For ``define_schema``: the inputs from ``first`` on are optional, since an API workflow of the node's
    first form lacks some of them. ``execute`` has the values that this form meant as its defaults.
    """

    def wrapped(define: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(define)
        def define_schema(cls: type) -> Any:
            schema = define(cls)
            place = [given.id for given in schema.inputs].index(first)
            # Copies: other nodes have the same inputs.
            later = [copy.copy(given) for given in schema.inputs[place:]]
            for given in later:
                given.optional = True
            schema.inputs = [*schema.inputs[:place], *later]
            return schema

        return define_schema

    return wrapped
