"""Errors: the bodies of both dialects, and those inside a stream."""

from anthropic.types import ErrorResponse
from openai.types.shared import ErrorObject

from . import schema

# OpenAI has no published list of error types for statuses; Anthropic's table of HTTP errors.
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def openai(value, status=None):
    """The faults of `{"error": {message, type, param, code}}`."""
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return [f"no error object: {value!r:.80}"]
    faults = [f"error.{fault}" for fault in schema.check(ErrorObject, error)]
    missing = {"message", "type", "param", "code"} - set(error)
    faults += [f"error.{name} is missing" for name in sorted(missing)]
    if set(value) != {"error"}:
        faults.append(f"besides error: {sorted(set(value) - {'error'})}")
    if error.get("message") == "":
        faults.append("error.message is empty")
    return faults


def anthropic(value, status=None):
    """The faults of `{"type": "error", "error": {type, message}, "request_id"}`."""
    faults = schema.check(ErrorResponse, value)
    if faults:
        return faults
    if not value["error"]["message"]:
        faults.append("error.message is empty")
    if not value.get("request_id"):
        faults.append("request_id is missing")
    wanted = ANTHROPIC_TYPES.get(status, value["error"]["type"])
    if value["error"]["type"] != wanted:
        faults.append(f"type {value['error']['type']!r} with status {status}, not {wanted!r}")
    return faults
