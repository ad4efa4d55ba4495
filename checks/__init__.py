"""Checks of what surrounds the code: the image, the licences and the vulnerabilities of what it depends on."""
