"""Names of variables by which a program is steered: what it loads, runs, reads at its start, or whom it asks. Pure.

A release may name its variables as it likes; on the host such a name would be an order to bash, Python, git or Docker.
"""

from __future__ import annotations

from collections.abc import Iterable

_NAMES = frozenset({
    "BASHOPTS", "BASH_ENV", "BROWSER", "CDPATH", "CLASSPATH", "CURL_CA_BUNDLE", "CURL_HOME", "EDITOR", "ENV", "EUID",
    "FPATH", "FUNCNEST", "GCONV_PATH", "GLIBC_TUNABLES", "GLOBIGNORE", "GREP_OPTIONS", "HISTFILE", "HOME", "HOSTALIASES",
    "IFS", "INPUTRC", "KRB5_CONFIG", "KUBECONFIG", "LESSCLOSE", "LESSOPEN", "LOCALDOMAIN", "LOCPATH", "LOGNAME",
    "MAKEFILES", "MAKEFLAGS", "MANPAGER", "NLSPATH", "OLDPWD", "PAGER", "PATH", "PATHEXT", "PGSERVICEFILE", "PGSYSCONFDIR",
    "PHPRC", "PHP_INI_SCAN_DIR", "POSIXLY_CORRECT", "PPID", "PROMPT_COMMAND", "PS0", "PS1", "PS2", "PS3", "PS4", "PWD",
    "RANDFILE", "RESOLV_HOST_CONF", "RES_OPTIONS", "RIPGREP_CONFIG_PATH", "RSYNC_RSH", "SHELL", "SHELLOPTS", "SHLVL",
    "SUDO_ASKPASS", "TAPE", "TAR_OPTIONS", "TCLLIBPATH", "TEMP", "TERMCAP", "TERMINFO", "TERMINFO_DIRS", "TMP", "TMPDIR",
    "TZDIR", "UID", "VISUAL", "WGETRC", "XTABLES_LIBDIR", "ZDOTDIR", "_", "_JAVA_OPTIONS",
})  # fmt: skip
_BEGINNINGS = (
    "ANSIBLE_", "AWKLIBPATH", "AWKPATH", "AWS_CA_BUNDLE", "AWS_CONFIG", "AWS_ENDPOINT", "BASH_", "BUILDKIT_", "BUNDLE_",
    "CANONQ_", "CARGO_", "CELERY_", "COMPOSER_", "CONTAINERD_", "CONTAINER_HOST", "DENO_", "DOCKER_", "DYLD_", "GAWK",
    "GEM_", "GETCONF_", "GIT_", "GNUPG", "GODEBUG", "GOFLAGS", "GOPATH", "GOROOT", "GPG_", "GUILE_", "JAVA_TOOL",
    "JDK_JAVA", "LC_", "LD_", "LIBPATH", "LUA_", "MALLOC_", "NIX_", "NODE_EXTRA", "NODE_OPTIONS", "NODE_PATH", "NODE_TLS",
    "NPM_", "OPENSSL_", "PERL", "PIP_", "PYTEST_", "PYTHON", "REQUESTS_", "RUBY", "RUSTC", "RUSTUP_", "SSH_", "SSL_CERT_",
    "SYSTEMD_", "UV_", "VIRTUAL_ENV", "XDG_",
)  # fmt: skip
_ENDS = ("_PROXY", "_ASKPASS", "_PAGER", "_PRELOAD", "_LIBRARY_PATH", "_JAVA_OPTIONS")


def steers(name: str) -> bool:
    """Whether a variable of this name is more to programs of the host than a word of the app's."""
    upper = name.upper()
    return upper in _NAMES or upper.startswith(_BEGINNINGS) or upper.endswith(_ENDS)


def steering(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the names that do, in order."""
    return tuple(sorted(name for name in names if steers(name)))
