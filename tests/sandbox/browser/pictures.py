"""Screenshots with a palette instead of full colours, which a page of text needs not: a third of the bytes."""

import base64
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

COLOURS_MAX = 32
SIGNATURE = b"\x89PNG\r\n\x1a\n"
COUNT_COLOURS = """async ([picture, most]) => {
  const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes]));
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const pixels = new Uint32Array(canvas.getImageData(0, 0, image.width, image.height).data.buffer);
  const counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) || 0) + 1);
  const parts = (colour) => [colour & 255, (colour >> 8) & 255, (colour >> 16) & 255];
  const apart = (one, other) => one.reduce((sum, part, i) => sum + (part - other[i]) ** 2, 0);
  // Each turn takes the colour that most pixels are worst off without.
  const left = [...counts].map(([colour, count]) => ({ colour, count, parts: parts(colour), far: Infinity, place: 0 }));
  const palette = [];
  while (palette.length < Math.min(most, left.length)) {
    const next = left.reduce((best, each) => (each.far * each.count > best.far * best.count
      || (each.far === Infinity && best.far === Infinity && each.count > best.count) ? each : best));
    palette.push(next.parts);
    for (const each of left) {
      const far = apart(each.parts, next.parts);
      if (far < each.far) Object.assign(each, { far, place: palette.length - 1 });
    }
  }
  const places = new Map(left.map((each) => [each.colour, each.place]));
  let text = "";
  for (const pixel of pixels) text += String.fromCharCode(places.get(pixel));
  return [image.width, image.height, palette.flat(), btoa(text)];
}"""


def shrunk(page: "Page", picture: bytes) -> bytes:
    """Return a PNG with few colours; the browser of `page` reads the pixels."""
    width, height, palette, places = page.evaluate(COUNT_COLOURS, [base64.b64encode(picture).decode(), COLOURS_MAX])
    rows = base64.b64decode(places)
    # Each row begins with a zero: it is written as it is.
    lines = b"".join(b"\0" + rows[at : at + width] for at in range(0, width * height, width))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    body = ((b"IHDR", header), (b"PLTE", bytes(palette)), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(_chunk(name, data) for name, data in body)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
