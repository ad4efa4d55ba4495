"""`make sbom`: the packages of the image's lock with their hashes, as CycloneDX.

The image holds a list of its own, of what is really installed in it: /usr/share/sbom/attcli.cdx.json.
"""

import subprocess
import sys
from pathlib import Path

from checks.tools import REPOSITORY, NoRegistryError, program


def main() -> int:
    """Write the file that the command line names."""
    file = Path(sys.argv[1])
    try:
        tool = program("cyclonedx-py")
    except NoRegistryError as error:
        print(f"sbom: cyclonedx-py cannot be installed, as no registry is reached ({error})", file=sys.stderr)
        return 2
    file.parent.mkdir(parents=True, exist_ok=True)
    options = ["--pyproject", str(REPOSITORY / "pyproject.toml"), "--output-reproducible", "--output-file", str(file)]
    done = subprocess.run([tool, "requirements", *options, str(REPOSITORY / "requirements-image.lock")], check=False)
    if not done.returncode:
        print(f"sbom: written to {file}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
