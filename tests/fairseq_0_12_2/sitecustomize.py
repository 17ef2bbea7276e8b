"""Lets Python 3.11 import fairseq 0.12.2. Python runs this file by itself when it starts.

Since 3.11, a dataclass refuses a default that has no hash: "mutable default <class
'fairseq.dataclass.configs.CommonConfig'> for field common is not allowed". Python 3.10 refused only
list, dict and set. fairseq 0.12.2 relies on that: its configurations are defaults of other ones.
So this gives them a hash. (Default factories would not do: fairseq reads the fields' defaults.)
"""

import dataclasses

_get_field = dataclasses._get_field


def _get_field_as_in_3_10(cls, name, *args):
    default = getattr(cls, name, None)
    if isinstance(default, dataclasses.Field):
        default = default.default
    kind = type(default)
    if kind.__hash__ is None and kind.__module__.startswith("fairseq."):
        kind.__hash__ = object.__hash__
    return _get_field(cls, name, *args)


dataclasses._get_field = _get_field_as_in_3_10
