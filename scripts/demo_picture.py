"""Pictures of the demo: two frames side by side, and the contact sheet."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HEIGHT = 512  # px, of the clip
CELL, GAP, LABEL = 384, 8, 28  # px, of the sheet
PAPER, INK = (245, 245, 242), (40, 40, 40)


def fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale and centre-crop uint8 RGB [H, W, 3] to the given size."""
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    top, left = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
    return scaled[top:top + height, left:left + width]


def side_by_side(driver: np.ndarray, avatar: np.ndarray) -> np.ndarray:
    """Return driver and avatar at the same height, uint8 RGB; the width is even, as encoders want it."""
    width = 2 * round(driver.shape[1] * HEIGHT / driver.shape[0] / 2)
    return np.concatenate([fit(driver, HEIGHT, width), fit(avatar, HEIGHT, HEIGHT)], 1)


def contact_sheet(photo: np.ndarray, views: list[np.ndarray],
                  frames: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return photo and views in the first row, driving frames above their avatar frames below."""
    labelled = [('photo', photo), *zip(('avatar, yaw -30', 'avatar, yaw 0', 'avatar, yaw +30'), views, strict=True)]
    width = len(frames) * (CELL + GAP) + GAP
    large = (width - GAP) // len(labelled) - GAP
    below = LABEL + large + GAP + LABEL
    sheet = Image.new('RGB', (width, below + 2 * (CELL + GAP)), PAPER)
    for column, (text, image) in enumerate(labelled):
        place(sheet, image, (GAP + column * (large + GAP), LABEL), large, text)
    for column, (driver, avatar) in enumerate(frames):
        left = GAP + column * (CELL + GAP)
        place(sheet, driver, (left, below), CELL, 'driver, above the avatar' if column == 0 else '')
        place(sheet, avatar, (left, below + CELL + GAP), CELL, '')
    return np.asarray(sheet)


def place(sheet: Image.Image, image: np.ndarray, corner: tuple[int, int], side: int, text: str) -> None:
    """Put a picture into a square cell at `corner` (x, y), with a label above it."""
    sheet.paste(Image.fromarray(fit(image, side, side)), corner)
    if text:
        draw = ImageDraw.Draw(sheet)
        draw.text((corner[0], corner[1] - LABEL + 3), text, INK, font=ImageFont.load_default(20))
