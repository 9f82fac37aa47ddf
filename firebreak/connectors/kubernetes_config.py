"""Where the API server is and who we are there: a kubeconfig or the in-cluster account, as lightkube reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from firebreak.domain.errors import SettingsInvalid

__all__ = ["SingleConfig", "load_config"]

_ADVICE = "Name a kubeconfig in FIREBREAK_KUBECONFIG, or run the engine in a pod with a service account."


def load_config(kubeconfig: Path | None = None, context: str | None = None) -> SingleConfig:
    """The file named, else the in-cluster account, else the first file of KUBECONFIG, else ~/.kube/config.

    SettingsInvalid says which one was tried and what is wrong with it.
    """
    inside = Path(SERVICE_ACCOUNT, "token").is_file() and "KUBERNETES_SERVICE_HOST" in os.environ
    if kubeconfig is None and inside:
        source = "the in-cluster service account"
    else:
        first = next(filter(None, os.environ.get("KUBECONFIG", "").split(os.pathsep)), "")
        usual = Path(first or "~/.kube/config")
        try:
            kubeconfig = kubeconfig or usual.expanduser()
        except RuntimeError:
            told = f"kubeconfig {usual} cannot be used: there is no home directory {usual.parts[0]}"
            raise SettingsInvalid(told, advice=_ADVICE) from None
        source = f"kubeconfig {kubeconfig}"
    single, problem = None, ""
    beyond: list[str] = []
    try:
        if kubeconfig is None:
            single = KubeConfig.from_service_account().get(context)
        else:
            document = YAML(typ="safe").load(kubeconfig.read_text("utf-8"))
            single = KubeConfig.from_dict(document, fname=kubeconfig).get(context)
            beyond = list(_beyond(document, single)) if single else []
    except (ConfigError, OSError) as error:
        problem = str(error)
    except (YAMLError, msgspec.ValidationError, KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"{type(error).__name__}: not a kubeconfig"  # a YAML error would quote its text
    if problem:
        raise SettingsInvalid(f"{source} cannot be used: {problem}", advice=_ADVICE)
    if single is None:
        raise SettingsInvalid(f"{source} names no current context", advice=_ADVICE)
    version = single.user.exec.apiVersion if single.user and single.user.exec else None
    if version is not None and not version.endswith(("/v1alpha1", "/v1beta1")):
        raise SettingsInvalid(
            f"{source} gets its token from an exec plugin of version {version}, which is not supported",
            advice="Set the plugin's apiVersion to client.authentication.k8s.io/v1beta1, or use a token file.",
        )
    if beyond:
        raise SettingsInvalid(
            f"{source} asks for {', '.join(beyond)}, which is not supported",
            advice="Give the engine an account of its own, and a kubeconfig that reaches the API server without them.",
        )
    # No user means anonymous; lightkube wants one to be there.
    return single._replace(user=_beside(single.user, kubeconfig) if single.user else User())


_OF_USER = ("as", "as-uid", "as-groups", "as-user-extra")
_OF_CLUSTER = ("proxy-url", "tls-server-name")


def _beyond(document: Any, single: SingleConfig) -> Iterator[str]:
    """What lightkube would leave out: the engine would act with more rights than the file gives it, or past a proxy."""
    for kind, name, keys in (("user", single.context.user, _OF_USER), ("cluster", single.context.cluster, _OF_CLUSTER)):
        for one in document.get(f"{kind}s", ()):
            if one["name"] == name:
                yield from (key for key in keys if one[kind].get(key))


def _beside(user: User, kubeconfig: Path | None) -> User:
    """Paths as kubectl reads them: from the file's own folder, as lightkube does for certificates alone."""
    if kubeconfig is None:
        return user
    folder = kubeconfig.absolute().parent
    token_file = str(folder / user.token_file) if user.token_file else user.token_file
    plugin = user.exec
    if plugin and "/" in plugin.command:  # else it is looked for in PATH
        plugin = msgspec.structs.replace(plugin, command=str(folder / plugin.command))
    return msgspec.structs.replace(user, token_file=token_file, exec=plugin)
