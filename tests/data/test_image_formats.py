"""Files are found by their endings, and decoded by their formats: two lists that have to agree."""

from PIL import Image

from attcli.data import image, listing


def test_what_is_found_can_be_decoded() -> None:
    formats = Image.registered_extensions()
    assert {formats[suffix] for suffix in listing.SUFFIXES if suffix in formats} <= set(image.FORMATS)
