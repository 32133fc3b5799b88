"""Whether bytes are a whole picture."""

from __future__ import annotations

import io
import struct
import warnings

# What cv2, which reads pictures everywhere else, decodes as well.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_SMALLEST_DRAFT = (1, 1)


def problem_of_picture(content: bytes) -> str | None:
    """Why bytes cannot be used as a picture; None when they can.

    The picture is decoded to its end, so that one cut off in transfer is found; a JPEG at an eighth of its size, which
    reads all of its bytes in a fraction of the time.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        return "the file is empty"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                image.draft("L", _SMALLEST_DRAFT)
                image.load()
    except UnidentifiedImageError:
        return "the file is not a picture (JPEG, PNG, WebP, BMP or TIFF)"
    except Image.DecompressionBombError:
        return "the picture is too large to be a photo"
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error) as error:
        return f"the picture is damaged or cut off ({error})"
    return None
