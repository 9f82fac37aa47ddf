"""Which metrics, labels and queries a Prometheus knows, for `firebreak lint --prometheus URL`.

The one place that uses the package prometheus-api-client. It is never on a decision path: it drops warnings, has no
time limit and repeats what timed out, so it gets a session, a limit and a retry rule of ours here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from urllib3.util.retry import Retry

from firebreak.domain.errors import ContractError, PermanentError, PermissionDenied, TransientError

_BUSY = frozenset({408, 425, 429})
_NOT_TAKEN = frozenset({400, 422})  # bad_data, execution (prometheus.io/docs/prometheus/latest/querying/api)
_AGAIN = "Look whether that Prometheus runs and answers in full, and lint again."
_CHECK_URL = "Check the URL: it must be the base URL of a Prometheus HTTP API, its path prefix included."


class PrometheusDiscovery:
    """Names known to one Prometheus-compatible back end. Use as a context manager.

    `url` is the base URL, prefix included; `headers` and `params` go with each request (tenant, token,
    `partial_response=false`); `timeout` bounds each connect and each silence while reading. One try per request.

    Its methods raise TransientError when the back end cannot answer now, or not in full (a partial answer would make
    an existing metric look missing), PermissionDenied for 401 and 403, PermanentError for any other answer that is no
    list of names, or no result."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ContractError(
                f"not an http(s) URL: {url!r}", advice="Give Prometheus' base URL, for example http://127.0.0.1:9090."
            )
        self._shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        self._params = dict(params or {})
        self._status = 0
        self._warnings: tuple[str, ...] = ()
        self._error = ""
        self._session = requests.Session()
        self._session.hooks["response"].append(self._watch)
        self._client = PrometheusConnect(
            url=url.rstrip("/"),
            headers=dict(headers or {}),
            session=self._session,
            timeout=timeout.total_seconds(),
            retry=Retry(0),
        )

    def __enter__(self) -> PrometheusDiscovery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def metric_names(self) -> frozenset[str]:
        """Every metric name that the back end has series of (its whole retention, unless it says otherwise)."""
        return self._names(lambda: self._client.all_metrics(params=dict(self._params)))

    def label_names(self, metric: str) -> frozenset[str]:
        """Every label name that series of `metric` carry, `__name__` included; empty when there are none."""
        # A quoted name selects any metric, also one with dots (Prometheus 3, UTF-8 names).
        selector = '{__name__="' + metric.replace("\\", "\\\\").replace('"', '\\"') + '"}'
        return self._names(lambda: self._client.get_label_names(params={**self._params, "match[]": selector}))

    def refusal(self, query: str) -> str:
        """Why the back end does not take this query at this moment, in its own words; empty = it does. Its parser has
        the last word: another one cannot know its version, nor which functions it was started with."""
        try:
            self._answer(lambda: self._client.custom_query(query, params=dict(self._params)))
        except (PermanentError, TransientError):
            if self._status in _NOT_TAKEN and self._error:
                return self._error
            raise
        return ""

    def _watch(self, response: requests.Response, **_: Any) -> None:
        """Response hook: the package throws away the status, the warnings and what an error says."""
        self._status = response.status_code
        self._warnings = ()
        self._error = ""
        if response.ok or response.status_code in _NOT_TAKEN:
            try:
                body = response.json()
            except requests.exceptions.JSONDecodeError:
                if response.ok:
                    raise
                return
            if isinstance(body, dict):
                self._warnings = tuple(str(w) for w in body.get("warnings") or ())
                self._error = str(body.get("error") or "")[:300]

    def _names(self, ask: Callable[[], object]) -> frozenset[str]:
        names = self._answer(ask)
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise self._no_list()
        if self._warnings:
            raise TransientError(f"{self._shown} answers in part only: {'; '.join(self._warnings)}", advice=_AGAIN)
        return frozenset(names)

    def _answer(self, ask: Callable[[], object]) -> object:
        self._status = 0
        try:
            return ask()
        except PrometheusApiClientException as error:
            raise self._refused(str(error)) from None
        except requests.exceptions.JSONDecodeError:
            raise PermanentError(f"{self._shown} answers {self._status} with something that is no JSON") from None
        except requests.RequestException as error:
            raise TransientError(f"{self._shown} cannot be asked: {type(error).__name__}", advice=_AGAIN) from None
        except (KeyError, TypeError):
            raise self._no_list() from None

    def _no_list(self) -> PermanentError:
        return PermanentError(
            f"{self._shown} answers, but not as a Prometheus does",
            advice=_CHECK_URL,
        )

    def _refused(self, text: str) -> PermanentError | TransientError:
        sentence = f"{self._shown} answers {text[:300]}"
        if self._status in (401, 403):
            return PermissionDenied(sentence, advice="Give the headers or the token that this Prometheus asks for.")
        if self._status >= 500 or self._status in _BUSY:
            return TransientError(sentence, advice=_AGAIN)
        return PermanentError(sentence, advice=_CHECK_URL)
