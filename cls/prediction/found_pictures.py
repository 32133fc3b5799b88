"""What the journal says of the pictures of one inference, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cls.prediction.journal import PredictionJournal, Record
from cls.prediction.work import Job, frame_key


class FoundPictures:
    """Goes through the pictures as often as wanted, one at a time.

    Args:
        photos: of this inference; others in the journal are passed over.
        videos: likewise.
        journal: in which all of them are.

    Attributes:
        videos: likewise.
        skipped: picture -> why it could not be used; complete when all pictures have been gone through.
    """

    def __init__(self, photos: Sequence[Job], videos: Sequence[Job], journal: PredictionJournal) -> None:
        self._photos, self.videos, self._journal = photos, videos, journal
        self.skipped: dict[str, str] = {}

    def __iter__(self) -> Iterator[tuple[Job, Record]]:
        for job, record in self._all():
            if record.skipped is None:
                yield job, record
            else:
                self.skipped[job.name] = record.skipped

    def is_any_usable(self) -> bool:
        """Whether a picture could be used."""
        return next(iter(self), None) is not None

    def _all(self) -> Iterator[tuple[Job, Record]]:
        """Photos, then the frames of each video; the end of a video only where it ended early."""
        for job in self._photos:
            yield job, self._journal.read(job.key)
        for video in self.videos:
            end = self._journal.read(video.key)
            for place in range(end.frames or 0):
                yield video, self._journal.read(frame_key(video, place))
            if end.skipped is not None:
                yield video, end
