"""The grammar of an option's value: how each kind is read, checked, described and shown.

A kind's `parse` takes text without surrounding space and gives the value, or raises `ValueError`:
plain for "not what `expected` says", `Refused` where a more exact expectation helps.
Secrets are a kind too, so that hiding them is decided here and nowhere else.
"""

import difflib
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


class Refused(ValueError):
    """A value that its kind refuses; `str()` of it is what was expected, `shown` what may be shown of it."""

    def __init__(self, expected: str, shown: str = "") -> None:
        super().__init__(expected)
        self.shown = shown


class Words(str):
    """Text that stands unquoted in place of a value, in a sentence that quotes values."""

    __slots__ = ()
    __repr__ = str.__str__


SHORTEST_GUESS = 4
"""Characters of a beginning that says which name was meant; an option's two dashes count."""

HIDDEN = Words("(hidden)")
OFF = "off"
LONGEST_SHOWN = 120
"""Characters of a wrong value that an error repeats."""


def quoted(text: str) -> str:
    """`text` as an error may repeat it: all of it, or its beginning."""
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"


def repeated(value: Any) -> str:
    """A wrong value of a list as an error may repeat it: a mapping that should be none may hold a token."""
    nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict) for v in value))
    return HIDDEN if nested else quoted(repr(value))


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that `word` was probably meant to be: one that begins with it, or looks like it."""
    among = list(names)
    begun = [name for name in among if len(word) >= SHORTEST_GUESS and name.startswith(word)]
    return min(begun, key=len, default=None) or next(iter(difflib.get_close_matches(word, among, n=1)), None)


def one_of(word: str, names: Iterable[str]) -> str:
    """What is expected in place of `word`, with the name that was probably meant."""
    among = list(names)
    close = nearest(word, among)
    return f"one of {', '.join(among)}" + (f" ({close} was probably meant)" if close else "")


def hidden(_: object) -> str:
    """A secret as anything may show it."""
    return HIDDEN


def quote_unless_secret(secret: re.Pattern[str]) -> Callable[[str], str]:
    """A `quote` that hides the whole text when anything in it might be secret."""
    return lambda text: HIDDEN if secret.search(text) else quoted(text)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value.

    `metavar` names it in `--help`, `unit` says what it counts or what it looks like, `expected` ends
    the sentence about a wrong one, `show` writes a value back in the grammar that `parse` reads,
    `quote` is the wrong text as an error may repeat it.
    """

    metavar: str
    unit: str
    expected: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str
    quote: Callable[[str], str] = quoted
    is_switch: bool = False
    may_be_off: bool = False


# Switches, choices, plain text


SWITCH_WORDS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def parse_switch(text: str) -> bool:
    """`true`, `false` and their usual synonyms."""
    try:
        return SWITCH_WORDS[text.lower()]
    except KeyError:
        raise ValueError from None


SWITCH = Kind(
    "true|false",
    "on or off",
    "true or false",
    parse_switch,
    lambda on: "true" if on else "false",
    is_switch=True,
)


def choice(*words: str) -> Kind:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return Kind("|".join(words), "word", f"{', '.join(words[:-1])} or {words[-1]}", parse)


def parse_wire_version(text: str) -> int:
    """`1` or `2`; raises ValueError."""
    if text not in ("1", "2"):
        raise ValueError
    return int(text)


WIRE_VERSION = Kind("1|2", "1 or 2", "1 or 2", parse_wire_version)


def matching(pattern: str) -> Callable[[str], str]:
    """A parser that takes what matches `pattern` whole, as it is."""
    compiled = re.compile(pattern, re.ASCII)

    def parse(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError
        return text

    return parse


NAME = Kind("NAME", "text", "a name without control characters", matching(r"[^\x00-\x1f\x7f]+"))

PREFIX = Kind(
    "NAME",
    "name",
    "1 to 64 letters, digits, dots, colons, dashes and underscores",
    matching(r"[A-Za-z0-9._:-]{1,64}"),
)

LONGEST_TOKEN = 16 * 1024
"""Bytes; a Kubernetes token has 1 to 2 KiB, and a whole request head must stay under 64 KiB."""

TOKEN_PATTERN = rf"[\x21-\x7e]{{1,{LONGEST_TOKEN}}}"
"""A token goes into a header line: visible ASCII, so that it ends where it seems to end."""

TOKEN_EXPECTED = f"1 to {LONGEST_TOKEN} visible ASCII characters without spaces"

LABEL = Kind(
    "NAME",
    "lower-case name",
    "1 to 63 lower-case letters, digits and dashes, as Kubernetes takes them",
    matching(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"),
)

CLUSTER_ID_PATTERN = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?"
"""One path segment that needs no escaping and is never `.` or `..`."""
CLUSTER_ID_EXPECTED = (
    "1 to 128 letters, digits, dots, dashes and underscores, beginning and ending with a letter or digit"
)

SECRET_TOKEN = Kind(
    "TOKEN",
    "secret text",
    TOKEN_EXPECTED,
    matching(TOKEN_PATTERN),
    hidden,
    hidden,
)


def list_of(each: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of what `each` takes, once or several times with commas between, without repetitions."""
    return lambda text: tuple(dict.fromkeys(each(part.strip()) for part in text.split(",")))


CLUSTER_IDS = Kind(
    "ID,…",
    "ids",
    f"ids with commas between, each {CLUSTER_ID_EXPECTED}",
    list_of(matching(CLUSTER_ID_PATTERN)),
    ",".join,
)


def parse_named_files(text: str) -> tuple[tuple[str, str], ...]:
    """Cluster ids and files, `ID=FILE` with commas between; raises ValueError."""
    cluster_id = matching(CLUSTER_ID_PATTERN)
    found: dict[str, str] = {}
    for part in text.split(","):
        id_, _, file = part.strip().partition("=")
        if not file:
            raise ValueError
        found[cluster_id(id_)] = file
    return tuple(found.items())


CLUSTER_FILES = Kind(
    "ID=FILE,…",
    "ids and files",
    f"ID=FILE with commas between, each id {CLUSTER_ID_EXPECTED}",
    parse_named_files,
    lambda files: ",".join(f"{id_}={file}" for id_, file in files),
)


# Numbers, durations, sizes


NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII)


def show_number(number: float) -> str:
    """A number without an exponent, to a millionth."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def bounded(expected: str, least: str, zero: str) -> str:
    """What is expected of a value that has a least one, and perhaps a meaning of 0; "" for neither."""
    return expected + (f", at least {least}" if least else "") + (f", or 0 for {zero}" if zero else "")


def rate(per: str) -> Kind:
    """A number of something per second, 0 for no limit."""

    def parse(text: str) -> float:
        if not NUMBER.fullmatch(text):
            raise ValueError
        return float(text)

    return Kind("NUMBER", per, f"a number of {per} such as 50 or 0.5, or 0 for no limit", parse, show_number)


def count(of: str, low: int, high: int) -> Kind:
    """A whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 15 and low <= int(text) <= high):
            raise ValueError
        return int(text)

    return Kind("NUMBER", of, f"a whole number of {of} from {low} to {high}", parse)


SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h))+", re.ASCII)
DURATION_PART = re.compile(r"([\d.]+)(ms|s|m|h)", re.ASCII)
LONGEST_DURATION = 30 * 24 * 3600.0
"""Longer than anything here waits for; below what any clock or timer can hold."""


def parse_duration(text: str) -> float:
    """`500ms`, `15s`, `5m`, `1h`, `1m30s` or `0`, in seconds."""
    if text == "0":
        return 0.0
    if not DURATION.fullmatch(text):
        raise ValueError
    return sum(float(number) * SECONDS[unit] for number, unit in DURATION_PART.findall(text))


def show_duration(seconds: float) -> str:
    """Seconds as `parse_duration` reads them."""
    if seconds == 0:
        return "0"
    if seconds % 1:
        return f"{show_number(seconds * 1000)}ms" if seconds < 1 else f"{show_number(seconds)}s"
    if seconds < 120 or seconds % 60:
        return f"{seconds:.0f}s"
    return f"{seconds / 3600:.0f}h" if seconds % 3600 == 0 else f"{seconds / 60:.0f}m"


def duration(low: float, zero: str = "") -> Kind:
    """A time of at least `low` seconds; `zero` says what 0 means where 0 is allowed too."""
    least = show_duration(low) if low else ""
    expected = bounded("a duration such as 500ms, 15s, 5m or 1h", least, zero)

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if seconds > LONGEST_DURATION:
            raise Refused(f"a duration of at most {show_duration(LONGEST_DURATION)}")
        if seconds < low and not (zero and seconds == 0):
            raise ValueError
        return seconds

    return Kind("DURATION", "ms, s, m or h", expected, parse, show_duration)


SIZE = re.compile(r"(\d{1,15})(Ki|Mi|Gi)?", re.ASCII)
SIZES = {"Gi": 1 << 30, "Mi": 1 << 20, "Ki": 1 << 10}


def show_size(size: int) -> str:
    """Bytes as a size option takes them."""
    for unit, bytes_each in SIZES.items():
        if size and size % bytes_each == 0:
            return f"{size // bytes_each}{unit}"
    return str(size)


def size(low: int, zero: str = "") -> Kind:
    """Bytes, plainly or in Ki, Mi, Gi; `zero` says what 0 means where 0 is allowed too."""
    least = show_size(low) if low else ""
    expected = bounded("bytes, plainly or such as 64Ki, 32Mi or 1Gi", least, zero)

    def parse(text: str) -> int:
        found = SIZE.fullmatch(text)
        if not found:
            raise ValueError
        number, unit = found.groups()
        value = int(number) * SIZES.get(unit, 1)
        if value < low and not (zero and value == 0):
            raise ValueError
        return value

    return Kind("SIZE", "bytes, Ki, Mi or Gi", expected, parse, show_size)


# Files


def check_file(path: str) -> str:
    """`path` with `~` expanded, when it is a file that can be read; raises Refused with the reason."""
    path = os.path.expanduser(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Refused("a readable file, and this is not a regular file")
        with open(path, "rb"):
            return path
    except ValueError as error:  # a NUL in the path, or the line above
        raise error if isinstance(error, Refused) else Refused("a readable file") from None
    except OSError as error:
        raise Refused(f"a readable file ({error.strerror})") from None


FILE = Kind("FILE", "path", "a readable file", check_file)


def parse_folder(path: str) -> str:
    """`path` with `~` expanded, when it is a folder or nothing yet; raises ValueError."""
    path = os.path.expanduser(path)
    if "\0" in path or (os.path.lexists(path) and not os.path.isdir(path)):
        raise ValueError
    return path


FOLDER = Kind("FOLDER", "path", "a folder, or the name of one to be made", parse_folder)

FILE_OR_OFF = Kind(
    "FILE",
    "path or off",
    "a readable file, or off",
    lambda text: "" if text == OFF else check_file(text),
    lambda path: path or OFF,
    may_be_off=True,
)

JSON_TEXT = re.compile(r'[\[\]{}"\n]|.{1024}', re.DOTALL)
"""What no sensible path holds: the value is, or was meant as, JSON with tokens in it."""


def parse_clusters_source(text: str) -> str:
    """JSON text when it starts with `[`, else the path of a readable file."""
    return text if text.startswith("[") else check_file(text)


CLUSTERS = Kind(
    "FILE|JSON",
    "path or JSON text",
    "the path of a clusters file, or its JSON text, which starts with [",
    parse_clusters_source,
    quote_unless_secret(JSON_TEXT),
    quote_unless_secret(JSON_TEXT),
)
