"""The disk budget: what work is expected to take, what is left for it, and which images may go (SPEC section 5.6). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

_LATELY = 5  #: runs of a recipe that say what the next will take
_MARGIN = 1.25
_AT_LEAST = 64 * 2**20  #: bytes: env, worktree, logs and the like


@dataclass(frozen=True)
class Disk:
    """Room on the tighter of the file systems that work writes to. All in bytes."""

    free: int  #: less what living work has reserved and not taken yet
    floor: int  #: never to be used up
    need: int  #: what this work is expected to take
    reserved: int = 0  #: what others have reserved and not taken yet

    @property
    def short(self) -> int:
        """Bytes missing; 0 or less when there is room."""
        return self.floor + self.need - self.free

    @property
    def why_short(self) -> str:
        """The same as a sentence."""
        held = f" ({gib(self.reserved)} more are reserved by work under way)" if self.reserved else ""
        needed = f"{gib(self.need)} are needed above the floor of {gib(self.floor)}"
        return f"{gib(self.free)} free{held}, but {needed}: {gib(self.short)} short."


def need_of_run(peaks: Sequence[int], otherwise: int) -> int:
    """Bytes the next run is expected to take: the largest peak of the last runs and a margin; `otherwise` without history."""
    seen = [peak for peak in peaks if peak > 0][-_LATELY:]
    return max(int(max(seen) * _MARGIN), _AT_LEAST) if seen else otherwise


def need_of_promotion(peak: int, otherwise: int) -> int:
    """Bytes a promotion is expected to take: the volumes anew and their snapshot beside them."""
    return max(int(2 * peak * _MARGIN), _AT_LEAST) if peak > 0 else otherwise


@dataclass(frozen=True)
class PulledImage:
    """An image that canonq had Docker pull for a release."""

    reference: str
    recipe: str
    version: str
    used: float  #: when it was last deployed or pulled, in seconds since 1970


def images_to_drop(pulled: Collection[PulledImage], wanted: Mapping[str, Collection[str]], since: float) -> dict[str, str]:
    """Images that no release needs any more: reference -> why.

    `wanted` is recipe -> versions whose images stay: canonicals, kept ones, the newest run and its base. An image
    that canonq did not have pulled is never named, nor one used after `since` or shared with a wanted release.
    """
    needed = {image.reference for image in pulled if image.version in wanted.get(image.recipe, ()) or image.used > since}
    users: dict[str, list[str]] = {}
    for image in pulled:
        if image.reference not in needed:
            users.setdefault(image.reference, []).append(f"{image.recipe} {image.version}")
    return {reference: f"pulled for {', '.join(sorted(of))}, which no canonical needs" for reference, of in users.items()}


def gib(count: int) -> str:
    """A number of bytes, for people."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"
