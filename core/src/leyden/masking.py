"""Hides passwords, keys and tokens in what is shown, logged or written for people to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

MASK = "***"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PASSWORDS = _words("password passwords passwd passphrase pwd secret secrets credential credentials")
"""Whatever is called so is secret, numbers too."""

_TOKENS = _words(
    "token apitoken authtoken accesstoken bearer jwt apikey apikeys accesskey secretkey privatekey auth authorization cookie "
    "cookies"
)
"""Texts whose name ends so are."""

_WHOSE_KEY = _words(
    "api access secret private ssh gpg encryption decryption signing account storage service license auth client master "
    "subscription deploy sas"
)
"""Whose key or keys are secret; a ``monitor_key`` or a ``sort_key`` is none."""

_WHOSE_PASS = _words("db database smtp mail email ftp http proxy user admin root login")
_WHOSE_TOKENS = _words("api access auth bearer refresh session")
_VOCABULARY = _words(
    "pad eos bos sos eot sot unk oov cls sep mask start end begin stop special image img audio video text word query prefix "
    "suffix separator class register blank newline next prev first last"
)
"""Whose token is a word of a model's vocabulary."""

_ABOUT = _words("file path dir name length len size min max env variable type kind manager policy provider")
"""With such a last word a name is not that of the secret itself."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_URL = re.compile(r"(?<![\w+.-])(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>[^\s\"'<>]+)")
_WHOLE_URL = re.compile(r"\s*(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>\S.*)", re.DOTALL)
_SIGNED_IN = re.compile(r"(?<![\w/:.@+-])[\w.+~%-]+:[^\s\"'<>/]+@(?P<rest>[\w-]+(?:\.[\w-]+)*(?::\d+)?(?:[/?#][^\s\"'<>]*)?)")
_PAIR = re.compile(
    r"(?P<name>[A-Za-z_][\w.-]*)(?P<between>\s?=\s?|['\"]\s?:\s?|(?<=uthorization):\s?)"
    r"(?P<value>b?'(?:[^'\\]|\\.)*'|b?\"(?:[^\"\\]|\\.)*\"|(?:(?:Bearer|Basic|Token)\s)?[^\s,;&'\"(){}\[\]<>]+)"
)
_BEARER = re.compile(r"\b(Bearer|Basic) [A-Za-z0-9+/=._~-]{12,}")
_KNOWN = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}|AKIA[A-Z0-9]{16}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
"""Keys of well-known services, which say by their front what they are."""
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9+/_=-]{20,}")


def is_secret(name: object, value: object = "text") -> bool:
    """Whether ``value`` under ``name`` is a secret, by what the name says; ``api_key`` is, ``monitor_key`` and ``pad_token`` not.

    None, True, False and what is empty never are. Numbers are where the name speaks of a password.
    """
    if not isinstance(name, str) or value is None or isinstance(value, bool) or callable(value) or hasattr(value, "shape"):
        return False
    if isinstance(value, str | bytes | list | tuple | set | frozenset | Mapping) and not value:
        return False
    words = [word.lower() for word in _WORD.findall(name)] or [""]
    before, last = words[-2] if len(words) > 1 else "", words[-1]
    if last in _ABOUT:
        return False
    if _PASSWORDS.intersection(words) or words == ["pw"] or (last == "pass" and before in {"", *_WHOSE_PASS}):
        return True
    if isinstance(value, int | float):
        return False
    if last == "token":
        return before not in _VOCABULARY and not _is_word_of_vocabulary(value)
    if last == "tokens":
        return before in _WHOSE_TOKENS
    if last == "id" and len(words) > 2:
        before, last = words[-3], before  # aws_access_key_id
    if last in ("key", "keys"):
        by_looks = isinstance(value, str) and bool(_RANDOM.fullmatch(value))
        return words == ["key"] or before in _WHOSE_KEY or by_looks
    return last in _TOKENS or words[-2:] == ["connection", "string"]


def _is_word_of_vocabulary(value: object) -> bool:
    return isinstance(value, str) and value[:1] + value[-1:] in ("<>", "[]")


def masked(value: Any, name: object = "") -> Any:
    """``value`` with ``"***"`` in place of each secret in it, at any depth of dicts, lists, tuples and sets.

    Secret is what :func:`is_secret` says of its name, and of a text what :func:`masked_text` says. Everything else is the same
    object as before; dicts and lists are new ones, and one that holds itself has ``"..."`` there.

    Args:
        value: options, hyperparameters, headers, anything.
        name: the name it has where it comes from.
    """
    return _masked(value, name, frozenset())


def _masked(value: Any, name: object, above: frozenset[int]) -> Any:
    if is_secret(name, value):
        return MASK
    if isinstance(value, str):
        return _masked_str(value, name) if type(value) is str else value
    if id(value) in above:
        return "..."  # it holds itself
    above |= {id(value)}
    if isinstance(value, Mapping):
        return {key: _masked(item, key, above) for key, item in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        kind: Callable[[Any], Any] = type(value)
        return kind(_masked(item, name, above) for item in value)
    return value


def _masked_str(value: str, name: object) -> str:
    whole = _WHOLE_URL.fullmatch(value)
    if whole is None:
        return masked_text(value)
    words = [word.lower() for word in _WORD.findall(name)] if isinstance(name, str) else []
    is_address = words == ["url"] or bool({"hook", "webhook"}.intersection(words))
    return _masked_url(whole["scheme"], whole["rest"], is_address)


def masked_text(text: str) -> str:
    """A text with ``***`` in place of each secret in it.

    That is: of each URL the userinfo, the query, the fragment and, where the address is a hook's, the path; what follows
    ``api_key=`` or another name that :func:`is_secret` knows; what follows ``Bearer``; and keys of well-known forms.
    """
    if "://" in text:
        text = _URL.sub(lambda found: _masked_url(found["scheme"], found["rest"], False), text)
    if "@" in text:
        text = _SIGNED_IN.sub(lambda found: f"{MASK}@{_masked_tail(found['rest'])}", text)
    text = _PAIR.sub(_masked_pair, text)
    return _KNOWN.sub(MASK, _BEARER.sub(rf"\1 {MASK}", text))


def _masked_pair(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    bare = value.lstrip("b").strip("'\"")
    if name.lower() == "key" or bare in ("", "None", "True", "False", MASK, "...") or not is_secret(name, _number(bare)):
        return found[0]
    quote = value[-1] if value[-1] in "'\"" else ""
    return f"{name}{found['between']}{quote}{MASK}{quote}"


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _masked_url(scheme: str, rest: str, is_address: bool) -> str:
    host, tail = _split(rest)
    if "@" in host:
        host = f"{MASK}@{host.rpartition('@')[2]}"
    elif "@" in tail and ":" in host and not host.rpartition(":")[2].isdigit():
        host, tail = _split(rest.rpartition("@")[2])  # a password with a slash in it, which no server would understand
        host = f"{MASK}@{host}"
    hook = "hook" in host.lower() or "hook" in tail.lower().partition("?")[0] or re.match(r"/bot\d+:", tail)
    if scheme.lower() in ("http", "https") and (is_address or hook) and tail.strip("/"):
        return f"{scheme}://{host}/{MASK}"
    return f"{scheme}://{host}{_masked_tail(tail)}"


def _split(rest: str) -> tuple[str, str]:
    end = next((index for index, character in enumerate(rest) if character in "/?#"), len(rest))
    return rest[:end], rest[end:]


def _masked_tail(tail: str) -> str:
    """What stands behind the host, without the query and the fragment."""
    tail = re.sub(r"\?[^#]+?(?=#|[)\].,;:]*$)", f"?{MASK}", tail, count=1)
    return re.sub(r"#.+?(?=[)\].,;:]*$)", f"#{MASK}", tail, count=1)
