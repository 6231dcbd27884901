"""Text in pictures, where the optional extra ``postern[ocr]`` is installed: RapidOCR with its models in the wheel.

It reads nothing from the network, and once loaded nothing from disk; it keeps to one thread, as the job processes of
the helper are forked and may start none.
"""

import io
import os
import re
import time
from importlib.util import find_spec
from typing import Any, Final

_PACKAGE: Final = "rapidocr_onnxruntime"
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_MAX_PIXELS: Final = 40_000_000
_LONGEST_SIDE: Final = 2400  # pixels; a larger picture is made smaller: letters stay legible, and time bounded
_SURE: Final = 0.5  # confidence of a line below which it is noise
_SPACES: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z]{3})(?=\d)|(?<=\d)(?=[A-Z][a-z])|(?<=[:;])(?=\S)")


class PictureReader:
    """Reads pictures. The models are loaded on first use, or by :meth:`load`."""

    def __init__(self) -> None:
        self._engine: Any = None

    @staticmethod
    def is_installed() -> bool:
        """Whether the optional extra is there."""
        return find_spec(_PACKAGE) is not None

    def load(self) -> None:
        """Load the models and everything that the first picture would otherwise load.

        Raises:
            ImportError: the extra is not installed.
        """
        for name in _THREADS:
            os.environ.setdefault(name, "1")
        import cv2  # noqa: PLC0415  optional, and slow to load
        import numpy as np  # noqa: PLC0415
        from PIL import Image  # noqa: PLC0415
        from rapidocr_onnxruntime import RapidOCR  # noqa: PLC0415

        cv2.setNumThreads(0)
        Image.init()
        Image.MAX_IMAGE_PIXELS = _MAX_PIXELS
        self._engine = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)
        blank = np.full((64, 256, 3), 255, np.uint8)
        cv2.putText(blank, "Name 123", (8, 44), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 2)
        self._engine(blank)

    def read_file(self, data: bytes) -> tuple[str, bool]:
        """The text in an image file, and whether that is all of it: of several pages only the first is read.

        Empty when there is none, or the file is no picture that can be read.
        """
        if self._engine is None:
            self.load()
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

        try:
            with Image.open(io.BytesIO(data)) as picture:
                whole = getattr(picture, "n_frames", 1) == 1
                picture.draft("RGB", (_LONGEST_SIDE, _LONGEST_SIDE))
                picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
                return self.read(_pixels(picture.convert("RGB"))), whole
        except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning, OSError,
                ValueError, SyntaxError):  # fmt: skip
            return "", True

    def read(self, pixels: Any) -> str:
        """The text in an array of pixels (rows, columns, three colours), a line a line.

        The models lose spaces between words; where letter case or digits tell of one, the line comes a second time with
        the space.
        """
        if self._engine is None:
            self.load()
        found, _ = self._engine(pixels)
        lines = []
        for _, text, confidence in found or ():
            if float(confidence) >= _SURE:
                spaced = _SPACES.sub(" ", text)
                lines += [spaced] if spaced == text else [spaced, text]
        return "\n".join(lines)


class PictureBudget:
    """The time that the pictures of one message may take: what is left over stays unreadable.

    Args:
        reader: reads them; ``None`` without the extra.
        seconds: CPU time for all of them together; the last one begun is read to its end.
    """

    def __init__(self, reader: PictureReader | None, seconds: float) -> None:
        self._reader = reader
        self._until = time.process_time() + seconds

    @property
    def reader(self) -> PictureReader | None:
        """The reader while time is left."""
        return self._reader if time.process_time() < self._until else None


def _pixels(picture: Any) -> Any:
    import numpy as np  # noqa: PLC0415

    return np.asarray(picture)
