"""Which SDK is used, and whether it can do what the settings ask for. Imports an SDK only to make its service.

The daemon may call `check` before any worker starts; a worker calls `make_service` at its first video. A client must
never be made before a worker process starts: one that is inherited over a fork gave one video the answer of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import structlog

from gsvrd.analyzers.gemini.service import Capability, Endpoint, GeminiService
from gsvrd.analyzers.gemini.settings import GeminiSettings, SdkName
from gsvrd.errors import ConfigError

INSTALL = "pip install google-genai"
_MODULES: dict[SdkName, str] = {"google-genai": "google.genai", "google-generativeai": "google.generativeai"}
_CAPABILITIES: dict[SdkName, frozenset[Capability]] = {
    "google-genai": frozenset(Capability),
    "google-generativeai": frozenset(),
}


def is_installed(sdk: SdkName) -> bool:
    """Whether its package is there. Does not import it."""
    try:
        return find_spec(_MODULES[sdk]) is not None
    except ModuleNotFoundError:  # not even the package `google`
        return False


def check(settings: GeminiSettings, installed: Callable[[SdkName], bool] = is_installed) -> SdkName:
    """The SDK that will be used. Raises `ConfigError` if there is none, or it cannot send what is asked for."""
    sdk = _choose(settings, installed)
    if lacking := [name for name in _wanted(settings) if name not in _CAPABILITIES[sdk]]:
        raise ConfigError(
            f"the SDK {sdk} cannot send what analyzer.gemini asks for: {', '.join(lacking)}",
            f"Install google-genai ({INSTALL}), or leave these settings out.",
        )
    return sdk


def capabilities(sdk: SdkName) -> frozenset[Capability]:
    """What it can send."""
    return _CAPABILITIES[sdk]


def make_service(sdk: SdkName, settings: GeminiSettings, key: str) -> GeminiService:
    """The service over `sdk`. Only ever inside a worker."""
    endpoint = Endpoint(settings.base_url.rstrip("/"), key, settings.timeout_s)
    if sdk == "google-genai":
        from gsvrd.analyzers.gemini.genai import GenaiService

        return GenaiService(endpoint)
    if settings.sdk == "auto":
        structlog.get_logger().warning(
            "gemini_sdk_fallback",
            used=sdk,
            missing="google-genai",
            install=INSTALL,
            lost=sorted(capability.value for capability in Capability),
        )
    from gsvrd.analyzers.gemini.generativeai import GenerativeaiService

    return GenerativeaiService(endpoint)


def _choose(settings: GeminiSettings, installed: Callable[[SdkName], bool]) -> SdkName:
    wishes: tuple[SdkName, ...] = tuple(_MODULES) if settings.sdk == "auto" else (settings.sdk,)
    for sdk in wishes:
        if installed(sdk):
            return sdk
    raise ConfigError(f"analyzer.gemini needs the package {wishes[0]}, which is not installed", f"{INSTALL}")


def _wanted(settings: GeminiSettings) -> Iterator[Capability]:
    if settings.fps is not None:
        yield Capability.FPS
    if settings.media_resolution:
        yield Capability.MEDIA_RESOLUTION
    if settings.thinking:
        yield Capability.THINKING
    if settings.flex:
        yield Capability.FLEX
