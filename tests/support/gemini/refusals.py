"""Google's error bodies. Every other room raises a `Refusal`; `service` turns it into a reply.

The words in messages matter: clients recognise some errors only by them.
"""

from __future__ import annotations

import json
from typing import Any

_GOOGLE = "generativelanguage.googleapis.com"
_RPC = "type.googleapis.com/google.rpc"
FOREVER = "9223372036854775807s"
"""The delay that was seen beside a full file store."""

PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
TOKENS_PER_MINUTE = "GenerateContentInputTokensPerModelPerMinute-FreeTier"
CONCURRENT = "GenerateContentConcurrentRequestsPerProjectPerModel-FreeTier"
"""A guess: no body of such a refusal is public."""
STORAGE = "FileStorageBytesPerProject"

_METRICS = {
    PER_MINUTE: "generate_content_free_tier_requests",
    PER_DAY: "generate_content_free_tier_requests",
    TOKENS_PER_MINUTE: "generate_content_free_tier_input_token_count",
    CONCURRENT: "generate_content_free_tier_concurrent_requests",
    STORAGE: "file_storage_bytes",
}


class Refusal(Exception):  # noqa: N818 - one word for one thing
    """An error reply: HTTP `code`, Google's `status` word, a message and `details`."""

    def __init__(self, code: int, status: str, message: str, details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.details = details or []

    def body(self) -> bytes:
        """The JSON that goes over the wire."""
        error: dict[str, Any] = {"code": self.code, "message": str(self), "status": self.status}
        if self.details:
            error["details"] = self.details
        return json.dumps({"error": error}).encode()


def over_quota(quota_id: str, model: str, limit: int, delay: str) -> Refusal:
    """A 429 with QuotaFailure, Help and RetryInfo; `delay` is protobuf's text of a duration (`38.2s`)."""
    metric = f"{_GOOGLE}/{_METRICS[quota_id]}"
    dimensions = {"location": "global", "model": model} if model else {}
    violation = {"quotaMetric": metric, "quotaId": quota_id, "quotaDimensions": dimensions, "quotaValue": str(limit)}
    message = (
        "You exceeded your current quota, please check your plan and billing details. "
        f"\n* Quota exceeded for metric: {metric}, limit: {limit}, model: {model}\nPlease retry in {delay}."
    )
    details: list[dict[str, Any]] = [
        {"@type": f"{_RPC}.QuotaFailure", "violations": [violation]},
        {
            "@type": f"{_RPC}.Help",
            "links": [{"description": "Limits", "url": "https://ai.google.dev/gemini-api/docs/rate-limits"}],
        },
        {"@type": f"{_RPC}.RetryInfo", "retryDelay": delay},
    ]
    return Refusal(429, "RESOURCE_EXHAUSTED", message, details)


def exhausted() -> Refusal:
    """A 429 that says nothing more, as it comes from overload and from limits on spending."""
    return Refusal(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).")


def bad_request(message: str) -> Refusal:
    """A 400: the request itself is wrong."""
    return Refusal(400, "INVALID_ARGUMENT", message)


def key_invalid() -> Refusal:
    """The key is none of Google's."""
    return Refusal(
        400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [_info("API_KEY_INVALID")]
    )


def key_missing() -> Refusal:
    """No key at all."""
    return Refusal(
        403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers. Please use API Key to call this API."
    )


def unauthorized() -> Refusal:
    """A key of a kind that is not accepted here."""
    return Refusal(
        401,
        "UNAUTHENTICATED",
        "Request had invalid authentication credentials. Expected OAuth 2 access token.",
        [_info("ACCESS_TOKEN_TYPE_UNSUPPORTED")],
    )


def key_leaked() -> Refusal:
    """A key that Google has closed."""
    return Refusal(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key.")


def not_public() -> Refusal:
    """A video of YouTube that is private, or gone."""
    return Refusal(403, "PERMISSION_DENIED", "The caller does not have permission")


def location() -> Refusal:
    """The caller's country is not served."""
    return Refusal(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")


def no_model(model: str, version: str = "v1beta") -> Refusal:
    """The model does not exist, or does no longer."""
    return Refusal(
        404,
        "NOT_FOUND",
        f"models/{model} is not found for API version {version}, or is not supported for generateContent.",
    )


def no_route(path: str) -> Refusal:
    """The server knows no such address."""
    return Refusal(404, "NOT_FOUND", f"Requested entity was not found: {path}")


def file_gone(name: str) -> Refusal:
    """The file was deleted, has expired, or never was: Google does not tell which."""
    short = name.removeprefix("files/")
    return Refusal(
        403, "PERMISSION_DENIED", f"You do not have permission to access the File {short} or it may not exist."
    )


def file_not_active(name: str) -> Refusal:
    """The file is being processed, or failed."""
    short = name.removeprefix("files/")
    return Refusal(400, "FAILED_PRECONDITION", f"The File {short} is not in an ACTIVE state and usage is not allowed.")


def name_taken(name: str) -> Refusal:
    """A file of that name is there already. The code is a guess."""
    return Refusal(409, "ALREADY_EXISTS", f"Requested entity already exists: {name}")


def storage_full(limit: int, delay: str = FOREVER) -> Refusal:
    """The project's files take all the room they may."""
    return over_quota(STORAGE, "", limit, delay)


def internal() -> Refusal:
    """A 500."""
    return Refusal(500, "INTERNAL", "An internal error has occurred. Please retry.")


def overloaded() -> Refusal:
    """A 503."""
    return Refusal(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")


def deadline() -> Refusal:
    """A 504."""
    return Refusal(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete.")


def _info(reason: str) -> dict[str, Any]:
    return {"@type": f"{_RPC}.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
