// viridis (van der Walt and Smith, 2015, CC0): equal steps of value look like equal steps of colour,
// also in grey and with colour-blind eyes.

const ANCHORS =
  "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725"
    .split(" ")
    .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

/** Red, green and blue of a share in [0, 1]. */
export function colour(share) {
  const place = Math.min(Math.max(share, 0), 1) * (ANCHORS.length - 1);
  const below = Math.min(Math.floor(place), ANCHORS.length - 2);
  const rest = place - below;
  return ANCHORS[below].map((value, i) => Math.round(value + rest * (ANCHORS[below + 1][i] - value)));
}

/** The scale as the background of a legend, painted on a canvas of any width. */
export function paintScale(canvas) {
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    context.fillStyle = `rgb(${colour(x / (canvas.width - 1))})`;
    context.fillRect(x, 0, 1, canvas.height);
  }
}
