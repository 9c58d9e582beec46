"""Whether a state folder is the one that its id was given to: moved, restored and mounted ones are, copies beside it are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: The same folder; the same one at another place or made anew, which is to be noted; a copy beside the one that is noted.
Found = Literal["same", "moved", "copied"]


@dataclass(frozen=True)
class Place:
    """Where a state folder is."""

    path: str  #: without links
    device: int
    inode: int

    def is_folder(self, other: Place) -> bool:
        """Whether both are one folder, by whatever paths."""
        return (self.device, self.inode) == (other.device, other.inode)


def found(noted: Place | None, here: Place, *, other_lives: bool) -> Found:
    """What a state folder at `here` is. `other_lives`: another folder with its id is at the path that is noted.

    A path alone is enough, as what a backup brings back has another inode; an inode alone, as a folder that was renamed or is
    mounted elsewhere has another path. Where both differ, it was copied: it has taken the place of what is gone, or stands beside
    what is not.
    """
    if noted == here:
        return "same"
    if noted is None or noted.path == here.path or noted.is_folder(here):
        return "moved"
    return "copied" if other_lives else "moved"
