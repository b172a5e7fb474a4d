"""Checks values against the vendor SDKs' own pydantic types.

The SDKs build their models without validation, so that they never break on what a provider adds;
here the same types are used to validate: required fields, kinds (strictly: no "1" for 1), and no
field that the vendor does not have. Start reading at `check`.
"""

import functools
import json
import typing

import pydantic

# What is not the vendors' but has become usual beside them, or is documented as ours.
EXTENSIONS = {"reasoning_content", "thinking_blocks", "provider_specific_fields"}
# What the vendor does send, though this SDK does not name it; others of the vendor's do.
UNNAMED = {("Response", "store"), ("ResponseFunctionCallArgumentsDoneEvent", "name")}


@functools.cache
def _adapter(kind):
    return pydantic.TypeAdapter(kind)


def _members(union):
    """The classes of a union, through Annotated and nested unions."""
    origin = typing.get_origin(union)
    if origin is typing.Annotated:
        return _members(typing.get_args(union)[0])
    if origin is None:
        return [union]
    return [member for one in typing.get_args(union) for member in _members(one)]


@functools.cache
def by_type(union):
    """The classes of a union of objects, by the value of their field `type`."""
    found = {}
    for member in _members(union):
        for value in typing.get_args(member.model_fields["type"].annotation):
            found[value] = member
    return found


def _path(location):
    return ".".join(str(part) for part in location)


def _own_errors(errors):
    """Without those of union members that the value's `type` says it is not."""
    foreign = {
        error["loc"][:-1]
        for error in errors
        if error["type"] == "literal_error" and error["loc"][-1:] in [("type",), ("role",)]
    }
    own = [error for error in errors if not any(error["loc"][: len(f)] == f for f in foreign)]
    return own or errors[:3]


def _unknown(value, path):
    """Fields that the models had no place for."""
    if isinstance(value, pydantic.BaseModel):
        for name in value.model_extra or {}:
            if name not in EXTENSIONS and (type(value).__name__, name) not in UNNAMED:
                yield f"{path}{name}: a field that the vendor does not have"
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _unknown(item, f"{path}{index}.")


def check(kind, value):
    """The faults of `value`, which is JSON as Python has it, as a `kind` of the SDK."""
    try:
        model = _adapter(kind).validate_json(json.dumps(value), strict=True)
    except pydantic.ValidationError as error:
        found = _own_errors(error.errors(include_url=False))
        return [f"{_path(one['loc'])}: {one['msg']} ({one['input']!r:.60})" for one in found]
    return list(_unknown(model, ""))


def check_variant(union, value):
    """As `check`, for one of a union's classes, which the value's own `type` names."""
    kind = value.get("type") if isinstance(value, dict) else None
    member = by_type(union).get(kind)
    if member is None:
        return [f"type {kind!r} is none of the vendor's"]
    return [f"{kind}: {fault}" for fault in check(member, value)]
