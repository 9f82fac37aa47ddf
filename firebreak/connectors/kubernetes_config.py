"""Where the API server is and who we are there: a kubeconfig or the in-cluster account, as lightkube reads them."""

from __future__ import annotations

import os
from pathlib import Path

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
        first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
        kubeconfig = kubeconfig or Path(first or "~/.kube/config").expanduser()
        source = f"kubeconfig {kubeconfig}"
    single, problem = None, ""
    try:
        if kubeconfig is None:
            config = KubeConfig.from_service_account()
        else:
            config = KubeConfig.from_dict(YAML(typ="safe").load(kubeconfig.read_text("utf-8")), fname=kubeconfig)
        single = config.get(context)
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
    # No user means anonymous; lightkube wants one to be there.
    return single if single.user else single._replace(user=User())
