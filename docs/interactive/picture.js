"use strict";
const MAX_BYTES = 10 * 2 ** 20, MAX_PIXELS = 40e6, MAX_SIDE = 2048, PRECISION = 22;

async function readPicture(blob) {
  if (blob.size === 0) throw new Error("The file is empty.");
  if (blob.size > MAX_BYTES) throw new Error("The file has more than 10 MB. Choose a smaller picture.");
  const picture = await createImageBitmap(blob).catch(() => {
    throw new Error("The file is not a picture that this browser can read.");
  });
  if (picture.width * picture.height > MAX_PIXELS)
    throw new Error("The picture has more than 40 million pixels. Choose a smaller one.");
  return picture;
}

// The model's input: squeezed to its size and normalised, as mtattn.data.image_transform does it.
function asInput(picture, { size: [height, width], mean, std }) {
  const { data } = resize(pixelsOf(picture), width, height);
  const values = new Float32Array(3 * height * width);
  for (let channel = 0; channel < 3; channel++)
    for (let at = 0; at < height * width; at++)
      values[channel * height * width + at] = (data[4 * at + channel] / 255 - mean[channel]) / std[channel];
  return { values, shape: [3, height, width] };
}

function pixelsOf(picture) {
  const [width, height] = [picture.naturalWidth ?? picture.width, picture.naturalHeight ?? picture.height];
  const shrink = Math.min(1, MAX_SIDE / Math.max(width, height)); // canvases have a limit, and phones a low one
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(shrink * width));
  canvas.height = Math.max(1, Math.round(shrink * height));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// Pillow's bilinear filter, on which the model was trained; a canvas filters otherwise.
function resize({ data, width, height }, newWidth, newHeight) {
  const narrow = filtered(data, height, shares(width, newWidth), [4 * width, 4], [4 * newWidth, 4]);
  const small = filtered(narrow, newWidth, shares(height, newHeight), [4, 4 * newWidth], [4, 4 * newWidth]);
  return { data: small, width: newWidth, height: newHeight };
}

function filtered(data, numLines, shares, [lineFrom, stepFrom], [lineTo, stepTo]) {
  const result = new Uint8ClampedArray(numLines * 4 * shares.length);
  for (let line = 0; line < numLines; line++)
    shares.forEach(({ first, weights }, index) => {
      for (let color = 0; color < 3; color++) {
        let sum = 1 << (PRECISION - 1);
        for (let tap = 0; tap < weights.length; tap++)
          sum += weights[tap] * data[line * lineFrom + (first + tap) * stepFrom + color];
        result[line * lineTo + index * stepTo + color] = sum >> PRECISION;
      }
    });
  return result;
}

// For each new pixel: the first old one that it takes from, and the weights of it and the next ones.
function shares(length, newLength) {
  const scale = length / newLength, support = Math.max(scale, 1);
  return Array.from({ length: newLength }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(length, Math.trunc(centre + support + 0.5));
    const near = Array.from({ length: end - first }, (_, tap) =>
      Math.max(0, 1 - Math.abs((first + tap - centre + 0.5) / support)));
    const total = near.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: near.map((weight) => Math.round((weight / total) * 2 ** PRECISION)) };
  });
}
