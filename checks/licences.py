"""`make licences`: docs/licences.md, the licences of all Python packages in the image, as pip-licenses reads them.

Exit code 1 where a licence is not one of the expected, which are those below.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping

from checks.tools import REPOSITORY, NoRegistryError, program

LOCK = REPOSITORY / "requirements-image.lock"
PAGE = REPOSITORY / "docs" / "licences.md"
EXPECTED = re.compile(
    r"(MIT|MIT-0|MIT-CMU|MIT License|BSD|BSD License|[02]?BSD(-[023]-Clause)?|Apache-2\.0|Apache License 2\.0"
    r"|Apache Software License|Apache-2\.0 WITH LLVM-exception|ISC|ISC License \(ISCL\)|PSF-2\.0|Zlib|CC0-1\.0|BSL-1\.0"
    r"|Python Software Foundation License|Zope Public License|MPL-2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\)"
    r"|LicenseRef-NVIDIA-Proprietary|NVIDIA Proprietary Software)"
)
"""One licence. Of several that a package offers, one that is expected is enough; of several that all hold, all."""

OPTIONS = ("--format", "json", "--from", "mixed", "--with-system")
"""`--with-system` lists the packages that pip-licenses itself uses, too."""

ACCEPTED = {
    "asyncssh": "only changes of its own files have to be published; DVC reaches remotes with it",
    "cuda-toolkit": "an empty package that names NVIDIA's others",
    "grandalf": "DVC draws its graphs with it; attcli does not import it",
    "pygit2": "its exception lets any program be linked with it; DVC uses it, attcli does not import it",
}
"""Packages whose licence is none of the expected, each with the reason why they may be there all the same."""

HEAD = """# Licences

The licences of the Python packages in the container image, as their own metadata names them. `make licences` writes
this page from `requirements-image.lock` and fails if a licence is not one of the expected. attcli's own licence is MIT.

| package | version | licence |
|---|---|---|
"""


def is_expected(licence: str) -> bool:
    """Whether a package with this licence, as its metadata words it, may be there without a reason of its own."""
    licence = licence.strip()
    if EXPECTED.fullmatch(licence):
        return True
    innermost = re.search(r"\(([^()]*)\)", licence)
    if innermost and re.search(r" (AND|OR) ", licence):
        value = "MIT" if is_expected(innermost[1]) else "unexpected"
        return is_expected(licence[: innermost.start()] + value + licence[innermost.end() :])
    if len(choices := re.split(r"\s+OR\s+", licence)) > 1:
        return any(map(is_expected, choices))
    parts = re.split(r"\s+AND\s+|;\s*", licence)
    return len(parts) > 1 and all(map(is_expected, parts))


def unexpected(packages: Iterable[Mapping[str, str]]) -> list[str]:
    """The packages, with their licences, that may not be there."""
    return [
        f"{package['Name']}: {package['License']}"
        for package in packages
        if not is_expected(package["License"]) and package["Name"] not in ACCEPTED
    ]


def page(packages: Iterable[Mapping[str, str]]) -> str:
    """The page."""
    lines = []
    for package in packages:
        name = package["Name"]
        reason = f" ({ACCEPTED[name]})" if name in ACCEPTED else ""
        lines.append(f"| {name} | {package['Version']} | {package['License'].replace('|', ' ')}{reason} |")
    return HEAD + "\n".join(lines) + "\n"


def names() -> list[str]:
    """The packages of the image's lock."""
    return re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text(encoding="utf-8"), re.M)


def main() -> int:
    """Write the page; say what is unexpected."""
    try:
        command = [str(program("pip-licenses")), "--python", sys.executable, *OPTIONS]
    except NoRegistryError as error:
        print(f"licences: pip-licenses cannot be installed, as no registry is reached ({error})", file=sys.stderr)
        return 2
    done = subprocess.run([*command, "--packages", *names()], check=True, stdout=subprocess.PIPE, text=True)
    packages = json.loads(done.stdout)
    PAGE.write_text(page(packages), encoding="utf-8")
    bad = unexpected(packages)
    for line in bad:
        print(f"licences: {line} is unexpected; replace the package, or accept it in checks/licences.py")
    print(f"licences: {len(packages)} packages, {len(bad)} with an unexpected licence; {PAGE.relative_to(REPOSITORY)}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
