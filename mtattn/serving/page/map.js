"use strict";
// Lay a map over a picture: orange is evidence for the attribute, blue against it, densest from limit on. Each cell has its
// value at its centre (fractions of the picture, as mtattn.models.map_centres gives them; none: the middles of equal
// rectangles), it is linear between and constant beyond, as mtattn.functional.draw_maps does it.
const FOR = [217, 115, 13], AGAINST = [47, 126, 216], SIDE = 160;

function drawMap(canvas, values, [height, width], limit, centres = null) {
  const even = (count) => Array.from({ length: count }, (_, index) => (index + 0.5) / count);
  const rows = neighbours(centres?.rows ?? even(height)), columns = neighbours(centres?.columns ?? even(width));
  [canvas.height, canvas.width] = [SIDE, SIDE];
  const pixels = new ImageData(SIDE, SIDE);
  rows.forEach(([above, below, down], y) => columns.forEach(([left, right, across], x) => {
    const along = (row) => (1 - across) * values[row * width + left] + across * values[row * width + right];
    const value = (1 - down) * along(above) + down * along(below);
    const opacity = 204 * Math.min(Math.abs(value) / limit, 1);
    pixels.data.set([...(value > 0 ? FOR : AGAINST), opacity], 4 * (y * SIDE + x));
  }));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// For each pixel: the cells before and behind it, and how near it is to the latter, from 0 to 1.
function neighbours(centres) {
  return Array.from({ length: SIDE }, (_, index) => {
    const at = (index + 0.5) / SIDE, next = centres.findIndex((centre) => centre > at);
    if (next === 0) return [0, 0, 0];
    if (next < 0) return [centres.length - 1, centres.length - 1, 0];
    return [next - 1, next, (at - centres[next - 1]) / (centres[next] - centres[next - 1])];
  });
}
