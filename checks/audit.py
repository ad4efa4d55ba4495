"""`make audit`: the locks are compared with the known vulnerabilities of their packages, where they can be fetched.

Exit code 1 where a package has one that is not accepted. Without a registry, or with one that knows no vulnerabilities,
one line says that nothing was compared, and the exit code is 0.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from checks.tools import REPOSITORY, NoRegistryError, program

LOCKS = ("requirements.lock", "requirements-tools.lock")
ACCEPTED: dict[str, str] = {}
"""Vulnerabilities that do not matter here, by their identifier, each with the reason."""

NOTHING = "audit: nothing was compared with known vulnerabilities"
PATIENCE = 900.0
"""Seconds after which the registry counts as out of reach."""


def verdict(reports: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """The exit code and what is to be printed, from what pip-audit reports of each lock."""
    packages = {(entry["name"], entry.get("version")): entry for report in reports for entry in report["dependencies"]}
    unknown = sorted(entry["name"] for entry in packages.values() if "skip_reason" in entry)
    compared = [entry for entry in packages.values() if "skip_reason" not in entry]
    if not compared:
        return 0, [f"{NOTHING}: the registry that is reached has none of its packages' vulnerabilities"]
    lines, open_ones = [], 0
    for entry in sorted(compared, key=lambda entry: str(entry["name"])):
        for found in entry["vulns"]:
            names = {found["id"], *found.get("aliases", ())}
            reason = next((ACCEPTED[name] for name in names if name in ACCEPTED), None)
            open_ones += reason is None
            mended = ", ".join(found.get("fix_versions") or []) or "no version yet"
            remedy = f"accepted: {reason}" if reason else f"mended in {mended}"
            lines.append(f"audit: {entry['name']} {entry['version']} has {found['id']} ({remedy})")
    left_out = f"; not known to the registry: {', '.join(unknown)}" if unknown else ""
    lines.append(f"audit: {len(compared)} packages compared, {open_ones} open vulnerabilities{left_out}")
    if open_ones:
        lines.append("audit: renew the lock (make lock), or accept them with a reason in checks/audit.py")
    return int(open_ones > 0), lines


def ask(lock: Path) -> dict[str, Any]:
    """What pip-audit reports of a lock. NoRegistryError where it cannot."""
    options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command = [str(program("pip-audit")), "-r", str(lock), *options]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise NoRegistryError(f"no answer within {PATIENCE:.0f} s") from None
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        last = " ".join(done.stderr.strip().splitlines()[-1:])
        raise NoRegistryError(last) from None


def main() -> int:
    """Print the verdict."""
    reports: list[dict[str, Any]] = []
    failed: list[str] = []
    for name in LOCKS:
        try:
            reports.append(ask(REPOSITORY / name))
        except NoRegistryError as error:
            failed.append(f"{name} ({error})")
            if not reports:
                break  # the others would be asked in vain
    code, lines = verdict(reports) if reports else (0, [f"{NOTHING}: no registry is reached for {failed[0]}"])
    if reports:
        lines += [f"audit: not compared: {lock}" for lock in failed]
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
