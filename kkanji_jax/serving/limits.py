"""Limits on one request and on all requests together, and the refusal of what exceeds them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """The limits of a server. Bytes are those of bodies as they are sent, pixels those of images.

    `max_queue` counts images that are accepted but not yet answered; one request never has more
    than `max_images`. Boxes count as images, and their pixels count in `max_request_pixels`.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 4096 * 4096  # of one image that is not a page with boxes
    max_request_pixels: int = 40_000_000  # an A4 page at 600 dpi has 35 million
    max_images: int = 256
    max_queue: int = 512
    max_held_bytes: int = 400_000_000  # bodies of all requests under way
    body_timeout_s: float = 30.0
    stop_timeout_s: float = 30.0  # for the answers that are under way
    batch_size: int = 64  # images that go through the network together
    batch_wait_ms: float = 3.0  # for the images of requests that are being decoded

    def validate(self) -> None:
        """ValueError, with the flag, for a limit that is out of range or contradicts another."""
        from kkanji_jax.glyphs.image_files import MAX_PAGE_PIXELS, MAX_PIXELS

        for field in fields(self):
            value, flag = getattr(self, field.name), f"--{field.name.replace('_', '-')}"
            least = 0 if field.name == "batch_wait_ms" else 1
            if not least <= value < float("inf"):
                raise ValueError(f"{flag} must be at least {least}, not {value}")
        for flag, value, most in (
            ("--max-pixels", self.max_pixels, MAX_PIXELS),
            ("--max-request-pixels", self.max_request_pixels, MAX_PAGE_PIXELS),
        ):
            if value > most:
                raise ValueError(f"{flag} must be at most {most:,}, not {value:,}")
        if self.max_queue < self.max_images:
            raise ValueError(
                f"--max-queue must be at least --max-images, {self.max_images}, not "
                f"{self.max_queue}: a whole request has to fit"
            )
        if self.max_held_bytes < self.max_bytes:
            raise ValueError(
                f"--max-held-bytes must be at least --max-bytes, {self.max_bytes:,}, not "
                f"{self.max_held_bytes:,}: a whole request has to fit"
            )


class Refusal(ValueError):
    """A request that is not answered with rows: an HTTP status, and one line that says why."""

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, line)
        self.status, self.line = status, " ".join(line.split())
        self.headers = dict(headers or {})


def too_busy(what: str) -> Refusal:
    """The refusal of a request that may be accepted a moment later."""
    return Refusal(429, f"too busy: {what}; try again in a second", {"Retry-After": "1"})
