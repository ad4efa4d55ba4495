"""Strategies: hostile words, numbers and values, and changes of bytes and of JSON."""

from typing import Any

from hypothesis import strategies as st

WORDS = (
    *(
        "",
        " ",
        "null",
        "~",
        "true",
        "nan",
        ".inf",
        "-.inf",
        "1e999",
        "-1",
        "0",
        "0x" + "f" * 2000,
        "9" * 5000,
        "1e-400",
    ),
    *("\x1b[31mred\x1b[0m", "a\nb", "\u202egnp.exe", "\u2066x\u2069", "\x9b2J", "a\rb", "\x00", "\u2028", "\udcff"),
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/mem",
        "~root",
        "C:\\x",
        "file:///etc/passwd",
        "a" * 300,
    ),
    *(
        "${jndi:ldap://x}",
        "{{7*7}}",
        "%s%n",
        "$(id)",
        "`id`",
        "; rm x",
        "<script>alert(1)</script>",
        "[link](x)",
        "[/b]",
    ),
    *(
        "cifar10",
        "digits",
        "folder",
        "hf:",
        "hf:../x",
        "timm:",
        "timm:x",
        "cuda:99999999999999999999",
        "att+att",
        "x" * 5000,
    ),
    *("!!python/object:os.system x", "!!set {a}", "!!binary aGk=", "&a [*a]", "2020-13-45", "2020-01-01", "[" * 600),
    *(
        "{" * 300,
        "- " * 500,
        "? " * 200,
        "'",
        '"',
        "a: b: c",
        "@",
        "*x",
        "%YAML 3.0",
        "---\na\n---\nb",
        "\ufeff1",
        "1_000",
    ),
)
"""What has gone wrong in other programs."""

NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, 10**30, -(10**30), 0.0, -0.0, 1e-320, 1e308, float("inf"), float("nan"))

text = st.one_of(st.sampled_from(WORDS), st.text(max_size=30), st.text("[]{}:,&*!|>'\"%@`#-? \n\tab1.", max_size=40))
numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(), st.floats())
plain = st.one_of(st.none(), st.booleans(), numbers, text)
json_values = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)),
    max_leaves=8,
)
deep = st.integers(min_value=20, max_value=3000)


@st.composite
def changed(draw: Any, content: Any) -> Any:
    """JSON in which some values are replaced, left out or added."""
    for _ in range(draw(st.integers(1, 3))):
        content = _changed_once(draw, content)
    return content


def _changed_once(draw: Any, content: Any) -> Any:
    if not content or not isinstance(content, (dict, list)) or draw(st.integers(0, 9)) == 0:
        return draw(json_values)
    keys = list(content) if isinstance(content, dict) else list(range(len(content)))
    key = draw(st.sampled_from(keys))
    copy = dict(content) if isinstance(content, dict) else list(content)
    how = draw(st.sampled_from(["inside", "inside", "inside", "replace", "replace", "drop", "add"]))
    if how == "inside":
        copy[key] = _changed_once(draw, content[key])
    elif how == "replace":
        copy[key] = draw(json_values)
    elif how == "drop":
        del copy[key]
    elif isinstance(copy, dict):
        copy[draw(st.text(max_size=12))] = draw(json_values)
    else:
        copy.append(draw(json_values))
    return copy


@st.composite
def damaged(draw: Any, data: bytes, most: int = 4) -> bytes:
    """Bytes of which some are changed, cut off, put in or doubled."""
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["flip", "set", "cut", "insert", "drop", "copy", "wide"]))
        if how == "flip" and data:
            data = data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
        elif how == "set":
            data = data[:at] + draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"."])) + data[at + 1 :]
        elif how == "wide":
            wide = draw(st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\0\0\0\x80", b"\xff\xff\xff\x7f"]))
            data = data[:at] + wide + data[at + len(wide) :]
        elif how == "cut":
            data = data[:at]
        elif how == "insert":
            data = data[:at] + draw(st.binary(min_size=1, max_size=20)) + data[at:]
        elif how == "drop":
            data = data[:at] + data[at + draw(st.integers(1, 50)) :]
        else:
            data = data[:at] + data[at : at + 40] + data[at:]
    return data
