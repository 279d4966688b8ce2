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
    columns = max(len(labelled), len(frames))
    sheet = Image.new('RGB', (columns * (CELL + GAP) + GAP, 3 * (CELL + GAP) + 2 * LABEL + GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    for column, (text, image) in enumerate(labelled):
        place(sheet, draw, font, image, column, LABEL, text)
    below = LABEL + CELL + GAP + LABEL
    for column, (driver, avatar) in enumerate(frames):
        place(sheet, draw, font, driver, column, below, 'driver, above the avatar' if column == 0 else '')
        place(sheet, draw, font, avatar, column, below + CELL + GAP, '')
    return np.asarray(sheet)


def place(sheet: Image.Image, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont, image: np.ndarray, column: int,
          top: int, text: str) -> None:
    """Put a picture into a cell, with a label above it."""
    left = GAP + column * (CELL + GAP)
    sheet.paste(Image.fromarray(fit(image, CELL, CELL)), (left, top))
    if text:
        draw.text((left, top - LABEL + 3), text, INK, font=font)
