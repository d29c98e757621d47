"""Authentication and authorisation, with the API key, the client address and the host name."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import Scope

from skytext.config.service import AccessConfig
from skytext.errors import SkytextError
from skytext.service.access.api_keys import Keys, KeyStore, Right
from skytext.service.access.rate_limits import Rates
from skytext.service.problem_details import ProblemError

_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
_FOREIGN = frozenset({"cross-site", "same-site"})
"""The values of the header ``Sec-Fetch-Site`` if a page of another origin sent the request. A page
from a different port of this machine also has another origin."""
_log = logging.getLogger("skytext.service.access.authentication")


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        who: the name of the key. If no keys are required, this is ``address:`` and the IP address.
            The name is used for rate limits and in the log.
        address: the IP address of the client.
    """

    who: str
    address: str


class Keyring:
    """The API keys of a table. They are read from the store again every few seconds."""

    def __init__(self, store: KeyStore, refresh_s: float) -> None:
        self._store = store
        self._refresh_s = refresh_s
        self.keys = Keys(())

    async def load(self) -> None:
        """Read the keys from the store.

        Raises:
            JobError: a store request failed.
        """
        self.keys = await asyncio.to_thread(self._store.load)

    async def keep_fresh(self) -> None:
        """Read the keys again periodically. If this fails, keep the previous keys."""
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                await self.load()
            except SkytextError as error:
                _log.warning(
                    "cannot reload the API keys, so the keys that were loaded before stay valid",
                    extra={"error": str(error)},
                )


class Guard:
    """Decides which requests are allowed.

    Args:
        config: the access settings.
        keyring: the API keys. None if keys are never required. If ``require_keys`` is ``auto``,
            keys are required as soon as the keyring contains a key.
        rates: the object that limits the rates of requests and of wrong keys.
    """

    def __init__(self, config: AccessConfig, keyring: Keyring | None, rates: Rates) -> None:
        self._keyring = keyring
        self._requires_keys = config.require_keys is True
        self._rates = rates
        self._proxies = [ipaddress.ip_network(network) for network in config.trusted_proxies]
        self._origins = frozenset(config.cors_origins)
        self._hosts: frozenset[str] | None = None
        if config.allowed_hosts or not self._requires_keys:
            self._hosts = frozenset(name.lower() for name in (*config.allowed_hosts, *_LOCAL_NAMES))

    async def admit(self, scope: Scope, headers: Mapping[str, str], right: Right) -> Caller:
        """Check whether a request is allowed, and return the sender of the request.

        Raises:
            ProblemError: 401: the key is missing or unknown. 403: the sender does not have the
                permission. 421: the host name is unknown. 429: the sender exceeds a rate limit.
                503: the storage for the rate limits cannot be reached.
        """
        address = self.address(scope, headers)
        self.check_host(headers)
        keyring = self._keyring
        if keyring is not None and len(keyring.keys):
            # If all keys are revoked later, keys are still required.
            self._requires_keys = True
        if keyring is None or not self._requires_keys:
            if not _is_loopback(address):
                raise ProblemError(
                    403,
                    "forbidden",
                    "this service has no API keys, so only clients on the same machine are allowed",
                )
            self._check_page(scope["method"], headers)
            caller = Caller(f"address:{address}", address)
        else:
            caller = await self._by_key(keyring.keys, headers, address, right)
        await self._rates.take(caller.who)
        return caller

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Refuse a request with an unknown host name. This is a protection against DNS rebinding.

        In this attack, the host name of the attacker's page resolves to the address of this
        service. The page can then read responses of the service.

        Raises:
            ProblemError: 421: the host name is unknown.
        """
        if self._hosts is None:
            return
        host = headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._hosts:
            raise ProblemError(
                421,
                "wrong-host",
                "the Host header contains an unknown host name: the setting "
                "service.access.allowed_hosts lists the allowed names",
            )

    def _check_page(self, method: str, headers: Mapping[str, str]) -> None:
        """Refuse a request from a page of another origin (cross-site request forgery).

        If no keys are required, every browser on this machine may send requests. A page of another
        origin can cause the browser to send such a request. The browser hides the response from
        that page, but the request could still change something. This method checks headers that
        only browsers send.

        Raises:
            ProblemError: 403: a page of another origin sent the request.
        """
        origin = headers.get("origin")
        if method in ("GET", "HEAD") or origin in self._origins:
            return
        # If a proxy on this machine terminates TLS, the scheme of this service's origin is https.
        ours = {None, *(f"{scheme}://{headers['host'].lower()}" for scheme in ("http", "https"))}
        if origin not in ours or headers.get("sec-fetch-site") in _FOREIGN:
            raise ProblemError(
                403,
                "forbidden",
                "this service has no API keys, so only its own web page may send this request: to "
                "allow other pages, set service.access.cors_origins",
            )

    async def _by_key(
        self, keys: Keys, headers: Mapping[str, str], address: str, right: Right
    ) -> Caller:
        await self._rates.check_failures(address)
        given = _given_key(headers)
        if given is None:
            raise _unauthorised(
                "this service requires an API key: send the header Authorization: Bearer KEY"
            )
        key = keys.find(given)
        if key is None:
            await self._rates.count_failure(address)
            raise _unauthorised("this API key is unknown or was revoked")
        if not key.may(right):
            raise ProblemError(
                403, "forbidden", f"this request needs an API key with the permission {right}"
            )
        return Caller(key.name, address)

    def address(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """Return the IP address of the client.

        If the request comes from a trusted proxy, this method reads the IP address of the client
        from the header ``X-Forwarded-For``.
        """
        client = scope.get("client")
        address = client[0] if client else "unknown"
        if not self._proxies or not self._is_proxy(address):
            return address
        for hop in reversed(headers.get("x-forwarded-for", "").split(",")):
            hop = hop.strip()
            if not _is_address(hop):
                break
            address = hop
            if not self._is_proxy(hop):
                break
        return address

    def _is_proxy(self, address: str) -> bool:
        if not _is_address(address):
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._proxies)


def _given_key(headers: Mapping[str, str]) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return headers.get("x-api-key") or None


def _unauthorised(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorised", detail, {"WWW-Authenticate": 'Bearer realm="skytext"'})


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    return _is_address(address) and ipaddress.ip_address(address).is_loopback
