"""Failures: what obstore says of a request to a bucket that failed: whether it may pass, and what helps."""

import re

from shards.errors import one_line
from shards.stores.base import RETRY_S

_LOST = re.compile(r"HttpError \{ kind: (\w+)")
"""No answer came, or a part of one."""
_CODE = re.compile(r"<Code>(\w+)</Code>|\(code: (\w+)\)")
"""The second is that of a removal."""
_STILL = "HttpError { kind: Timeout"
_MOMENTARY = re.compile(r"status code: (408|429|500|502|503|504)\b")
_MOMENTARY_CODES = ("InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown")


def may_pass(error: Exception, has_answered: bool) -> bool:
    """Whether the same request may succeed in a moment.

    A server that cannot be reached may come back if it `has_answered` before; else its address is wrong.
    """
    text = one_line(error)
    if (lost := _LOST.search(text)) is not None:
        is_for_good = any(sign in text for sign in ("InvalidCertificate", "/latest/"))
        return not is_for_good and (has_answered or lost[1] != "Connect")
    return _code(text) in _MOMENTARY_CODES or _MOMENTARY.search(text) is not None


def stood_still(error: Exception) -> bool:
    """Whether a request was silent for longer than it may be."""
    return _STILL in one_line(error)


def remedy(error: Exception, read_from: str, keys: str, server: str) -> str:
    """What is wrong, and what to do: where credentials were `read_from`, how `keys` and the `server` are set."""
    text = one_line(error)
    code = _code(text)
    template = _REMEDIES.get(code) or next((each for sign, each in _SIGNS.items() if sign in text), None)
    if template is None:
        status = re.search(r"status code: (\d+ [\w ]+)", text)
        said = code or (status[1].strip() if status else text.partition(" Debug source")[0][:200])
        return f"the store does not answer as it should ({said}); run the same command again to go on"
    return template.format(read_from=read_from, keys=keys, server=server)


def _code(text: str) -> str:
    code = _CODE.search(text)
    return (code[1] or code[2]) if code else ""


_REFUSED = "refuses the credentials read from {read_from}; {keys}, and check that they may list, read and write here"
_REMEDIES = {
    "NoSuchBucket": "there is no such bucket; check its name and {server}, or create it",
    "RequestTimeTooSkewed": "this machine's clock is wrong, which a signed request may not be; set it (timedatectl "
    "set-ntp true) and run again",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION",
} | dict.fromkeys(
    ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"), _REFUSED
)
_SIGNS = {
    "/latest/": "no credentials here; {keys}",
    "403 Forbidden": _REFUSED,
    "401 Unauthorized": _REFUSED,
    "InvalidCertificate": "its certificate is not trusted here; check this machine's clock, then {server}",
    "dns error": "its server is not known here; check {server} and the network",
    "Error( Connect,": "its server cannot be reached; check {server} and the network, then run again",
    _STILL: f"its server stands still, or the network is too slow; set {RETRY_S} higher (seconds; "
    "120 where it is not set), and run the same command again to go on",
    "HttpError {": "the connection is cut again and again; check the network, then run the same command again to go on",
}
